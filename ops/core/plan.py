"""Plan, then apply: one generator of changes serves both the dry run, whose answers are Unknown, and the run, which calls AWS.

A plan is *sent* AWS's answer to each change, so that a later one can use an id from an earlier one. AWS's error is
*thrown into* it, so that it can move on to another zone, or undo. The dry run walks the same generator and so cannot drift.
A run walks it twice: what the preview raises, such as a refusal by the settings, stops the run before its first change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ops.core import interrupts, pricing
from ops.core.errors import AwsError, OpsError
from ops.core.output import announce_stack

if TYPE_CHECKING:
    from ops.core.aws.account import Account


# The first word of boto3's method tells what a call does; any other word adds something.
CHANGING = {"disable", "enable", "modify", "reboot", "replace", "set", "start", "stop", "tag", "update"}
REMOVING = {
    "abort",
    "cancel",
    "delete",
    "deregister",
    "detach",
    "disassociate",
    "remove",
    "revoke",
    "terminate",
    "untag",
}


@dataclass(frozen=True)
class Change:
    """One AWS call that changes something. `call` is boto3's method name; `danger` says what would be lost.

    `dollars_per_hour` is negative for what no longer costs; `dollars_at_most` is what a job with a time limit can cost in all.
    """

    service: str
    call: str
    args: dict[str, Any]
    why: str
    dollars_per_hour: float = 0.0
    danger: str = ""
    dollars_at_most: float = 0.0

    @property
    def sign(self) -> str:
        """Return + for a call that adds something, ~ for one that changes, - for one that removes."""
        verb = self.call.partition("_")[0]
        return "-" if verb in REMOVING else "~" if verb in CHANGING else "+"


@dataclass(frozen=True)
class Wait:
    """A wait that polls `until(account)`: a string is the current state; any other value ends the wait and is sent to the steps.

    An error that `until` raises ends the plan, except AwsError and WaitFailed, which are thrown into the steps.
    """

    what: str
    until: Callable[[Account], Any] = field(compare=False)
    why: str
    timeout_s: float = 1800.0


Step = Change | Wait
Steps = Generator[Step, Any, Any]


class WaitFailed(OpsError):
    """What a `Wait` waited for failed. It is thrown into the steps, as AWS's errors are, so that they can undo."""


class PlanError(Exception):
    """The plan made a decision on an unknown answer. That is a bug in the plan, so it keeps its traceback."""


class Unknown(str):
    """The answer to a call that was not made: it can be indexed, printed and passed on, but not compared or tested."""

    def __getitem__(self, key: Any) -> Unknown:
        return Unknown(f"<{key}>" if isinstance(key, str) else str(self))

    def _refuse_decision(self, *_: Any) -> Any:
        raise PlanError(
            f"the plan depends on {str.__str__(self)}, which is unknown before the call; read it as a fact first"
        )

    __iter__ = __bool__ = __len__ = __eq__ = __ne__ = __lt__ = __gt__ = __le__ = __ge__ = _refuse_decision
    __contains__ = __int__ = _refuse_decision
    __hash__ = str.__hash__


def walk_steps(steps: Steps, answer: Callable[[Step], Any]) -> Iterator[Step]:
    """Yield each step, then send its answer into the steps; AwsError and WaitFailed are thrown into them, and they may continue."""
    move: Callable[[Any], Step] = steps.send
    value: Any = None
    while True:
        try:
            step = move(value)
        except StopIteration:
            return
        yield step
        interrupts.check()
        try:
            move, value = steps.send, answer(step)
        except (AwsError, WaitFailed) as error:
            move, value = steps.throw, error


def preview(steps: Steps) -> list[Step]:
    """Return the steps as a dry run would take them."""
    return list(walk_steps(steps, lambda step: Unknown("<answer>")))


def retry_until_trusted(change: Change, not_yet: str, waits: Sequence[float]) -> Steps:
    """Yield the change, and repeat it after each error that contains `not_yet`: a new role takes seconds to reach other services."""
    for seconds in waits:
        try:
            return (yield change)
        except AwsError as error:
            if not error.says(not_yet):
                raise
        yield Wait("IAM", build_delay(seconds), why="a new role takes seconds to reach other services")
    return (yield change)


def build_delay(seconds: float) -> Callable[[Account], str | None]:
    until = time.monotonic() + seconds
    return lambda account: None if time.monotonic() > until else "the role is not everywhere yet"


def format_step(step: Step) -> str:
    if isinstance(step, Wait):
        return f". wait for {step.what}: {step.why}"
    sign = "-" if step.dollars_per_hour < 0 else ""
    price = f"  {sign}${format_dollars(abs(step.dollars_per_hour))}/h" if step.dollars_per_hour else ""
    danger = f"  [{step.danger}]" if step.danger else ""
    return f"{step.sign} {step.service}.{step.call}: {step.why}{price}{danger}"


def format_dollars(amount: float) -> str:
    """Return the amount with three decimals, or five below $0.0005: an alarm costs $0.00014 an hour. "?" is unknown."""
    return pricing.format_price(amount, 5 if 0 < amount < 0.0005 else 3)


def print_dry_run(planned: Sequence[Step], say: Callable[[str], None]) -> int:
    """Print what would be done and what it would cost, and change nothing; return the number of changes."""
    for step in planned:
        say(format_step(step))
    changes = [step for step in planned if isinstance(step, Change)]
    for line in describe_costs(changes):
        say(line)
    if changes:
        say(f"Plan: {count_by_kind(changes)}.")
    say(f"{len(changes)} to make; nothing was touched")
    return len(changes)


def count_by_kind(changes: Sequence[Change]) -> str:
    signs = [change.sign for change in changes]
    return f"{signs.count('+')} to add, {signs.count('~')} to change, {signs.count('-')} to remove"


def describe_costs(changes: Sequence[Change]) -> Iterator[str]:
    """Yield what the changes cost: by the hour what stays, in all a job that has a time limit."""
    jobs = [change for change in changes if change.dollars_at_most]
    hourly = sum(change.dollars_per_hour for change in changes if not change.dollars_at_most)
    if jobs:
        most = pricing.format_price(sum(job.dollars_at_most for job in jobs), 2)
        yield f"The job costs at most ${most} in all (list price; ops/core/pricing.toml)."
    if hourly or len(changes) > len(jobs) == 0:
        verb = "saves" if hourly < 0 else "adds"
        day = pricing.format_price(abs(hourly) * 24, 2)
        yield f"This {verb} ${format_dollars(abs(hourly))} an hour, ${day} a day (list price; ops/core/pricing.toml)."


def apply(steps: Callable[[], Steps], account: Account, say: Callable[[str], None]) -> int:
    """Walk the preview, then make the changes one by one; return how many were made. Each line is printed *before* its call.

    The stack's lease is held meanwhile. Nothing is changed when the preview raises an error. `steps` returns the plan from its
    start, from the same facts each time.
    """
    planned = preview(steps())
    if not planned:
        return 0
    announce_removals(planned, account)
    made = 0

    def answer(step: Step) -> Any:
        nonlocal made
        if isinstance(step, Wait):
            return account.wait(step)
        if step.sign == "-":
            account.lease.check()
        result = account.make_change(step)
        made += 1
        return result

    with account.lease.hold():
        for step in walk_steps(steps(), answer):
            say(format_step(step))
    return made


def announce_removals(planned: Sequence[Step], account: Account) -> None:
    """Print which stack, account and region this is about, before a plan that removes something and adds nothing."""
    signs = {step.sign for step in planned if isinstance(step, Change)}
    if "-" in signs and "+" not in signs:
        announce_stack(account.settings)
