"""Completion at TAB: commands, flags and values, by what files of this machine know."""

import json

import pytest
from invoke.program import Program

import tasks
from ops.core import completion

CORE = Program().initial_context
CONTEXTS = {context.name: context for context in tasks.ns.to_contexts()}
JOBS = ["kennel-demo-sm2-22222222", "kennel-demo-sm1-11111111"]
BOX = "kennel-demo-box1-33333333"


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    """An audit log of two stacks, and the cached models of two jobs."""
    rows = [
        ("demo", "create_training_job", {"TrainingJobName": JOBS[1]}),
        ("prod", "create_training_job", {"TrainingJobName": "kennel-prod-sm1-99999999"}),
        ("demo", "create_training_job", {"TrainingJobName": JOBS[0]}),
        ("demo", "create_model", {"ModelName": "kennel-demo-aaaaaaaaaaaa-8a2aaf"}),
        ("prod", "create_model", {"ModelName": "kennel-prod-bbbbbbbbbbbb-8a2aaf"}),
    ]
    lines = [json.dumps({"stack": stack, "call": f"sagemaker.{call}", "args": args}) for stack, call, args in rows]
    (tmp_path / "audit.jsonl").write_text("not JSON\n" + "\n".join(lines) + "\n")
    for job in (BOX, JOBS[0]):
        (tmp_path / "models" / f"{job}-0123456789ab").mkdir(parents=True)
    monkeypatch.setattr(completion, "WORK", tmp_path)


def complete(line: str, stack: str = "demo") -> list[str]:
    return completion.complete(line.split(" "), CORE, CONTEXTS, lambda: stack)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("runb", ["runbook.find", "runbook.list", "runbook.show"]),
        ("runbook.show endpoint-5", ["endpoint-5xx"]),
        ("runbook.show no-such", []),
        ("sm.report ", [*JOBS, BOX]),
        ("sm.report --open ", [*JOBS, BOX]),
        ("sm.report kennel-demo-sm2", [JOBS[0]]),
        ("sm.report --job kennel-demo-sm1", [JOBS[1]]),
        ("sm.report --job = kennel-demo-sm1", [JOBS[1]]),  # as bash splits it
        ("sm.report --job=kennel-demo-sm1", [f"--job={JOBS[1]}"]),  # as zsh does
        ("sm.logs --follow --job ", [*JOBS, BOX]),
        ("ec2.attach --job ", [BOX]),
        ("sm.rollback --to ", ["aaaaaaaaaaaa"]),
        ("sm.preflight --release a", ["aaaaaaaaaaaa"]),
        ("lambda.rollback --to ", []),  # a version
        ("iam.check --role op", ["operator", "operator-infra"]),
        ("iam.simulate oper", ["operator", "operator-infra"]),
        ("iam.simulate operator s3:", []),
        ("sm.invoke READ", []),  # a file: the shell's affair
        ("-f aws", []),
        ("sm.status -f aws", []),
        ("-f aws.yaml iam.check --role aud", ["auditor"]),
        ("--help sm.stat", ["sm.status"]),
        ("sm.status --wa", ["--watch"]),
        ("sm.status --json sm.rep", ["sm.report"]),
        ("--dr", ["--dry"]),
    ],
)
def test_candidates_are_those_of_the_place(line, found):
    assert complete(line) == found


def test_candidates_are_those_of_the_stack(tmp_path):
    assert complete("sm.report ", "prod") == ["kennel-prod-sm1-99999999"]
    assert complete("sm.rollback --to ", "prod") == ["bbbbbbbbbbbb"]
    (tmp_path / "audit.jsonl").unlink()
    assert complete("sm.report ", "prod") == []


def test_stack_comes_from_variable_file_or_default(tmp_path, monkeypatch):
    file = tmp_path / "prod.yaml"
    file.write_text("stack: {name: prod}\n")
    assert completion.read_stack_name(["sm.report", ""], "demo") == "demo"
    assert completion.read_stack_name(["-f", str(file), "sm.report", ""], "demo") == "prod"
    assert completion.read_stack_name(["-f", str(tmp_path / "none.yaml"), ""], "demo") == "demo"
    monkeypatch.setenv("INVOKE_RUNTIME_CONFIG", str(file))
    assert completion.read_stack_name(["sm.report", ""], "demo") == "prod"
    monkeypatch.setenv("INVOKE_STACK_NAME", "mine")
    assert completion.read_stack_name(["sm.report", ""], "demo") == "mine"
