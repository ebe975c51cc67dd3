"""Completion at TAB: commands, flags, and values that files of this machine know. AWS is not called and no SDK is loaded.

Jobs and releases come from the audit log and the caches in .kennel: what was made or fetched from this checkout.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ops.core.errors import OpsError
from ops.core.paths import ROOT, WORK
from ops.core.settings_files import read_settings_file

READ_BYTES = 4_000_000  # of the end of the audit log
FILE_FLAGS = ("-f", "--config")


def complete(words: list[str], core: Any, contexts: Any, stack: Callable[[], str]) -> list[str]:
    """Return what may stand in place of the last word; nothing where a file may, which the shell completes itself.

    `words` follow the program's name. `core` holds Invoke's own flags, `contexts` the commands by name.
    """
    *before, current = [word for word in words if word != "="]  # bash splits --job=J at the sign
    flag, equals, value = current.partition("=")
    if equals and flag.startswith("--"):
        before, current = [*before, flag], value
    found = list_candidates(before, current, core, contexts, stack)
    prefix = f"{flag}=" if equals else ""
    return [f"{prefix}{one}" for one in found if one.startswith(current)]


def list_candidates(
    before: list[str], current: str, core: Any, contexts: Any, stack: Callable[[], str]
) -> Iterable[str]:
    at = next(
        (n for n in reversed(range(len(before))) if before[n] in contexts and not takes_value(core, before[:n])), None
    )
    context = contexts[before[at]] if at is not None else core
    given = before[at + 1 :] if at is not None else before
    last = given[-1] if given else ""
    if last in ("-h", "--help"):
        return sorted(contexts)
    if takes_value(context, given):
        return list_values(context, context.flags[last], stack)
    if takes_value(core, given):
        return []
    if current.startswith("-"):
        return [name for name in context.flag_names() if name.startswith("--") or current == "-"]
    argument = find_next_positional(context, core, given)
    if argument is None:
        return sorted(contexts)
    return list_values(context, argument, stack)


def takes_value(context: Any, given: list[str]) -> bool:
    """Return whether the last word is a flag whose value comes next."""
    return bool(given) and given[-1] in context.flags and context.flags[given[-1]].takes_value


def find_next_positional(context: Any, core: Any, given: list[str]) -> Any:
    """Return the positional argument that the next word is given to; None when there is none left."""
    free = [one for one in context.positional_args if not set(given) & {f"--{name}" for name in one.names}]
    for number, word in enumerate(given):
        is_value = any(takes_value(one, given[:number]) for one in (context, core))
        if free and not is_value and not word.startswith("-"):
            free.pop(0)
    return free[0] if free else None


def list_values(context: Any, argument: Any, stack: Callable[[], str]) -> list[str]:
    """Return the known values of an argument, by its name."""
    command = context.name or ""
    if argument.name == "page":
        return sorted(path.stem for path in (ROOT / "runbooks").glob("*.md") if path.stem != "README")
    if argument.name in ("role", "principal"):
        return sorted(path.parent.name for path in (ROOT / "iam_policies").glob("*/expect.toml"))
    if argument.name == "job":
        place = "box" if command.startswith("ec2.") else ""
        return list(dict.fromkeys(list_jobs(f"kennel-{stack()}-{place}")))
    if argument.name == "release" or (command, argument.name) == ("sm.rollback", "to"):
        return list(dict.fromkeys(list_releases(stack())))
    return []


def list_jobs(prefix: str) -> Iterator[str]:
    """Yield the names of jobs that begin with `prefix`, the newest first."""
    yield from find_in_audit(rf'"sagemaker\.create_training_job".*?"TrainingJobName": "({re.escape(prefix)}[\w-]+)"')
    folders = sorted((WORK / "models").glob(f"{prefix}*"), key=lambda path: path.name)
    yield from (path.name.rpartition("-")[0] for path in folders)  # ends with the model's tag


def list_releases(stack: str) -> Iterator[str]:
    """Yield the first digits of the releases that were deployed, the newest first."""
    yield from find_in_audit(rf'"sagemaker\.create_model".*?"ModelName": "kennel-{re.escape(stack)}-([0-9a-f]+)-')


def find_in_audit(pattern: str) -> list[str]:
    try:
        with (WORK / "audit.jsonl").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - READ_BYTES))
            text = log.read().decode(errors="replace")
    except OSError:
        return []
    return re.findall(pattern, text)[::-1]


def read_stack_name(words: list[str], default: str) -> str:
    """Return the stack that the typed command line is for, as far as files and variables tell."""
    file = next((words[n + 1] for n, word in enumerate(words[:-1]) if word in FILE_FLAGS), "")
    file = file or os.environ.get("INVOKE_RUNTIME_CONFIG", "")
    if named := os.environ.get("INVOKE_STACK_NAME"):
        return named
    if not file:
        return default
    try:
        return str(read_settings_file(file, {}).get("stack", {}).get("name", default))
    except (OpsError, OSError):
        return default
