"""What was created a minute ago or less: EC2, IAM and what asks them may not know it yet, as they are eventually consistent."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ops.core.errors import AwsError

NEW_S = 60.0
PAUSES_S = (
    0.5,
    1.0,
    2.0,
    4.0,
    8.0,
    8.0,
    8.0,
)  # half a minute in all: a name may also be unknown because another program deleted it
SERVICES = ("ec2", "iam")
CREATING, REMOVING = ("create", "run"), ("delete", "terminate")
NAMES = ("RoleName", "InstanceProfileName")
# Parts of `code: message`, of errors about a resource that the service does not know.
UNKNOWN = (
    ".NotFound",
    "NoSuchEntity",
    "Invalid IAM Instance Profile",
    "Invalid principal in policy",
    "Could not assume role",
)
LOG_BYTES = 1 << 16  # of the audit log's end: the lines of the last minute


class NewResources:
    """Ids, names and ARNs that AWS gave to this process, and roles that this machine's audit log says were created."""

    def __init__(self) -> None:
        self._created: dict[str, float] = {}
        self._lock = threading.Lock()

    def note(self, service: str, call: str, args: dict[str, Any], answer: Any) -> None:
        """Remember what a call that succeeded has created, and forget what it has deleted."""
        verb = call.partition("_")[0]
        if service not in SERVICES or verb not in (*CREATING, *REMOVING):
            return
        with self._lock:
            if verb in CREATING:
                self._created |= dict.fromkeys(walk_names(answer), time.monotonic())
                return
            gone = set(walk_texts(args))
            self._created = {name: since for name, since in self._created.items() if name not in gone}

    def find_named(self, args: dict[str, Any], audit: Path, message: str = "") -> str:
        """Return a new resource that the arguments name, also inside an ARN or a policy; "" when they name none.

        Of several it is one that AWS's `message` names too, if there is one.
        """
        now = time.monotonic()
        with self._lock:
            self._created = {name: since for name, since in self._created.items() if now - since < NEW_S}
            names = [*self._created, *read_new_roles(audit)]
        texts = " ".join(walk_texts(args))
        found = [name for name in names if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", texts)]
        return next((name for name in found if name in message), found[0] if found else "")


def is_unknown_resource(error: AwsError) -> bool:
    return error.says(*UNKNOWN)


def walk_names(answer: Any) -> Iterator[str]:
    """Yield the ids, ARNs and names of roles and instance profiles in an answer."""
    if isinstance(answer, dict):
        for key, value in answer.items():
            if isinstance(value, str) and (key in NAMES or key.endswith(("Id", "Arn"))):
                yield value
            elif key != "ResponseMetadata":
                yield from walk_names(value)
    elif isinstance(answer, list):
        for item in answer:
            yield from walk_names(item)


def walk_texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from walk_texts(item)
    elif isinstance(value, str):
        yield value


def read_new_roles(audit: Path) -> set[str]:
    """Return the roles and instance profiles that commands on this machine created in the last minute: iam.apply may have ended."""
    if not audit.exists():
        return set()
    with audit.open("rb") as log:
        log.seek(max(0, audit.stat().st_size - LOG_BYTES))
        lines = log.read().decode(errors="replace").splitlines()
    since = datetime.now(UTC) - timedelta(seconds=NEW_S)
    names: set[str] = set()
    for line in lines:
        try:
            entry = json.loads(line)
            is_new = entry["outcome"] == "done" and datetime.fromisoformat(entry["time"]) > since
            verb = entry["call"].removeprefix("iam.").partition("_")[0] if is_new else ""
            named = {str(entry["args"][name]) for name in NAMES if name in entry["args"]}
        except (ValueError, KeyError, TypeError):  # the first line is cut
            continue
        if verb in ("create", "delete"):
            names = names | named if verb == "create" else names - named
    return names
