"""The lines of a CloudWatch log group, once or followed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from ops.core.aws.account import Account, iterate_poll_intervals
from ops.core.errors import AwsError, OpsError

FOLLOW_S = 5.0  # the longest pause between two looks
LATE_MS = 60_000  # a line can come this much later than newer lines of other streams


def read_lines(account: Account, group: str, minutes: int, follow: bool, missing: str) -> Iterator[tuple[str, str]]:
    """Yield (last part of the stream's name, line) of the last minutes; with `follow` without end.

    Raises OpsError with the sentence `missing` when there is no such log group.
    """
    since = int((time.time() - minutes * 60) * 1000)
    printed: dict[str, int] = {}
    for pause in iterate_poll_intervals():
        for event in read_events(account, group, since, missing):
            if event["eventId"] not in printed:
                yield event["logStreamName"].rsplit("/", 1)[-1], event["message"]
            printed[event["eventId"]] = event["timestamp"]
        if not follow:
            return
        since = max([since, *(at - LATE_MS for at in printed.values())])
        printed = {one: at for one, at in printed.items() if at >= since}
        time.sleep(min(pause, FOLLOW_S))


def read_events(account: Account, group: str, since_ms: int, missing: str) -> list[dict[str, Any]]:
    try:
        return account.list_all("logs", "filter_log_events", "events", logGroupName=group, startTime=since_ms)
    except AwsError as error:
        if not error.says("ResourceNotFound"):
            raise
        raise OpsError(missing) from error
