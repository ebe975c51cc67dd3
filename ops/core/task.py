"""Commands: the task decorator, the result, the confirmation, and the wording of errors from libraries."""

from __future__ import annotations

import errno
import functools
import gc
import io
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import invoke
from invoke.executor import Executor as InvokeExecutor

from ops.core import interrupts, running
from ops.core.errors import DECLINED, DENIED, INTERRUPTED, AwsError, OpsError
from ops.core.output import announce_stack, paint_states, say
from ops.core.paths import WORK
from ops.core.streams import end_on_lost_output
from ops.core.text import escape_control_characters

if TYPE_CHECKING:
    from ops.core import plan
    from ops.core.aws.account import Account

# They write where a person says, with that person's umask. All others write below .kennel, for its owner alone.
WRITE_ELSEWHERE = ("data.fetch", "data.pull", "data.split", "ec2.ami", "ec2.fetch", "sm.capacity")
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk itself, or what this user may write
MOST_NUMBER, MOST_SEED = 10_000_000, 2**32 - 1  # as minutes the first is 19 years; the second is NumPy's


P = ParamSpec("P")


@dataclass(frozen=True)
class Result:
    """The result of a command: `data` for --json, `text` for people, `code` for the shell, `changes` made in AWS."""

    data: Any
    text: str
    code: int = 0
    changes: int = 0


class Command(invoke.Task):  # type: ignore[type-arg]
    """An Invoke task that keeps its flags' help: Invoke's own hands it out once, and a second reader gets none.

    None has -f or -h of its own, since people write `-f aws.yaml` and `-h` after the command too.
    """

    def arg_opts(self, name: str, default: str, taken_names: set[str]) -> Any:
        return super().arg_opts(name, default, taken_names | {"f", "h"})

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> Any:
        kept = dict(self.help)
        try:
            return super().get_arguments(ignore_unknown_help)
        finally:
            self.help = kept


def task(**options: Any) -> Callable[[Callable[..., Result | None]], Any]:
    """Make an Invoke task of a function that returns a Result: its text is printed, or with the task's own --json its data."""

    def wrap(body: Callable[..., Result | None]) -> Any:
        command = derive_command_name(body)

        @functools.wraps(body)
        def run(c: invoke.Context, *args: Any, **kwargs: Any) -> Result | None:
            running.command, running.announced, running.changes = command, "", "json" not in kwargs
            running.run = os.urandom(4).hex()
            check_numbers(command, kwargs)
            with private_files(command):
                result = body(c, *args, **kwargs)
            if result is not None:
                print_result(result, as_json=bool(kwargs.get("json")))
                if result.code:
                    raise invoke.Exit(code=result.code)
            return result

        return invoke.task(run, klass=Command, **options)

    return wrap


def check_numbers(command: str, flags: dict[str, Any]) -> None:
    """Raise OpsError for a whole number that no command takes: below 0, or too large for the arithmetic that follows."""
    for name, value in flags.items():
        most = MOST_SEED if name == "seed" else MOST_NUMBER
        if isinstance(value, int) and not 0 <= value <= most:
            flag = name.replace("_", "-")
            raise OpsError(f"--{flag} takes a number from 0 to {most}, got {value}; see: invoke --help {command}")


@contextmanager
def private_files(command: str) -> Iterator[None]:
    """Let the command write files that other users of this machine cannot read, and close .kennel to them."""
    usual = os.umask(0o077)
    try:
        if command in WRITE_ELSEWHERE:
            os.umask(usual)
        if "KENNEL_WORK" not in os.environ:  # a folder that a person chose may have other uses
            close_to_others(WORK)
        yield
    finally:
        os.umask(usual)


def close_to_others(folder: Path) -> None:
    """Make a folder of an older Kennel private. One that is a link, or another user's, is left as it is."""
    if folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == os.geteuid():
        folder.chmod(0o700)


def derive_command_name(body: Callable[..., Any]) -> str:
    """Return the command name of a task of ops/commands: `sm.deploy` for `deploy` in sm_release.py."""
    namespace = body.__module__.rpartition(".")[2].partition("_")[0]
    return f"{namespace}.{body.__name__}" if namespace != body.__name__ else namespace


def print_result(result: Result, as_json: bool) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):  # in the C locale a letter that is not ASCII becomes ?
        sys.stdout.reconfigure(errors="replace")
    if as_json:
        import json

        print(json.dumps(result.data, indent=2, default=str))
    elif result.text:
        print(paint_states(escape_control_characters(result.text)))


def run_command(c: invoke.Context, command: str) -> Result:
    """Run one command in this process, parsed by Invoke as if it had been typed, with the settings of `c`.

    Raises invoke.Exit, or its subclass OpsError, when the command ends with another code than 0.
    """
    from invoke.parser import Parser

    assert running.collection is not None, "a command runs another one only while it runs itself"
    parsed = Parser(contexts=running.collection.to_contexts()).parse_argv(shlex.split(command))
    result: Result = next(iter(Executor(running.collection, config=c.config).execute(*parsed).values()))
    return result


def read_result(c: invoke.Context, command: str) -> Result:
    """Return the result of one command that reads, parsed as if it had been typed, whatever its exit code. Prints no result.

    Raises OpsError as the command does.
    """
    from invoke.parser import Parser

    assert running.collection is not None, "a command reads another one only while it runs itself"
    (parsed,) = Parser(contexts=running.collection.to_contexts()).parse_argv(shlex.split(command))
    body, before = running.collection[parsed.name].body, running.command
    running.command = derive_command_name(body)
    try:
        result: Result = body.__wrapped__(c, **parsed.as_kwargs)
    finally:
        running.command = before
    return result


def run_plan(
    c: invoke.Context, account: Account, steps: Callable[P, plan.Steps], *args: P.args, **kwargs: P.kwargs
) -> Result:
    """Apply the steps that `steps(*args, **kwargs)` yields, or print them under --dry. Every plan reaches AWS through here."""
    from ops.core import plan

    if c.config.run.dry:
        planned = plan.preview(steps(*args, **kwargs))
        plan.announce_removals(planned, account)
        return Result({"to_make": plan.print_dry_run(planned, say)}, "")
    made = plan.apply(functools.partial(steps, *args, **kwargs), account, say)
    return Result({"made": made}, f"{made} made", changes=made)


def request_confirmation(
    c: invoke.Context, account: Account, what: str, yes: bool = False, name: str = "", given: str = ""
) -> None:
    """Print the stack, and ask before something of it is lost. With `name`, that name must be typed, or `given` by --confirm.

    Raises OpsError with code 3 when declined, and with code 1 when there is no terminal to ask on.
    """
    announce_stack(account.settings)
    if c.config.run.dry or (yes and not name) or (name and given == name):
        return
    flag = f"--confirm {name}" if name else "--yes"
    if given:
        raise OpsError(f"--confirm says {given!r}, but this would be lost: {name!r}. Nothing was touched.")
    if not sys.stdin.isatty():
        raise OpsError(f"{what} Cannot ask for confirmation without a terminal; pass {flag}.")
    question = f"{what} Type {name!r} to go on: " if name else f"{what} Go on? [y/N] "
    try:
        asked = input(escape_control_characters(question))
    except EOFError:  # Ctrl-D
        asked = ""
    if asked.strip() != name if name else asked.strip().lower() not in ("y", "yes"):
        raise OpsError("Declined. Nothing was touched.", DECLINED)


class Executor(InvokeExecutor):
    """Invoke's executor (named in invoke.yaml), which words the errors of the libraries that commands use."""

    def execute(self, *tasks: Any) -> Any:
        gc.enable()  # tasks.py switched it off
        running.collection = self.collection
        mask_debug_output()
        try:
            with interrupts.handled(), end_on_lost_output():
                return super().execute(*tasks)
        except KeyboardInterrupt as error:
            raise OpsError(interrupts.SENTENCE, INTERRUPTED) from error
        except Exception as error:
            if interrupts.was_interrupted and getattr(error, "code", None) != INTERRUPTED:  # made of the interrupt
                raise OpsError(interrupts.SENTENCE, INTERRUPTED) from error
            explained = explain_error(error)
            if explained is error:
                raise
            raise explained from error


def mask_debug_output() -> None:
    """Mask keys in what --debug logs; without it there is no handler."""
    handlers = logging.getLogger().handlers
    if handlers:
        from ops.core.masking import mask_record

        for handler in handlers:
            handler.addFilter(mask_record)


def explain_error(error: Exception) -> Exception:
    """Return the error as a sentence with the next command, or itself where only a traceback helps."""
    if isinstance(error, AwsError):
        return add_cause_hint(error)
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return OpsError(f"A disk of this machine is full: {error}. Make room, then run the same command again")
    if isinstance(error, OSError) and error.filename is not None:
        return OpsError(
            f"Cannot use {os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename}: {error.strerror}. "
            "Correct that, then run the same command again."
        )
    if "iampolicy.errors" in sys.modules:
        from iampolicy.errors import InputError

        if isinstance(error, InputError):
            return OpsError(str(error))
    if "botocore.exceptions" not in sys.modules:
        return error
    from ops.core.aws.errors import explain_sdk_error

    explained = explain_sdk_error(error)
    return add_cause_hint(explained) if isinstance(explained, AwsError) else explained


def add_cause_hint(error: AwsError) -> OpsError:
    """Return a denial that names no command with the one that finds its cause. iam.explain ignores what is added here."""
    if error.code != DENIED or "invoke " in str(error):
        return error
    return OpsError(f"{str(error).rstrip('. ')}. Find out why: invoke runbook.show iam-denied", DENIED)
