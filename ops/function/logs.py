"""The function's log: what the handler prints, and Lambda's own lines about each call."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from ops.core.aws.account import Account, iterate_poll_intervals
from ops.core.errors import AwsError, OpsError
from ops.function.plan import log_group

FOLLOW_S = 5.0  # the longest pause between two looks
LATE_MS = 60_000  # a line can come this much later than newer lines of other environments
FAILURE = re.compile(r"error|exception|traceback|timed? ?out", re.I)


def read_log(account: Account, minutes: int, errors: bool, follow: bool = False) -> Iterator[tuple[str, str]]:
    """Yield (environment, line) of the last minutes; with `errors` only lines about failures; with `follow` without end.

    An environment is named after the version that it runs, such as [3]. Raises OpsError when the log group is missing.
    """
    since = int((time.time() - minutes * 60) * 1000)
    printed: dict[str, int] = {}
    for pause in iterate_poll_intervals():
        for event in read_events(account, since):
            line = event["message"].rstrip("\n")
            if event["eventId"] not in printed and (not errors or FAILURE.search(line)):
                yield event["logStreamName"].rsplit("/", 1)[-1], line
            printed[event["eventId"]] = event["timestamp"]
        if not follow:
            return
        since = max([since, *(at - LATE_MS for at in printed.values())])
        printed = {one: at for one, at in printed.items() if at >= since}
        time.sleep(min(pause, FOLLOW_S))


def read_events(account: Account, since_ms: int) -> list[dict[str, Any]]:
    args = {"logGroupName": log_group(account.settings), "startTime": since_ms}
    try:
        return account.list_all("logs", "filter_log_events", "events", **args)
    except AwsError as error:
        if not error.says("ResourceNotFound"):
            raise
        raise OpsError(f"The log group {args['logGroupName']} is missing. Create it: invoke lambda.deploy") from error
