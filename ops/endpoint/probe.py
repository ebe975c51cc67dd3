"""The live endpoint, asked: which release it is, what it answers, and proof that what was deployed is what answers."""

from __future__ import annotations

import json
import time
from typing import Any

from ops.core.aws.account import Account
from ops.core.errors import ROLLED_BACK, AwsError, OpsError
from ops.endpoint import plan
from ops.releases import build, golden
from ops.releases.build import Release

BUSY_S = (0.5, 1.0, 2.0, 4.0)


def prove(account: Account, want: plan.Wanted, before: str) -> None:
    """Success is the release's own answers to all its golden pictures. `before` is the config that was live. Raises OpsError,
    with AWS's reason after a roll-back."""
    found = account.call("sagemaker", "describe_endpoint", EndpointName=want.settings.endpoint_name)
    if found["EndpointConfigName"] not in (want.config, before):
        raise OpsError(
            f"{found['EndpointConfigName']} is live: somebody else deployed it meanwhile. See invoke sm.releases"
        )
    if found["EndpointConfigName"] != want.config:
        why = found.get("FailureReason", "no reason given")
        raise OpsError(
            f"Release {want.release.short} is not live: AWS went back to {found['EndpointConfigName']}: {why}\n"
            "Why: invoke sm.logs --errors",
            ROLLED_BACK,
        )
    if wrong := smoke(account, want.release):
        raise OpsError(
            f"{want.settings.endpoint_name} answers, but not as it should: {'; '.join(wrong[:3])}. Go back: invoke sm.rollback"
        )


def smoke(account: Account, release: Release) -> list[str]:
    """What is wrong with the endpoint's answers to a release's golden pictures."""
    pictures = golden.read(build.local(account, release).folder / "golden.npz")
    return golden.wrong(pictures, lambda picture: patiently(account, picture), release.digest)


def patiently(account: Account, picture: bytes) -> dict[str, Any]:
    """As `invoke`, but an endpoint that is busy is asked again for some seconds: it says nothing about the release."""
    for seconds in BUSY_S:
        try:
            return invoke(account, picture)
        except AwsError as error:
            if not error.says("error (503)", "Throttling"):
                raise
            time.sleep(seconds)
    return invoke(account, picture)


def short_of(account: Account, config: str) -> str:
    """The first digits of a release's digest, which a config's name carries."""
    return config.removeprefix(account.settings.prefix + "-").split("-")[0]


def about(account: Account, config: str) -> dict[str, Any] | None:
    """What is told about the release that a config's name carries; None when that is not kept, or not in one piece."""
    found = [digest for digest in build.digests(account) if digest.startswith(short_of(account, config))]
    return build.about(account, found[0]) if found else None


def release(account: Account) -> Release:
    """Raises OpsError when there is no endpoint."""
    return build.kept(account, short_of(account, existing(account)["EndpointConfigName"]))


def existing(account: Account) -> dict[str, Any]:
    """The endpoint as described. Raises OpsError when there is none."""
    found = plan.describe(account)
    if found is None:
        raise OpsError(f"There is no endpoint {account.settings.endpoint_name}. Deploy one: invoke sm.deploy")
    return found


def invoke(account: Account, picture: bytes) -> dict[str, Any]:
    """The endpoint's answer to one picture: release, best, classes, scores, probabilities. Raises Refused."""
    name = account.settings.endpoint_name
    answer = account.call(
        "sagemaker-runtime",
        "invoke_endpoint",
        retries="inference",
        EndpointName=name,
        Body=picture,
        ContentType="application/x-image",
    )
    return json.loads(answer["Body"].read())
