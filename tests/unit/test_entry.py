"""What is said to wrong files, variables, commands and flags before a task runs."""

import os
import subprocess
import sys

import pytest

from ops.core import task
from ops.core.errors import OpsError
from ops.core.paths import ROOT
from ops.core.settings_environment import convert, read_environment
from ops.core.settings_files import read_settings_file, require_settings_file
from tests.in_process import run_invoke

KNOWN = {"stack": {"name": "demo"}, "train": {"epochs": 4, "weights": "none"}, "net": {"zones": ["a", "b"]}}


def run(*words, **env):
    return run_invoke(list(words), env)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"stack: [1\n", "line 2, column 1: expected ',' or ']'"),
        (b"stack:\n\tname: x\n", "line 2, column 1: a tab; YAML is indented with spaces"),
        (b"- a\n", "line 1, column 1: a settings file has sections"),
        (b"hello", "such as `stack: {name: demo}`, and not a text or a number"),
        (b'stack: {name: "\xe9"}\n', "line 1, column 16: not UTF-8 text; save the file as UTF-8"),
        (b"\x00\x01", "special characters are not allowed"),
        (b"stack:\n", "line 1, column 7: stack is a section, and is empty"),
        (b"stack: {name: a}\nstack: {name: b}\n", "line 2, column 1: stack stands twice, first in line 1"),
        (b"stack:\n  name: a\n  name: b\n", "line 3, column 3: stack.name stands twice, first in line 2"),
        (b"stack:\n  name: {x: 1}\n", "line 2, column 9: stack.name is a value, and not a section"),
        (b"train: {weights: !!python/object:os.system x}\n", "line 1, column 18: could not determine a constructor"),
    ],
)
def test_a_broken_settings_file_is_one_sentence(tmp_path, content, said):
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(OpsError) as refused:
        read_settings_file(str(file), KNOWN)
    assert said in str(refused.value)
    assert str(refused.value).startswith(str(file))
    assert "\n" not in str(refused.value)


def test_an_empty_settings_file_sets_nothing(tmp_path):
    (tmp_path / "mine.yaml").write_text("# nothing yet\n")
    assert read_settings_file(str(tmp_path / "mine.yaml"), KNOWN) == {}


def test_a_folder_is_no_settings_file(tmp_path):
    with pytest.raises(OpsError, match="is not a file"):
        require_settings_file(str(tmp_path))


@pytest.mark.parametrize("by_variable", [False, True])
def test_a_settings_file_that_is_missing_is_refused(by_variable):
    wrong = "aws.exmpl.yaml"
    ran = run("runbook.list", INVOKE_RUNTIME_CONFIG=wrong) if by_variable else run("-f", wrong, "runbook.list")
    said = "There is no settings file aws.exmpl.yaml; did you mean aws.example.yaml? Nothing was touched.\n"
    assert (ran.code, ran.out, ran.err) == (1, "", said)


def test_an_empty_runtime_config_is_refused():
    """A shell's variable that was never set must not send a command to another account."""
    ran = run("runbook.list", INVOKE_RUNTIME_CONFIG="")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "INVOKE_RUNTIME_CONFIG, or -f, is empty; name a settings file, or run: unset INVOKE_RUNTIME_CONFIG. "
        "Nothing was touched.\n"
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("STACK_NAM", "x", "INVOKE_STACK_NAM names no setting; did you mean INVOKE_STACK_NAME?"),
        ("STACK", "x", "INVOKE_STACK names no setting; did you mean INVOKE_STACK_NAME?"),
        ("TRAIN_EPOCHS", "abc", "INVOKE_TRAIN_EPOCHS takes a whole number, got 'abc'"),
        ("TRAIN_LR", "fast", "INVOKE_TRAIN_LR takes a number, got 'fast'"),
        ("AWS_TAKE_ROLES", "maybe", "INVOKE_AWS_TAKE_ROLES takes true or false, got 'maybe'"),
        ("NET_ZONES", "[a", "INVOKE_NET_ZONES takes a list, such as a,b or a JSON list"),
    ],
)
def test_a_wrong_variable_is_refused_in_one_line(name, value, said):
    ran = run("runbook.list", **{f"INVOKE_{name}": value})
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert said in ran.err


@pytest.mark.parametrize("text", ["us-east-1a, us-east-1b", '["us-east-1a", "us-east-1b"]'])
def test_a_list_can_come_from_the_environment(monkeypatch, text):
    monkeypatch.setenv("INVOKE_NET_ZONES", text)
    assert read_environment(KNOWN, {}, "") == {"net": {"zones": ["us-east-1a", "us-east-1b"]}}


def test_a_variable_against_the_file_is_refused(tmp_path):
    file = tmp_path / "prod.yaml"
    file.write_text("stack: {name: prod}\n")
    ran = run("-f", str(file), "net.down", "--yes", INVOKE_STACK_NAME="staging")
    assert ran.code == 1
    assert f"INVOKE_STACK_NAME=staging contradicts {file}, which sets stack.name to 'prod'." in ran.err
    assert run("-f", str(file), "runbook.list", INVOKE_STACK_NAME="prod").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sm.statu5"], "There is no command sm.statu5; did you mean sm.status?"),
        (["doktor"], "There is no command doktor; did you mean doctor?"),
        (["zzzzzz"], "There is no command zzzzzz; see: invoke --list"),
        (["sm.status", "--minuts", "3"], "sm.status has no flag --minuts; did you mean --minutes?"),
        (["sm.status", "--minutes", "abc"], "The flag --minutes takes a number, got 'abc'"),
        (["sm.status", "--minutes=abc"], "The flag --minutes takes a number, got 'abc'"),
        (["sm.invoke"], "Example: invoke sm.invoke PICTURE"),
    ],
)
def test_a_slip_is_answered_in_three_lines(words, said):
    ran = run(*words)
    assert (ran.code, ran.out) == (1, "")
    assert said in ran.err
    assert ran.err.count("\n") <= 3


def test_a_namespace_lists_its_commands():
    ran = run("net")
    assert (ran.code, ran.err) == (0, "")
    assert "net.up" in ran.out
    assert "sm." not in ran.out


def test_invoke_alone_names_ten_commands():
    ran = run()
    assert (ran.code, sum(line.startswith("  ") for line in ran.out.splitlines())) == (0, 10)


def test_an_error_of_a_file_names_its_path(tmp_path):
    (tmp_path / "work").write_text("")
    with pytest.raises(OSError) as failed:
        (tmp_path / "work" / "audit.jsonl").read_text()
    explained = str(task.explain_error(failed.value))
    assert explained.startswith(f"Cannot use {tmp_path}/work/audit.jsonl: Not a directory.")


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [
        ("null", 10, None),
        ("0.5", 30, 0.5),
        ("3", 0.5, 3.0),
        ("32,64", [16], [32, 64]),
        ("a, b", ["c"], ["a", "b"]),
        ("null", "text", "null"),
        ("7", None, 7),
    ],
)
def test_variable_has_the_type_that_its_setting_may_have(text, default, value):
    assert convert("INVOKE_X", text, default) == value


def test_proxy_reads_the_environment_as_commands_do():
    argv = [sys.executable, "-m", "ops.box.proxy"]
    env = os.environ | {"INVOKE_TRAIN_EPOCHS": "abc"}
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert done.stderr.startswith("The environment variable INVOKE_TRAIN_EPOCHS takes a whole number, got 'abc'.")
