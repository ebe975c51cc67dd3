"""Commands as people type them: exit codes, what goes to stdout and what to stderr; and that tests/in_process.py says the same."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ops.core.paths import ROOT
from tests.conftest import Cli, write_settings


@pytest.fixture(scope="module")
def cli(make_stack):
    made = make_stack("typed")
    made.typed("data.up")
    return made


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--list",), 0),
        (("--help", "ec2.up"), 0),
        (("net.my-adress",), 1),  # no such task
        (("iam.check", "--nonsense"), 1),  # no such flag
        (("runbook.show", "audt"), 1),
        (("data.list", "--json"), 1),
        (("data.check", "--dir", "no/such/folder"), 1),
        (("sm.delete",), 0),  # there is no endpoint
        (("--dry", "net.up"), 0),
        (("iam.diff",), 0),
        (("ec2.status",), 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_in_process_command_equals_a_typed_one(cli, words, code):
    """A command in the tests' process gives what one that was typed gives."""
    here, typed = cli(*words, ok=False), cli.typed(*words, ok=False)
    assert here == typed
    assert typed.code == code


def test_environment_and_folder_are_restored(cli, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    wrong = cli("ec2.status", ok=False, env={"INVOKE_EC2_WAY": "nonsense"})
    assert wrong.code == 1
    assert "ec2.way" in wrong.err
    assert dict(os.environ) == before
    assert tmp_path.samefile(".")


def test_unexpected_error_prints_a_traceback(cli, monkeypatch):
    monkeypatch.setattr("ops.commands.runbook.format_table", None)
    ran = cli("runbook.list", ok=False)
    assert ran.code == 1
    assert "TypeError: 'NoneType' object is not callable" in ran.err


def test_stopped_sandbox_is_reported_at_once(tmp_path):
    refused = Cli(write_settings(tmp_path / "x.yaml", tmp_path / "box", "nowhere")).typed("ec2.status", ok=False)
    assert refused.code == 1
    assert refused.out == ""
    assert "Is the sandbox running? To fix it: invoke sandbox.up" in refused.err


def test_stdout_holds_json_alone(cli):
    done = subprocess.run(cli.argv("runbook.list", "--json"), cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert len(json.loads(done.stdout)) > 5


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
SHELLS = {
    "group on a full disk": ("{invoke} sm > /dev/full", {}, 1, "A disk of this machine is full"),
    "locale without UTF-8": ("{invoke} runbook.show endpoint-5xx > /dev/null", ASCII, 0, ""),
    "stdout without UTF-8": ("{invoke} runbook.list > /dev/null", {"PYTHONIOENCODING": "ascii"}, 0, ""),
    "no home": ("env -u HOME {invoke} runbook.list > /dev/null", {}, 0, ""),
    "no folder for temporary files": ("{invoke} runbook.list > /dev/null", {"TMPDIR": "/nosuch"}, 0, ""),
    "no git, no ssh": ("{invoke} doctor > /dev/null", {"PATH": "/nosuch"}, 0, ""),
    "file for a work folder": ("{invoke} data.check --dir {pictures}", {"KENNEL_WORK": "{file}"}, 1, "Cannot use {file}/pictures"),
    "folder that cannot be made": ("{invoke} data.check --dir {pictures}", {"KENNEL_WORK": "/proc/x/y"}, 1, "Cannot use /proc/x"),
    "current folder deleted": ("cd {gone} && rmdir {gone} && {invoke} -r {root} runbook.list > /dev/null", {}, 0, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", SHELLS)
def test_what_a_machine_lacks_is_one_sentence(cli, tmp_path, pictures, name):
    """As people type it, in a shell: each answer is one line at most, after the progress, and never a traceback."""
    words, env, code, said = SHELLS[name]
    (tmp_path / "file").write_text("")
    (tmp_path / "gone").mkdir()
    paths = {"file": tmp_path / "file", "gone": tmp_path / "gone", "pictures": pictures, "root": ROOT}
    typed = words.format(invoke=shlex.join(cli.argv()), **paths)
    variables = {key: value.format(**paths) for key, value in env.items()}
    done = subprocess.run(
        typed,
        shell=True,
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Inspecting")]
    assert done.returncode == code, done.stderr
    assert (len(lines), said.format(**paths) in done.stderr) == (code, True)


@pytest.mark.parametrize(
    ("line", "codes", "unbuffered"),
    [
        ("{} >&-", (0,), ""),
        ("{} 2>&-", (0,), ""),
        ("{} <&- >&- 2>&-", (0,), ""),
        ("{} | true; exit ${{PIPESTATUS[0]}}", (0, 141), ""),  # 0: the reader ended after the last line
        ("{} | true; exit ${{PIPESTATUS[0]}}", (0, 141), "1"),
        ("{} >/dev/full", (1,), ""),
        ("{} >/dev/full", (1,), "1"),
    ],
)
def test_lost_output_is_no_traceback(line, codes, unbuffered):
    """What a task prints, and what Invoke prints before one."""
    env = os.environ | {"PYTHONUNBUFFERED": unbuffered, "INVOKE": f"{sys.executable} -m invoke"}
    for command in ("--list", "runbook.show endpoint-5xx"):
        shell = f"( {line.format(f'$INVOKE {command}')} )"
        done = subprocess.run(["bash", "-c", shell], cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.returncode in codes, command
        assert done.stderr == "" or "full" in line, command
        assert "full" not in line or re.fullmatch(r"A disk of this machine is full: \[Errno 28\] .*\n", done.stderr)


def test_closed_streams_are_not_given_to_files(tmp_path):
    """Without stdout and stderr, the next files opened would get their numbers, and what children print."""
    code = (
        "from ops.core import streams; streams.open_closed_streams(); import os, sys; file = open(sys.argv[1], 'w');"
        "os.write(1, b'lost'); os.write(2, b'lost'); print('lost'); print('lost', file=sys.stderr); file.write('kept')"
    )
    path = tmp_path / "file"
    argv = ["bash", "-c", '"$@" <&- >&- 2>&-', "bash", sys.executable, "-c", code, str(path)]
    assert subprocess.run(argv, cwd=ROOT).returncode == 0
    assert path.read_text() == "kept"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["runbook.show", "endpoint-5"], ["endpoint-5xx"]),
        (["iam.check", "--role", "aud"], ["auditor"]),
        (["runbook.show", "no such page"], [""]),
    ],
    ids=["page", "role", "nothing"],
)
def test_bash_completes_values(words, found):
    """The script in a real bash, as readline calls it; nothing slow is loaded."""
    quoted = shlex.join([str(Path(sys.executable).with_name("invoke")), *words])
    script = (
        f"source completions/kennel.bash; COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; "
        f"_complete_kennel {shlex.quote(quoted.split()[0])} {shlex.quote(words[-1])}; "
        "printf '%s\\n' \"${COMPREPLY[@]}\"; complete -p invoke"
    )
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [*found, "complete -o default -F _complete_kennel invoke"]


def test_completion_loads_nothing_slow():
    argv = [sys.executable, "-X", "importtime", "-m", "invoke", "--complete", "--", "invoke", "sm.report", ""]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert "ops.core.completion" in loaded
    assert not loaded & {"botocore", "boto3", "pydantic", "rich", "paramiko", "numpy", "ops.core.aws"}
