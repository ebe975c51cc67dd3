"""The function's log: what the handler prints, and Lambda's own lines about each call."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ops.core import log_events
from ops.core.aws.account import Account
from ops.function.plan import log_group

FAILURE = re.compile(r"error|exception|traceback|timed? ?out", re.I)


def read_log(account: Account, minutes: int, errors: bool, follow: bool = False) -> Iterator[tuple[str, str]]:
    """Yield (environment, line) of the last minutes; with `errors` only lines about failures; with `follow` without end.

    An environment is named after the version that it runs, such as [3]. Raises OpsError when the log group is missing.
    """
    group = log_group(account.settings)
    missing = f"The log group {group} is missing: it was deleted, or never created. Create it: invoke lambda.deploy"
    for environment, line in log_events.read_lines(account, group, minutes, follow, missing):
        if not errors or FAILURE.search(line):
            yield environment, line.rstrip("\n")
