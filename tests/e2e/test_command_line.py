"""Commands as people type them: exit codes, what goes to stdout and what to stderr; and that tests/in_process.py says the same."""

import json
import os
import shlex
import subprocess

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
        (("sm.delete",), 1),  # asks, and there is no terminal
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
    "list on a full disk": ("{invoke} --list > /dev/full", {}, 1, "A disk of this machine is full"),
    "help on a full disk": ("{invoke} --help sm.train > /dev/full", {}, 1, "A disk of this machine is full"),
    "group on a full disk": ("{invoke} sm > /dev/full", {}, 1, "A disk of this machine is full"),
    "list that is closed": ("{invoke} --list | head -n 1", {}, 0, ""),
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
