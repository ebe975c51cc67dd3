"""How commands talk: the task decorator, what is printed where, the questions asked, the wording of foreign errors."""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import invoke
from invoke.executor import Executor as InvokeExecutor

from ops.errors import DECLINED, INTERRUPTED, OpsError
from ops.escapes import printable

if TYPE_CHECKING:
    from ops import change
    from ops.aws import Account


NAMESPACES = {"fn": "lambda"}  # a word of Python's cannot name a module
step = ""  # the command that runs; every request to AWS carries it in its user agent, and so AWS's logs have it


@dataclass(frozen=True)
class Answer:
    """What a command found or did: `data` for --json, `text` for people, `code` for the shell."""

    data: Any
    text: str
    code: int = 0
    changes: int = 0


def task(**options: Any) -> Callable[[Callable[..., Answer | None]], Any]:
    """Invoke's task, whose Answer is printed: its text, or with the task's own --json flag its data."""

    def wrap(body: Callable[..., Answer | None]) -> Any:
        of = [*body.__module__.split("."), ""][1]
        named = f"{NAMESPACES.get(of, of)}.{options.get('name', body.__name__)}"

        @functools.wraps(body)
        def run(c: invoke.Context, *args: Any, **kwargs: Any) -> Answer | None:
            global step
            step = named
            answer = body(c, *args, **kwargs)
            if answer is not None:
                show(answer, as_json=bool(kwargs.get("json")))
                if answer.code:
                    raise invoke.Exit(code=answer.code)
            return answer

        return invoke.task(run, **options)

    return wrap


def show(answer: Answer, as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps(answer.data, indent=2, default=str))
    elif answer.text:
        print(printable(answer.text))


def say(text: str) -> None:
    """Progress, for people; results go to stdout."""
    print(printable(text), file=sys.stderr, flush=True)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar of `total` bytes for somebody who watches, a line for a log; what it gives is called with the bytes that came."""
    if not sys.stderr.isatty():
        say(f"{what}: {total / 1e6:.1f} MB ...")
        yield lambda more: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(what, total=total)
        yield lambda more: bars.update(bar, advance=more)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The rows as text: as wide as needed when nobody watches, fitted to the window when somebody does."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for row in rows:  # as Text, so that [brackets] are not taken for markup
        grid.add_row(*(Text(printable(str(cell))) for cell in row))
    width = None if sys.stdout.isatty() else 1000
    # Without colour there are no escapes of ours, and so none has to be let through to the terminal.
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as captured:
        console.print(grid)
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())


def carry_out(c: invoke.Context, account: Account, steps: change.Steps) -> Answer:
    """Apply the steps, or print them under --dry. The one road from a plan to AWS."""
    from ops import change

    if c.config.run.dry:
        count = change.dry_run(steps, say)
        return Answer({"to_make": count}, "")
    made = change.apply(steps, account, say)
    return Answer({"made": made}, f"{made} made", changes=made)


def confirm(c: invoke.Context, what: str, yes: bool = False, name: str = "", given: str = "") -> None:
    """Ask before something is lost. With `name`, that name must be typed, or `given` by --confirm.

    Raises OpsError with code 3 when declined, and with code 1 when there is nobody to ask.
    """
    if c.config.run.dry or (yes and not name) or (name and given == name):
        return
    flag = f"--confirm {name}" if name else "--yes"
    if given:
        raise OpsError(f"--confirm says {given!r}, but this would be lost: {name!r}. Nothing was touched.")
    if not sys.stdin.isatty():
        raise OpsError(f"{what} Nobody is here to agree: say {flag}.")
    asked = input(printable(f"{what} Type {name!r} to go on: " if name else f"{what} Go on? [y/N] "))
    if asked.strip() != name if name else asked.strip().lower() not in ("y", "yes"):
        raise OpsError("Declined. Nothing was touched.", DECLINED)


class Executor(InvokeExecutor):
    """Invoke's executor (named in invoke.yaml), with faults of other people's code put into words."""

    def execute(self, *tasks: Any) -> Any:
        try:
            done = super().execute(*tasks)
            sys.stdout.flush()
            return done
        except KeyboardInterrupt as error:
            raise OpsError(
                "Interrupted. Run the same command again: it goes on from what is there.", INTERRUPTED
            ) from error
        except BrokenPipeError as error:  # whoever read our output has had enough, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise invoke.Exit(code=128 + signal.SIGPIPE) from error
        except Exception as error:
            worded = translate(error)
            if worded is error:
                raise
            raise worded from error


def translate(error: Exception) -> Exception:
    """The error in a sentence with the next command, or itself where only a traceback helps."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return OpsError(f"A disk of this machine is full: {error}. Make room, then run the same command again")
    if "botocore.exceptions" not in sys.modules:
        return error
    from ops import aws

    return aws.worded(error)
