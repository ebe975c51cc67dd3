"""Faults by name: each becomes the control request that the sandbox takes, and slips of the fingers are answered."""

import pytest

from ops.core.errors import OpsError
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
        (["slow", "seconds=long"], "seconds is a number, not 'long'"),
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
    assert rows["slow"] == "[endpoint={endpoint}] seconds=..."
    assert rows["box"].startswith("instance=... [sshd] [keys]")
    assert rows["clear"] == ""


def test_sandbox_that_does_not_answer_is_a_sentence():
    gone = state.State(pid=1, started=0.0, port=9, tunnel_port=9, token="t")
    with pytest.raises(
        OpsError, match=r"^The sandbox does not answer: .*Start it again: invoke sandbox.down sandbox.up$"
    ):
        client.send_control_request(gone, "GET", "health")
