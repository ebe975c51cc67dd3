"""How good the live endpoint is: asked about pictures whose truth is known, and compared with what it should be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ops.core.aws.account import Account
from ops.core.errors import FINDINGS, OpsError
from ops.core.output import say
from ops.core.task import Result
from ops.datasets import samples
from ops.endpoint import probe
from ops.releases import history

SIGMAS = 3.0  # of chance, that a sample may be off: one in 700 is, by chance alone


def evaluate(account: Account, count: int, seed: int) -> Result:
    """Exit 7 when it is worse than its own release was in training, or than the one before it was."""
    config = probe.existing(account)["EndpointConfigName"]
    if count < 1:
        raise OpsError(f"--live is a number of pictures, not {count}.")
    drawn = samples.draw(account, count, seed)
    if not drawn:
        raise OpsError("The test split has no pictures. Push some: invoke data.push --dir DIR")
    say(f"Asking {account.settings.endpoint_name} about {len(drawn)} test pictures ...")
    pictures = samples.unpack(account, {sample.shard for sample in drawn})
    answers = [
        {"picture": one.name, "truth": one.label, "answer": probe.invoke(account, pictures[one.name])["best"]}
        for one in drawn
    ]
    right = sum(one["truth"] == one["answer"] for one in answers)
    wrong = list(findings(right, len(drawn), account.settings.endpoint.worse_at_most, expected(account, config)))
    told = f"{right} of {len(drawn)} test pictures are right ({right / len(drawn):.4f}), by config {config}."
    data = {
        "config": config,
        "right": right,
        "pictures": len(drawn),
        "accuracy": right / len(drawn),
        "wrong": wrong,
        "answers": answers,
    }
    return Result(data, "\n".join([told, *wrong]), code=FINDINGS if wrong else 0)


def expected(account: Account, config: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the endpoint may be held to: (whose, about.json) of its own release, and of the one that was live before."""
    if own := probe.about(account, config):
        yield "its own release had", own
    before = history.before(history.read(account), config)
    if before and (other := probe.about(account, before["config"])):
        yield "the release before it had", other


def findings(right: int, count: int, margin: float, expected: Any) -> Iterator[str]:
    """A sentence for each figure that the sample falls below by more than the margin and what chance explains."""
    for whose, about in expected:
        accuracy = about["accuracy"]
        chance = SIGMAS * math.sqrt(accuracy * (1 - accuracy) / count)
        if right / count < accuracy - margin - chance:
            yield f"That is worse than the {accuracy:.4f} that {whose}. Go back: invoke sm.rollback"
