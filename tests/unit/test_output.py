"""Plans and tables at the widths of terminals: the screens are those of tests/golden."""

import io
import re
import sys

import pytest

from ops.core import output
from ops.core.output import format_table, say
from ops.core.paths import ROOT
from ops.core.plan import Change, Wait, print_dry_run
from ops.core.task import Result, print_result

STATUS = (
    ("endpoint", "state", "instances", "release", "type", "$/h"),
    [("kennel-demo", "InService", "2 of 2", "kennel-demo-20260729-101500-3f9a1c", "ml.m5.large", "0.230")],
)
FINDINGS = (
    ("severity", "rule", "principal", "finding", "fix"),
    [
        ("high", "IAM-TRUST-1", "kennel-demo-ci-apply", "Any branch may assume it.", "Name the branch in its trust policy."),
        ("low", "IAM-UNUSED-2", "kennel-demo-auditor", "Unused for 90 days.", ""),
    ],
)  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self):
        return True


DOCTOR = (
    ("", "check", "found", "fix"),
    [
        ("ok", "python", "3.11.9", ""),
        ("FAILED", "credentials", "profile sandbox gives no keys", "invoke sandbox.up"),
    ],
)
PLAN = [
    Change("ec2", "create_vpc", {}, why="create the VPC, 10.20.0.0/16"),
    Change("sagemaker", "update_endpoint", {}, why="blue/green update kennel-demo-1 -> kennel-demo-2"),
    Wait("endpoint kennel-demo", lambda account: None, why="instances start"),
    Change("ec2", "terminate_instances", {}, why="terminate i-1", danger="its disk is deleted", dollars_per_hour=-0.5),
]


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}], ids=["colour", "plain"])
@pytest.mark.parametrize("width", [80, 140])
def test_plan_and_tables_are_as_the_screens_show(monkeypatch, width, env):
    """In the golden files, <green>, <yellow>, <red> and </> stand for the codes that a terminal gets."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in ({"TERM": "xterm", "COLUMNS": str(width)} | env).items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, terminal)
    print_dry_run(PLAN, say)
    for table in (STATUS, DOCTOR, FINDINGS):
        print_result(Result(None, "\n" + format_table(*table)), as_json=False)
    plain = re.sub(r"\x1b\[\d+m", "", terminal.getvalue())
    screen = terminal.getvalue().replace("\x1b[0m", "</>")
    for name, code in {"green": 32, "yellow": 33, "red": 31}.items():
        screen = screen.replace(f"\x1b[{code}m", f"<{name}>")
    golden = (ROOT / f"tests/golden/screen-{width}.txt").read_text(encoding="utf-8")
    assert screen == (re.sub("<(green|yellow|red|/)>", "", golden) if env else golden)
    assert max(map(len, plain.splitlines())) <= width


def test_a_state_inside_a_sentence_has_no_colour(monkeypatch):
    monkeypatch.setattr(output, "has_colour", lambda stream: True)
    assert output.paint_states("it is ok to go on: no error") == "it is ok to go on: no error"
    assert output.paint_states("a  ok") == "a  \x1b[32mok\x1b[0m"


@pytest.mark.parametrize("width", [1, 20, 40, 60, 80, 100, 120])
def test_no_width_cuts_a_word(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys, "stdout", Terminal())
    for columns, rows in (STATUS, FINDINGS):
        shown = format_table(columns, rows)
        assert "…" not in shown
        assert {word for row in rows for cell in row for word in cell.split()} <= set(shown.split())


def test_a_piped_table_has_one_line_a_row(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setenv("COLUMNS", "40")
    assert len(format_table(*FINDINGS).splitlines()) == 2 + len(FINDINGS[1])


def test_an_ascii_stdout_gets_other_letters_as_marks(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    print_result(Result(None, format_table(("class",), [("Gro\u00dfhund",)])), as_json=False)
    sys.stdout.flush()
    assert b"Gro?hund" in written.getvalue()


@pytest.mark.parametrize(
    ("stream", "env", "coloured"),
    [
        (Terminal, {}, True),
        (Terminal, {"NO_COLOR": "1"}, False),
        (Terminal, {"TERM": "dumb"}, False),
        (io.StringIO, {}, False),
    ],
)
def test_signs_have_colour_on_a_terminal_alone(monkeypatch, stream, env, coloured):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in ({"TERM": "xterm"} | env).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", stream())
    say("- iam.delete_role: gone")
    sign = "\x1b[31m-\x1b[0m" if coloured else "-"
    assert sys.stderr.getvalue() == f"{sign} iam.delete_role: gone\n"
