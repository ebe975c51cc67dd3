"""Runbooks: each page has its parts, each command on it parses, each task is written about, each link leads somewhere."""

from ops.core.paths import ROOT
from ops.incidents import runbooks
from tests.unit.test_runbooks import PAGES


def test_pages_are_listed_and_shown(make_stack):
    cli = make_stack("pages")
    incidents, planned = cli("runbook.list").out.split("\n\n")
    assert incidents.startswith("incident ")
    assert "box-unreachable" in incidents
    assert planned.startswith("planned work ")
    assert "push-data" in planned
    assert cli("runbook.show", "audit").out.startswith("# ")
    assert "Did you mean audit?" in cli("runbook.show", "audt", ok=False).err
    assert len(runbooks.list_pages()) == len(PAGES) - 1


def test_page_is_shown_ready_to_paste(make_stack):
    cli = make_stack("shown")
    shown = cli("runbook.show", "5xx").out
    assert shown.startswith("# The endpoint answers 5xx")
    assert f"$ invoke -f {cli.file} sm.status" in shown
    assert "$ invoke sm." not in shown  # nor inside a sentence
    assert "kind=" not in shown
    assert "signals:" not in shown
    assert shown.count("```console\n") == (ROOT / "runbooks" / "endpoint-5xx.md").read_text().count("```console")


def test_pages_are_found_by_part_of_name_and_by_words(make_stack):
    cli = make_stack("findpages")
    assert "Several runbooks match box" in cli("runbook.show", "box", ok=False).err
    assert "invoke runbook.find 'zzz yyy'" in cli("runbook.show", "zzz yyy", ok=False).err
    found = cli("runbook.find", "invocation5xxerrors").out
    assert "endpoint-5xx" in found
    assert "signal" in found
    assert "Next: invoke runbook.show endpoint-5xx" in found
    assert "endpoint-5xx" in cli("runbook.find", "no healthy instance").out  # the example of its help
    nothing = cli("runbook.find", "no such words anywhere", ok=False)
    assert nothing.code == 7
    assert "No runbook contains" in nothing.out


def test_fault_is_injected_by_name(make_stack):
    cli = make_stack("faulty")
    assert "interrupt-box" in cli("sandbox.fault", "list").out
    assert "There is no fault 'clok'. Did you mean clock?" in cli("sandbox.fault", "clok", ok=False).err
    assert "would inject fault clock" in cli("--dry", "sandbox.fault", "clock", "--set", "speed=2").err
    assert "The sandbox refused fault break" in cli("sandbox.fault", "break", ok=False).err
    try:
        cli(
            "sandbox.fault",
            "call",
            "--set",
            "operation=GetAccountSettings",
            "--set",
            "code=TooManyRequestsException",
            "--set",
            "times=50",
        )
        assert "TooManyRequests" in cli("lambda.concurrency", ok=False).err
    finally:
        assert "have ended: calls GetAccountSettings" in cli("sandbox.fault", "clear").out
    assert "There is no function" in cli("lambda.concurrency", ok=False).err
