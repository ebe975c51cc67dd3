"""What is said to wrong files, variables, commands and flags before a task runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.core import task
from ops.core.errors import OpsError
from ops.core.paths import ROOT
from ops.core.settings_environment import convert, read_environment
from ops.core.settings_files import read_settings_file, require_settings_file
from tests.in_process import run_invoke

KNOWN = {"stack": {"name": "demo"}, "train": {"epochs": 4, "weights": "none"}, "net": {"zones": ["a", "b"]}}

# Nine lines, each of which names the one before ten times: a billion values.
LAUGHS = b"a: &a [x]\n" + b"".join(b"%c: &%c [%s]\n" % (c + 1, c + 1, b"*%c," % c * 10) for c in range(97, 106))


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
        (b"\x00\x01", "line 1, column 1: '"),
        ("stack: {name: x}\n".encode("utf-16"), "line 1, column 1: not UTF-8 text"),
        ("stack: {name: x}\n".encode("utf-16-le"), "line 1, column 2: '"),
        (b"run:\n", "line 1, column 1: run is a section of Invoke, and no setting; remove it"),
        (b"train: {epochs: 2}\nrun: 3\n", "line 2, column 1: run is a section of Invoke"),
        (b"tasks: {executor_class: x}\n", "line 1, column 1: tasks is a section of Invoke"),
        (b"a: " + b"[" * 5000 + b"]" * 5000, "line 1, column 23: more than 20 levels"),
        (b"a: &a {b: *a}\n", "line 1, column 4: aliases make more than 20 levels"),
        (b"a: &a [*a]\n", "line 1, column 4: aliases make more than 20 levels"),
        (b"a: &a {<<: *a}\n", "line 1, column 4: aliases make more than 20 levels"),
        (LAUGHS, "line 1, column 8: aliases make more than 20000 values"),
        (b"train: {epochs: !!int ''}\n", "line 1, column 17: '' does not fit the type int"),
        (b"train: {flip: !!bool x}\n", "line 1, column 15: 'x' does not fit the type bool"),
        (b"train:\n  flip: 2001-13-45\n", "line 2, column 9: '2001-13-45' does not fit the type timestamp"),
        (b"train: {[a]: 1}\n", "line 1, column 9: the name of a setting is text, and not a list"),
        (b"1: {a: 1}\n", "line 1, column 1: the name of a setting is text; write it in quotes: '1'"),
        (b"net:\n  zones:\n  - {a: 1, a: 2}\n", "line 3, column 12: net.zones.0.a stands twice"),
        (b"stack: {}\n---\nstack: {}\n", "line 2, column 1: found another document"),
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
    check_refusal(file, said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"stack": {"name": }}', "line 1, column 20: expecting value"),
        (b"", "line 1, column 1: expecting value"),
        (b"[1]", "line 1, column 1: a settings file has sections"),
        (b'{"stack": null}', "line 1, column 11: stack is a section, and is empty"),
        (b'{\n\t"stack": {"name": "a", "name": "b"}\n}', "line 2, column 25: stack.name stands twice, first in line 2"),
        (b'{"a":' * 50_000, "line 1, column 97: more than 20 levels"),
        (b'{"train": {"epochs": ' + b"9" * 5000 + b"}}", "line 1, column 22: '999"),
    ],
)
def test_a_broken_json_file_is_one_sentence(tmp_path, content, said):
    file = tmp_path / "mine.json"
    file.write_bytes(content)
    check_refusal(file, said)


def check_refusal(file, said):
    with pytest.raises(OpsError) as refused:
        read_settings_file(str(file), KNOWN, closed=("run", "tasks"))
    assert said in str(refused.value)
    assert str(refused.value).startswith(str(file))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("name", "content"),
    [("bom.yaml", b"\xef\xbb\xbftrain: {lr: 0.0001}\r\n"), ("tabs.json", b'\xef\xbb\xbf{\n\t"train": {\t"lr": 1e-4}}')],
)
def test_marks_of_other_editors_are_read(tmp_path, name, content):
    """A byte order mark, line ends of Windows, and what JSON allows and YAML does not: tabs, and 1e-4 as a number."""
    (tmp_path / name).write_bytes(content)
    assert read_settings_file(str(tmp_path / name), KNOWN) == {"train": {"lr": 1e-4}}


def test_an_empty_settings_file_sets_nothing(tmp_path):
    (tmp_path / "mine.yaml").write_text("# nothing yet\n")
    assert read_settings_file(str(tmp_path / "mine.yaml"), KNOWN) == {}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "The name of the settings file is empty"),
        (".", "is not a file"),
        ("/dev/zero", "is not a file"),
        ("pipe.yaml", "is not a file"),
        ("big.yaml", "has 50 MB; a settings file has at most 1 MB"),
        ("mine.py", "is a program, and settings are not run; write them as YAML: invoke -f mine.yaml COMMAND"),
        ("mine.toml", "must end with .yaml, .yml or .json"),
        ("mine.yaml/x.yaml", "There is no settings file"),
        ("no/mine.yaml", "There is no settings file no/mine.yaml."),
        ("~nouser/mine.yaml", "There is no home folder for ~nouser/mine.yaml"),
        ("a" * 300 + ".yaml", "File name too long"),
        ("a\0b.yaml", "embedded null byte"),
    ],
    ids=["empty", "folder", "device", "pipe", "large", "python", "toml", "below a file", "no folder", "no user", "long", "nul"],
)  # fmt: skip
def test_what_is_no_settings_file_is_refused(tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    for file in ("mine.py", "mine.toml", "mine.yaml"):
        (tmp_path / file).write_text("")
    os.mkfifo("pipe.yaml")  # would wait for a writer
    with Path("big.yaml").open("wb") as big:
        big.truncate(50_000_000)
    with pytest.raises(OpsError) as refused:
        require_settings_file(name)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("by_variable", [False, True])
def test_settings_in_python_are_not_run(tmp_path, by_variable):
    program, ran_it = tmp_path / "mine.py", tmp_path / "ran"
    program.write_text(f"open({str(ran_it)!r}, 'w').close()\n")
    variable = {"INVOKE_RUNTIME_CONFIG": str(program)} if by_variable else {}
    done = run(*([] if by_variable else ["-f", str(program)]), "runbook.list", **variable)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert f"{program} is a program" in done.err
    assert not ran_it.exists()


def test_an_empty_variable_for_the_settings_file_is_refused():
    ran = run("runbook.list", INVOKE_RUNTIME_CONFIG="")
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert "or unset INVOKE_RUNTIME_CONFIG" in ran.err


def test_a_program_in_the_home_folder_is_refused(tmp_path):
    """Invoke runs ~/.invoke.py before it reads tasks.py, so no command can prevent that; but none goes on."""
    (tmp_path / ".invoke.py").write_text("stack = {'name': 'other'}\n")
    argv, env = [sys.executable, "-m", "invoke", "runbook.list"], os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"{tmp_path}/.invoke.py is a program" in done.stderr


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
        "The name of the settings file is empty. Name one, such as: invoke -f aws.yaml COMMAND; or unset INVOKE_RUNTIME_CONFIG. "
        "Nothing was touched.\n"
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("train_epochs", "3", "INVOKE_train_epochs names no setting; did you mean INVOKE_TRAIN_EPOCHS?"),
        ("NET_ZONES", "[" * 50_000, "INVOKE_NET_ZONES takes a list"),
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
