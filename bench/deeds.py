"""What an administrator, or chance, does between the commands of bench/job.py, so that they have something to do or to mend."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ops.aws import Account
from ops.iam.policies import dumped
from sandbox import state
from sandbox.tasks import ask

Deed = Callable[["Place"], None]
DEEDS: dict[str, Deed] = {}
ISSUER_AUDIENCE = "sts.amazonaws.com"


class Place:
    """One run's folder: its sandbox, its copy of the checkout, its settings; and the account as its administrator sees it."""

    def __init__(self, folder: Path, settings: Any) -> None:
        self.folder, self.settings = folder, settings
        self.checkout, self.sandbox = folder / "checkout", folder / "sandbox"

    @property
    def account(self) -> Account:
        return Account(self.settings, "", audit=self.folder / "audit.jsonl")

    def strike(self, what: str, **body: Any) -> dict[str, Any]:
        running = state.read(self.sandbox)
        assert running is not None
        return ask(running, "POST", what, body)


def deed(name: str) -> Callable[[Deed], Deed]:
    def wrap(done: Deed) -> Deed:
        DEEDS[name] = done
        return done

    return wrap


@deed("the box's type is gone")
def gone(place: Place) -> None:
    place.strike("capacity", instance_type=place.settings.ec2.instance_types[0])


@deed("all types are there")
def there(place: Place) -> None:
    place.strike("capacity", instance_type=place.settings.ec2.instance_types[0], short=False)


@deed("change what serves")
def serving(place: Place) -> None:
    with (place.checkout / "serving" / "Dockerfile").open("a") as file:
        file.write("# another image\n")


@deed("change the function's code")
def code(place: Place) -> None:
    with (place.checkout / "lambda" / "handler.py").open("a") as file:
        file.write("# other code\n")


@deed("tokens for the pipelines")
def tokens(place: Place) -> None:
    """As GitHub gives them: to a pull request, and to what deploys into the environment `production`."""
    repository, endpoint = place.settings.iam.repository, place.account.endpoint_url
    lines = []
    for role, subject in (("ci", "pull_request"), ("ci-apply", "environment:production")):
        claims = {"sub": f"repo:{repository}:{subject}", "aud": ISSUER_AUDIENCE}
        state.put(place.folder / "ci" / f"{role}.token", place.strike("token", **claims)["token"])
        lines += [
            f"[profile {role}]", f"role_arn = {place.settings.role_arn(role)}", f"endpoint_url = {endpoint}",
            f"web_identity_token_file = {place.folder / 'ci' / f'{role}.token'}", "region = us-east-1", "",
        ]  # fmt: skip
    state.put(place.folder / "ci" / "config", "\n".join(lines))
