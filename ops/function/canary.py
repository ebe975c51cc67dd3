"""A canary: a new version gets a share of the alias's calls first, and all of them only if none of those fails."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from ops.core import log_events, metrics
from ops.core.aws.account import Account
from ops.core.errors import ROLLED_BACK, AwsError, OpsError
from ops.core.plan import Change, Steps, Wait, WaitFailed

NO_CANARY: dict[str, Any] = {"AdditionalVersionWeights": {}}
MOST_PERCENT = 50
LATE_MINUTES = 2  # metrics arrive one or two minutes late
CALLS = {"calls": ("Invocations", "Sum"), "errors": ("Errors", "Sum")}


def check_share(percent: int, bake_s: int) -> None:
    """Raise OpsError for a share out of range, and for a canary that nothing watches."""
    if not 0 <= percent <= MOST_PERCENT:
        raise OpsError(
            f"--canary takes the percentage of the calls, from 1 to {MOST_PERCENT}, not {percent}. "
            "For example: invoke lambda.deploy --canary 10"
        )
    if percent and not bake_s:
        raise OpsError(
            "fn.bake_s is 0, so no one would watch the canary. Set it to 300 or more, or leave out --canary."
        )


def canary_steps(alias: dict[str, str], live: str, version: str, percent: int, bake_s: int) -> Steps:
    """Yield the share of the calls, the time in which they are watched, and the way back if one fails.

    `alias` is {"FunctionName", "Name"}. Raises OpsError after the way back.
    """
    weights = {"AdditionalVersionWeights": {version: percent / 100}}
    yield Change(
        "lambda",
        "update_alias",
        {**alias, "FunctionVersion": live, "RoutingConfig": weights},
        why=f"send {percent} % of the calls of alias {alias['Name']} to the new version",
    )
    watch = Watch(alias, version, bake_s)
    try:
        yield Wait("the canary", watch, why=f"watch the new version for {bake_s} s", timeout_s=bake_s + 600)
    except (AwsError, WaitFailed) as error:
        yield Change(
            "lambda",
            "update_alias",
            {**alias, "FunctionVersion": live, "RoutingConfig": NO_CANARY},
            why=f"send all calls to version {live} again",
        )
        raise OpsError(
            f"{error} Alias {alias['Name']} is back on version {live}. Find the cause: invoke lambda.logs --errors",
            ROLLED_BACK,
        ) from error


@dataclass
class Watch:
    """The watch over a version's calls: returns their count until the bake time is over, then None. Raises WaitFailed at an error."""

    alias: dict[str, str]
    version: str
    bake_s: int
    began: float | None = None

    def __call__(self, account: Account) -> str | None:
        if self.began is None:
            self.began = time.monotonic()
        minutes = self.bake_s // 60 + 1 + LATE_MINUTES
        calls, errors = self.count_calls(account, minutes)
        if errors:
            raise WaitFailed(f"{errors} of {calls} calls of version {self.version} ended in an error.")
        if failed := self.count_answers_500(account, minutes):
            raise WaitFailed(f"Version {self.version} answered {failed} times with 500.")
        return None if time.monotonic() - self.began > self.bake_s else f"{calls} calls, no error"

    def count_calls(self, account: Account, minutes: int) -> tuple[int, int]:
        """Return (calls by the alias that the version got, those that ended in a function error)."""
        where = {
            "FunctionName": self.alias["FunctionName"],
            "Resource": f"{self.alias['FunctionName']}:{self.alias['Name']}",
            "ExecutedVersion": self.version,
        }
        dimensions = [{"Name": name, "Value": value} for name, value in where.items()]
        found = metrics.read_minute_metrics(account, "AWS/Lambda", dimensions, CALLS, minutes)
        return round(sum(found["calls"].values())), round(sum(found["errors"].values()))

    def count_answers_500(self, account: Account, minutes: int) -> int:
        """Return how often the handler itself failed, and answered 500: it logs {"status"} of each answer."""
        group = f"/aws/lambda/{self.alias['FunctionName']}"
        lines = log_events.read_lines(account, group, minutes, False, f"The log group {group} is missing.")
        return sum(stream.startswith(f"[{self.version}]") and has_status_500(line) for stream, line in lines)


def has_status_500(line: str) -> bool:
    try:
        return bool(json.loads(line)["status"] == 500)
    except (ValueError, KeyError, TypeError):
        return False
