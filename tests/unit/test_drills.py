"""Faults by name: each becomes the control request that the sandbox takes, and slips of the fingers are answered."""

import pytest

from ops.core.errors import OpsError
from ops.core.paths import ROOT
from sandbox import client, drills, state


def build(name, *given):
    return drills.build_request(name, given, "kennel-demo")


def test_fault_becomes_a_control_request():
    assert build("slow", "seconds=0.3") == ("slow", {"endpoint": "kennel-demo", "seconds": 0.3})
    assert build("hang", "hang=false", "endpoint=other") == ("hang", {"endpoint": "other", "hang": False})
    assert build("call", "operation=CreateRole", "times=2") == (
        "fault",
        {"operation": "CreateRole", "do": "error", "times": 2},
    )
    assert build("freeze", "job=j") == ("freeze", {"job": "j", "host": 1})
    assert build("clear") == ("faults/clear", {})
    assert build("box", "instance=i-1", "keys=false") == ("box", {"instance": "i-1", "keys": False})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["slwo"], "There is no fault 'slwo'. Did you mean slow?"),
        (["slow"], "Fault slow needs seconds: invoke sandbox.fault slow --set seconds=VALUE"),
        (["slow", "second=1"], "has no parameter 'second'. Did you mean seconds?"),
        (["slow", "seconds"], "seconds needs a value: --set seconds=VALUE"),
        (["slow", "seconds="], "seconds needs a value: --set seconds=VALUE"),
        (["slow", "seconds=long"], "seconds is a number from 0 to 3600, not 'long'"),
        (["slow", "seconds=-1"], "seconds is a number from 0 to 3600, not -1.0"),
        (["slow", "seconds=nan"], "seconds is a number from 0 to 3600, not nan"),
        (["slow", "seconds=1e300"], "seconds is a number from 0 to 3600, not 1e+300"),
        (["clock", "speed=0"], "speed is a number from 0.01 to 10000, not 0.0"),
        (["clock", "speed=-2"], "speed is a number from 0.01 to 10000, not -2.0"),
        (["clock", "speed=inf"], "speed is a number from 0.01 to 10000, not inf"),
        (["call", "operation=CreateRole", "times=0"], "times is a whole number from 1 to 1000000, not 0"),
        (["call", "operation=CreateRole", "times=1.5"], "times is a whole number from 1 to 1000000, not '1.5'"),
        (["call", "operation=CreateRole", "status=200"], "status is a whole number from 400 to 599, not 200"),
        (["call", "operation=CreateRole", "do=explode"], "do is error or delay or lost, not 'explode'"),
        (["box", "instance=i-1", "sshd=off"], "sshd is up or down or mute, not 'off'"),
        (["box", "instance=i-1", "disk_mib=-5"], "disk_mib is a whole number from 1 to 67108864, not -5"),
        (["freeze", "job=j", "host=0"], "host is a whole number from 1 to 100, not 0"),
        (["age", "role=r", "days=1e9"], "days is a number from 0 to 36500, not 1000000000.0"),
        (["hang", "hang=yes"], "hang is true or false, not 'yes'"),
        (["clear", "all=true"], "Parameters: none"),
    ],
)
def test_mistyped_fault_gets_an_answer(words, message):
    with pytest.raises(OpsError) as refused:
        build(*words)
    assert message in str(refused.value)


def test_list_names_each_fault_with_its_parameters():
    rows = {name: parameters for name, parameters, _ in drills.list_faults()}
    assert rows["slow"] == "[endpoint=..., {endpoint}] seconds=0..3600"
    assert rows["clock"] == "speed=0.01..10000"
    assert rows["box"].startswith("instance=... [sshd=up|down|mute] [keys=true|false] [checks=ok|impaired]")
    assert "[do=error|delay|lost, error] [times=1..1000000, 1]" in rows["call"]
    assert rows["clear"] == ""


def test_each_fault_and_its_values_are_in_the_readme():
    text = (ROOT / "sandbox" / "README.md").read_text()
    table = text[text.index("## Faults for tests") :]
    for name, fault in drills.FAULTS.items():
        row = next((line for line in table.splitlines() if line.startswith(f"| `{name}` |")), "")
        assert row, name
        for parameter, one in fault.parameters.items():
            assert f"`{parameter}" in row, (name, parameter)
            assert one.kind is not str or not one.values or "|".join(one.values).replace("|", "\\|") in row


def test_clear_says_what_has_ended_and_what_has_not():
    said = drills.describe_injected("clear", {"calls": ["CreateRole"], "capacity": []})
    assert said.startswith("Faults of calls and of capacity have ended: calls CreateRole, capacity none. ")
    assert drills.describe_injected("slow", {"lag_s": 0.0}).startswith("Fault slow has ended")
    assert "Fault slow is set" in drills.describe_injected("slow", {"lag_s": 3.0})
    assert "To end it: invoke sandbox.fault slow --set seconds=0" in drills.describe_injected("slow", {"lag_s": 3.0})


def test_control_request_is_checked_like_a_command():
    assert drills.find_body_error("clock", {"speed": 0}) == "speed is a number from 0.01 to 10000, not 0."
    assert drills.find_body_error("fault", {"operation": "CreateRole", "times": 2}) == ""
    assert drills.find_body_error("hang", {"hang": "no"}) == "hang is true or false, not 'no'."
    assert drills.find_body_error("token", {"sub": "x"}) == ""
    assert drills.find_body_error("interrupt", {"job": "j"}) == ""
    assert drills.find_body_error("slow", {"seconds": 1}) == "slow needs endpoint."


def test_sandbox_that_does_not_answer_is_a_sentence():
    gone = state.State(pid=1, started=0.0, port=9, tunnel_port=9, token="t")
    with pytest.raises(
        OpsError, match=r"^The sandbox does not answer: .*Start it again: invoke sandbox.down sandbox.up$"
    ):
        client.send_control_request(gone, "GET", "health")
