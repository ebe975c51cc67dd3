"""The workflow for GitHub Actions: its permissions, its roles, and the commands that it runs."""

import json
import os
import re
import subprocess

import pytest
import yaml

import tasks
from ops.core.paths import ROOT

FILE = ROOT / ".github/workflows/kennel.yml"
WORKFLOW = yaml.load(FILE.read_text(), yaml.BaseLoader)  # SafeLoader takes `on` for true
JOBS = WORKFLOW["jobs"]
ROLES = {"plan": "ci", "apply": "ci-apply"}
CHANGING = {"iam.apply"}


def list_lines(job):
    """Return the shell lines of a job."""
    return [line for step in JOBS[job]["steps"] for line in step.get("run", "").splitlines()]


def list_commands(job):
    """Return (command, whether it is a dry run) of every invoke of a job."""
    found = []
    for line in list_lines(job):
        for words in re.findall(r"\binvoke ([^|&;>]+)", line):
            found += [
                (word, "--dry" in words.split()) for word in words.split() if re.fullmatch(r"[a-z]\w*\.[a-z-]+", word)
            ]
    return found


def test_workflow_runs_for_pull_requests_and_main():
    assert set(JOBS) == {"test", *ROLES}
    assert WORKFLOW["on"] == {"pull_request": "", "push": {"branches": ["main"]}}
    assert "github.event_name == 'pull_request'" in JOBS["plan"]["if"]
    assert "head.repo.full_name == github.repository" in JOBS["plan"]["if"]
    assert "github.event_name == 'push'" in JOBS["apply"]["if"]
    assert JOBS["apply"]["needs"] == "test"


def test_jobs_have_the_least_permissions():
    assert WORKFLOW["permissions"] == {}
    assert JOBS["test"]["permissions"] == {"contents": "read"}
    for job in ROLES:
        assert JOBS[job]["permissions"] == {"contents": "read", "id-token": "write"}
    checkouts = [s for job in JOBS.values() for s in job["steps"] if s.get("uses", "").startswith("actions/checkout@")]
    assert [step["with"]["persist-credentials"] for step in checkouts] == ["false"] * 3
    assert "secrets." not in FILE.read_text()


def test_actions_are_pinned_by_commit():
    used = re.findall(r"uses: (.+)", FILE.read_text())
    assert len(used) == 6
    assert [line for line in used if not re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []


@pytest.mark.parametrize(("job", "role"), ROLES.items())
def test_job_takes_the_role_that_trusts_it(settings, job, role):
    named = JOBS[job]["env"]["ROLE"]
    for name, value in (("ACCOUNT", settings.aws.account), ("STACK", settings.stack.name)):
        named = named.replace(f"${{{{ vars.KENNEL_{name} }}}}", value)
    assert named == settings.role_arn(role)
    trust = json.loads((ROOT / f"iam_policies/{role}/trust.json").read_text())
    (subject,) = (v for k, v in trust["Statement"][0]["Condition"]["StringEquals"].items() if k.endswith(":sub"))
    place = f"environment:{JOBS[job]['environment']}" if "environment" in JOBS[job] else "pull_request"
    assert subject == f"repo:${{repository}}:{place}"
    assert ".github/take-role" in list_lines(job)
    assert JOBS[job]["env"]["INVOKE_AWS_TAKE_ROLES"] == "false"


def test_commands_of_the_workflow_exist():
    commands = {job: list_commands(job) for job in ROLES}
    assert {name for found in commands.values() for name, _ in found} <= set(tasks.ns.task_names)
    assert ("iam.apply", True) in commands["plan"]
    assert [name for name, dry in commands["plan"] if name in CHANGING and not dry] == []
    assert ("iam.apply", False) in commands["apply"]
    assert list_lines("test") == ["make check test"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in ("check", "test"))


def test_shell_lines_hold_no_text_of_a_pull_request():
    """An expression in a shell line is pasted into it before the shell reads it."""
    assert [line for job in JOBS for line in list_lines(job) if "${{" in line] == []


def test_taken_role_is_a_profile_with_the_token(tmp_path):
    """The script asks GitHub for a token of AWS's audience, and writes the profile that aws.example.yaml names."""
    (tmp_path / "curl").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\necho \'{{"value": "a.b.c"}}\'\n')
    (tmp_path / "curl").chmod(0o755)
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "RUNNER_TEMP": str(tmp_path),
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "secret",
        "ACTIONS_ID_TOKEN_REQUEST_URL": "https://token.example/x?api-version=2.0",
        "ROLE": "arn:aws:iam::111122223333:role/kennel/prod/kennel-prod-ci",
        "REGION": "us-east-1",
    }
    done = subprocess.run([str(ROOT / ".github/take-role")], env=env, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
    assert "https://token.example/x?api-version=2.0&audience=sts.amazonaws.com" in (tmp_path / "asked").read_text()
    assert (tmp_path / "aws-token").read_text() == "a.b.c"
    assert (tmp_path / "aws-token").stat().st_mode & 0o077 == 0
    profile = yaml.safe_load((ROOT / "aws.example.yaml").read_text())["aws"]["profile"]
    assert (tmp_path / ".aws/config").read_text().splitlines() == [
        f"[profile {profile}]",
        "region = us-east-1",
        f"role_arn = {env['ROLE']}",
        f"web_identity_token_file = {tmp_path}/aws-token",
    ]
