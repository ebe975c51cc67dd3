"""Follow and watch: what is printed, how it ends; the newest job in place of a name."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from invoke.parser import Parser

import tasks
from ops.core import log_events, output
from ops.core.aws.account import Account
from ops.core.errors import INTERRUPTED, OpsError
from ops.core.settings import Settings
from ops.endpoint import status
from ops.jobs import follow, training_jobs
from tests.conftest import settings_of
from tests.in_process import run_invoke

SETTINGS = settings_of()
CONTEXTS = tasks.ns.to_contexts()


@dataclass
class FakeAccount:
    """An account whose answers are given by call."""

    answers: dict[str, Callable[..., Any]] = field(default_factory=dict)
    settings: Settings = SETTINGS

    def call(self, service: str, call: str, **args: Any) -> Any:
        return self.answers[call](**args)

    call_or_none = list_all = lambda self, service, call, key, **args: self.answers[call](**args)


def seen(state: str = "InService", **more: Any) -> status.Status:
    row = {
        "endpoint": "kennel-demo", "status": state, "config": "c1", "instances": 1, "desired": 2, "instance_type": "ml.m5.large",
        "requests": 7, "errors_5xx": 0, "minutes": 15, "dollars_per_hour": 0.1, "dollars_so_far": 0.2, "expires": "", "since": "",
        "in_state_minutes": 3,
    }  # fmt: skip
    return status.Status(**(row | more))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Sleeps end at once; the tenth is Ctrl-C."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 10:
            raise KeyboardInterrupt

    for module in (status, follow):
        monkeypatch.setattr(module.time, "sleep", sleep)
    return slept


def offline(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Callable[..., Any]] | None = None) -> None:
    monkeypatch.setattr(Account, "from_context", classmethod(lambda cls, c, role="": FakeAccount(answers or {})))


def test_watched_status_is_one_line_for_each_change(monkeypatch, impatient):
    states = iter([seen(), seen(requests=9), seen("Updating"), *[seen("Updating", requests=n) for n in range(20)]])
    monkeypatch.setattr(status, "read_status", lambda account, minutes: (next(states), ""))
    offline(monkeypatch)
    ran = run_invoke(["sm.status", "--watch"], {})
    assert [line.split("  ")[2] for line in ran.out.splitlines()] == ["InService", "Updating"]
    assert (ran.code, ran.err) == (INTERRUPTED, "Stopped watching kennel-demo; it goes on.\n")


def test_watch_and_json_exclude_each_other():
    ran = run_invoke(["sm.status", "--watch", "--json"], {})
    assert (ran.code, ran.out, "Give either --watch or --json" in ran.err) == (1, "", True)


def event(number: int, message: str, at: int = 0) -> dict[str, Any]:
    return {
        "eventId": str(number),
        "logStreamName": "AllTraffic/i-1",
        "message": message,
        "timestamp": at or int(time.time() * 1000) + number,
    }


def test_followed_endpoint_log_prints_each_line_once(monkeypatch, impatient):
    pages = [[event(1, "a")], [event(1, "a"), event(3, "c")], [event(1, "a"), event(2, "late"), event(3, "c")]]
    answers = {
        "filter_log_events": lambda **args: pages[min(len(impatient), 2)],
        "describe_endpoint": lambda **args: {},
    }
    offline(monkeypatch, answers)
    ran = run_invoke(["sm.logs", "--follow"], {})
    assert ran.out.splitlines() == ["i-1  a", "i-1  c", "i-1  late"]
    assert ran.code == INTERRUPTED
    assert ran.err.count("\n") == 1
    assert "Follow it again: invoke sm.logs --follow" in ran.err


def test_followed_log_asks_for_new_lines_only(impatient):
    asked = []
    newest = 10_000_000_000_000

    def answer(logGroupName: str, startTime: int) -> list[dict[str, Any]]:
        asked.append(startTime)
        return [event(1, "a", at=newest)]

    account = FakeAccount({"filter_log_events": answer, "describe_endpoint": lambda **args: {}})
    with pytest.raises(KeyboardInterrupt):
        list(status.read_log(account, 15, errors=False, follow=True))
    assert asked[1:] == [newest - log_events.LATE_MS] * 9


def test_followed_job_log_ends_with_the_job(monkeypatch, impatient):
    states = iter(["InProgress", "InProgress", "Completed"])
    monkeypatch.setattr(follow, "describe_existing", lambda account, job: {"TrainingJobStatus": next(states)})
    lines = iter([{"J/algo-1-17": ["one"]}, {}, {"J/algo-1-17": ["two"]}])
    monkeypatch.setattr(follow.Tail, "read_new", lambda self: next(lines))
    assert list(follow.read_log(FakeAccount(), "J", follow=True)) == [("algo-1", "one"), ("algo-1", "two")]
    assert len(impatient) == 2


def test_left_job_is_one_sentence(monkeypatch, impatient):
    described = {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Training"}
    monkeypatch.setattr(follow.Tail, "print_new", lambda self: None)
    with pytest.raises(OpsError) as left:
        follow.follow_training_job(FakeAccount({"describe_training_job": lambda **args: described}), "J")
    assert str(left.value) == "J keeps running. Follow it: invoke sm.attach J   Stop it: invoke sm.stop J"
    assert left.value.code == INTERRUPTED


def jobs(*found: tuple[str, str, int]) -> FakeAccount:
    rows = [
        {"TrainingJobName": name, "TrainingJobStatus": state, "CreationTime": datetime(2026, 1, day, tzinfo=UTC)}
        for name, state, day in found
    ]
    return FakeAccount({"list_training_jobs": lambda **args: {"TrainingJobSummaries": rows}})


def test_newest_job_is_taken_and_named(capsys):
    account = jobs(
        ("kennel-demo-sm1-aa", "Completed", 1),
        ("kennel-demo-sm2-bb", "Failed", 3),
        ("kennel-demo-sm1-cc", "Completed", 2),
        ("kennel-demo-tune-1-001", "Completed", 5),
        ("my-kennel-demo-sm1-dd", "Completed", 6),
    )
    assert training_jobs.name_job(account, "") == "kennel-demo-sm2-bb"
    assert capsys.readouterr().err == "The newest job is kennel-demo-sm2-bb (Failed, 2026-01-03 00:00 UTC).\n"
    assert training_jobs.name_job(account, "", "Completed") == "kennel-demo-sm1-cc"
    assert training_jobs.name_job(account, "given", "Completed") == "given"
    with pytest.raises(OpsError, match="The stack demo has no stopped training job. Start one: invoke sm.train"):
        training_jobs.name_job(account, "", "Stopped")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["sm.report"], [("sm.report", "")]),
        (["sm.report", "J"], [("sm.report", "J")]),
        (["sm.report", "--open", "J"], [("sm.report", "J")]),
        (["sm.report", "--job", "J"], [("sm.report", "J")]),
        (["sm.report", "sm.explain", "J"], [("sm.report", ""), ("sm.explain", "J")]),
        (["sm.logs", "--job"], [("sm.logs", True)]),
        (["sm.logs", "--job", "--follow"], [("sm.logs", True)]),
        (["sm.logs", "--job", "J"], [("sm.logs", "J")]),
    ],
)
def test_job_may_be_left_out(words, found):
    parsed = Parser(contexts=CONTEXTS).parse_argv(words)
    assert [(context.name, context.args["job"].value) for context in parsed] == found


class Terminal:
    """A stream that says it is a terminal, and keeps what is written."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return True


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Called by a test itself: pytest replaces the streams after the fixtures."""
    made = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(f"sys.{name}", made)
    return made


def test_wait_shows_elapsed_time_on_a_terminal(monkeypatch):
    terminal = open_terminal(monkeypatch)
    clock = iter(range(1000))
    monkeypatch.setattr(output.time, "monotonic", lambda: float(next(clock)))
    with output.show_elapsed("kennel-demo") as show_state:
        show_state("Creating")
        show_state("Creating")
        show_state("InService")
    assert "\x1b[2K" in terminal.text  # the live line, cleared
    lines = [line for line in terminal.text.splitlines() if "Creating (" in line]
    assert lines
    assert "  kennel-demo: InService (" in terminal.text.splitlines()[-1]


def test_wait_is_a_line_for_each_state_in_a_pipe(capsys):
    with output.show_elapsed("kennel-demo") as show_state:
        for state in ("Creating", "Creating", "InService"):
            show_state(state)
    assert capsys.readouterr().err == "  kennel-demo: Creating (0 s)\n  kennel-demo: InService (0 s)\n"


def test_work_shows_elapsed_time_on_a_terminal_alone(monkeypatch, capsys):
    with output.show_work("Packaging"):
        pass
    assert capsys.readouterr().err == "Packaging ...\n"
    terminal = open_terminal(monkeypatch)
    with output.show_work("Packaging"):
        pass
    assert "  Packaging (0 s)" in terminal.text
    assert terminal.text.endswith("Packaging: 0 s\n")


def test_watch_draws_over_the_frame_before(monkeypatch):
    terminal = open_terminal(monkeypatch)
    output.show_changes([("first", "1"), ("second\x1b[31m", "2")])
    assert "first" in terminal.text
    assert "second\\x1b[31m" in terminal.text
    assert "\x1b[1A" in terminal.text  # back up to the first line
