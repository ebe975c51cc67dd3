"""Trials: a command is killed, or loses an answer; it is run again, and the account compared with that of an uninterrupted run."""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ops.core.aws.account import Account
from ops.core.paths import WORK
from tests.conftest import HOME, settings_of, write_settings
from tests.crash.faulty_calls import Fault, Run, run_forked
from tests.crash.inventory import Inventory, compare

UNHURT = Fault()


@dataclass
class Place:
    """A stack on a sandbox in `folder`. `control` sends a request to the sandbox: control("iam/remove", stack=...)."""

    folder: Path
    stack: str
    control: Callable[..., Any]

    def write_settings(self, more: str = "") -> Path:
        path = self.folder.parent / f"{self.stack}-{abs(hash(more))}.yaml"
        return write_settings(path, self.folder, self.stack, more)

    @cached_property
    def account(self) -> Account:
        """The account, as its administrator."""
        return Account(settings_of(self.write_settings()))

    @property
    def names(self) -> dict[str, str]:
        """What a command line may name: the stack's prefix, the archive of a removed role, a release, the training job that runs."""
        prefix = self.account.settings.prefix
        removed = sorted((WORK / "iam" / self.stack / "removed").glob("*.json"))
        first = hashlib.sha256(f"{prefix}-sm1-one".encode()).hexdigest()[:12]
        return {
            "prefix": prefix,
            "removed": str(removed[-1]) if removed else "",
            "first": first,
            "job": self.newest_job,
        }

    @property
    def newest_job(self) -> str:
        """The training job that runs, or the last one that ended."""
        found = self.account.list_all("sagemaker", "list_training_jobs", "TrainingJobSummaries")
        found.sort(key=lambda one: (one["TrainingJobStatus"] == "InProgress", one["CreationTime"]))
        return str(found[-1]["TrainingJobName"]) if found else ""

    def rename(self, stack: str) -> None:
        """Go on with another stack."""
        self.stack = stack
        self.__dict__.pop("account", None)

    @property
    def inventory(self) -> Inventory:
        return Inventory(self.account)


@dataclass(frozen=True)
class Workflow:
    """One command that changes something. `sections` are those of the inventory that it may change.

    `prepare` brings the stack to where the command begins, unless the workflow before it has; `replace` is called in the process
    of the command, and puts stand-ins in the place of what would be trained or built. An `alone` one is prepared from anything. Of a
    `long` one only each third answer is lost, and it is killed before its first call only: before another it is as after the one before.
    """

    words: str
    sections: str
    settings: str = ""
    prepare: Callable[[Place], None] = lambda place: None
    replace: Callable[[], None] | None = None
    name: str = ""
    alone: bool = False
    long: bool = False

    @property
    def title(self) -> str:
        return self.name or self.words

    def run(self, place: Place, fault: Fault = UNHURT) -> Run:
        words = self.words.format(home=HOME, **place.names).split()
        return run_forked(["-f", str(place.write_settings(self.settings)), *words], {}, fault, self.replace)


@dataclass(frozen=True)
class Outcome:
    """Of one trial: `stopped` says how the hurt run ended when it should have gone on; `wrong` is "" when all is as it should be."""

    workflow: str
    fault: Fault
    stopped: str = ""
    wrong: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Reference:
    """An uninterrupted run, and the account after it."""

    run: Run
    after: list[str]


@dataclass
class Ring:
    """Workflows that follow each other; after the last one the stack is where the first begins."""

    name: str
    workflows: Sequence[Workflow]
    setup: Callable[[Place], None] = lambda place: None
    references: dict[str, Reference] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)

    def measure(self, place: Place) -> Iterator[Outcome]:
        """Run each workflow once, unhurt; yield what is wrong with that already."""
        self.setup(place)
        for workflow in self.workflows:
            workflow.prepare(place)
            run = workflow.run(place)
            self.references[workflow.title] = Reference(run, place.inventory.read(workflow.sections))
            wrong = describe_end(run) if run.code else check_rest(workflow, place)
            if wrong:
                yield Outcome(workflow.title, UNHURT, wrong=f"unhurt: {wrong}")

    def list_faults(self) -> dict[str, list[Fault]]:
        """Return the faults of each workflow."""
        return {
            workflow.title: list(iterate_faults(len(self.references[workflow.title].run.calls), workflow.long))
            for workflow in self.workflows
        }

    def run_rounds(self, place: Place, faults: dict[str, list[Fault]]) -> Iterator[Outcome]:
        """Go round until each workflow had all its faults; one that has no more runs unhurt."""
        left = {title: list(some) for title, some in faults.items()}
        while any(left.values()):
            for workflow in self.workflows:
                some = left.get(workflow.title)
                if workflow.alone and not some:
                    continue
                workflow.prepare(place)
                if some:
                    yield self.try_fault(workflow, place, some.pop(0))
                else:
                    workflow.run(place)

    def try_fault(self, workflow: Workflow, place: Place, fault: Fault) -> Outcome:
        reference = self.references[workflow.title]
        first = workflow.run(place, fault)
        stopped = describe_end(first) if first.code and not fault.kill else ""
        wrong = ""
        if first.code:
            again = workflow.run(place)
            wrong = f"run again: {describe_end(again)}" if again.code else ""
        if difference := compare(reference.after, place.inventory.read(workflow.sections)):
            wrong = wrong or f"differs: {' | '.join(difference)[:1500]}"
        return Outcome(workflow.title, fault, stopped, wrong or check_rest(workflow, place), first.seconds)


def check_rest(workflow: Workflow, place: Place) -> str:
    """Run the workflow when there is nothing left to do; return what it changed, or why it failed."""
    rest = workflow.run(place)
    if rest.changes:
        return f"a further run changes: {', '.join(rest.changes[:8])}"
    return f"a further run: {describe_end(rest)}" if rest.code else ""


def describe_end(run: Run) -> str:
    return f"exit {run.code}: {run.said.strip()[-700:]}"


def iterate_faults(calls: int, is_long: bool) -> Iterator[Fault]:
    for index in range(calls):
        if not is_long or index == 0:
            yield Fault(index, kill="before")
        yield Fault(index, kill="after")
        if not is_long or index % 3 == 0:
            yield Fault(index, lost=True)
    yield from (Fault(throttled=0.3, seed=seed) for seed in (1, 2) if calls)


def draw_faults(faults: dict[str, list[Fault]], count: int, seed: int) -> dict[str, list[Fault]]:
    """Return `count` of the faults, drawn by the seed."""
    whole = [(title, fault) for title, some in faults.items() for fault in some]
    chosen = random.Random(seed).sample(whole, min(count, len(whole)))
    return {title: [fault for name, fault in chosen if name == title] for title in faults}
