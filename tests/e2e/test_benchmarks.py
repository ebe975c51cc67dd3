"""Every benchmark as it is typed, at toy size: the whole command, each of its stages, and one JSON object at the end.

How fast anything is says nothing at this size, so that no bound of time is held: that each check was evaluated is.
"""

import json
import re
import shutil
import subprocess
import sys

import pytest

from bench import data, iam, opponents, serve, servers, sync
from ops.core.errors import FAILED, FINDINGS, OpsError
from ops.core.paths import ROOT

# These serve one release, which takes ten seconds to make and is kept for the others.
serves_release = pytest.mark.xdist_group("benchmarks-release")
needs_opponents = pytest.mark.skipif(
    not (opponents.VENV / ".ready").exists(), reason=f"what this compares with is not installed: {opponents.INSTALL}"
)
needs_rsync = pytest.mark.skipif(
    not (shutil.which("rsync") and shutil.which("ssh")), reason=f"rsync or ssh is not installed: {sync.INSTALL}"
)


def run(name, *flags, env=None):
    """(exit code, stdout, stderr) of one benchmark as people type it."""
    argv = [sys.executable, "-m", "invoke", f"bench.{name}", *flags]
    done = subprocess.run(
        argv, cwd=ROOT, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=280
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def measure(name, *flags, checks):
    """The benchmark's object, with as many checks as there are patterns, each with a number and a bound."""
    code, out, err = run(name, *flags, "--json")
    assert code in (0, FAILED, FINDINGS), err
    found = json.loads(out)
    names = [check["name"] for check in found["checks"]]
    assert len(names) == len(checks), names
    for check, pattern in zip(found["checks"], checks, strict=True):
        assert re.search(pattern, check["name"]), (pattern, check["name"])
        assert isinstance(check["value"], int | float)
        assert check["bound"]
        assert check["ok"] in (True, False)
    assert found["pairs"]
    assert all(value > 0 for pair in found["pairs"] for value in pair)
    assert code == (0 if all(check["ok"] for check in found["checks"]) else FINDINGS if name == "iam" else FAILED)
    return found


@needs_opponents
def test_cli_benchmark_reports_its_checks():
    measure("cli", "--pairs", "1", checks=["--list against invoke --version", "aws --version against"])


@needs_opponents
def test_data_benchmark_reports_its_checks():
    found = measure(
        "data", "--files", "100", "--rounds", "1",
        checks=["all new at 1 Gbit/s", "all new at 100 Mbit/s", "nothing changed: data.push", "requests to S3"],
    )  # fmt: skip
    assert found["checks"][3]["ok"], found["checks"][3]
    for stage in ("new", "slow", "same"):
        assert found["seconds"][stage].keys() >= {"data.push", "aws s3 sync"}
    assert found["bytes"] > 100 * 80 * 80 * 3


@needs_rsync
def test_sync_benchmark_reports_its_checks():
    found = measure(
        "sync", "--files", "12", "--rounds", "1",
        checks=["all new: paramiko put", "all new: ours from connecting", "nothing changed: ours from connecting"],
    )  # fmt: skip
    assert found["seconds"]["all new"].keys() == {"ours", sync.INSIDE, "rsync", "tar", "put"}
    assert found["seconds"]["nothing changed"].keys() == {"ours", sync.INSIDE, "rsync"}


def test_interrupts_benchmark_reports_its_checks():
    """Four commands are interrupted and run again. How fast they end is not checked on a busy machine."""
    code, out, err = run("interrupts", "--presses", "4", "--seed", "1", "--json")
    assert code in (0, FAILED), err
    found = json.loads(out)
    assert [(one["command"], one["wrong"]) for one in found["presses"]] == [
        ("iam.apply", ""), ("data.up", ""), ("net.up", ""), ("ec2.up", ""),
    ]  # fmt: skip
    right, quick, hits = (check["ok"] for check in found["checks"])
    assert right
    assert hits
    assert code == (0 if quick else FAILED)


def test_train_benchmark_reports_its_checks():
    """On a CPU; a GPU has one check alone."""
    code, out, err = run("train", "--pairs", "1", "--pictures", "2", "--pixels", "32", "--json")
    assert code in (0, FAILED), err
    found = json.loads(out)
    names = [check["name"] for check in found["checks"]]
    passes = {name.partition(":")[0] for name in names if ": images per CPU-s" in name}
    assert len(names) == 3 * len(passes) + 2
    assert passes
    assert any("cached views" in name for name in names)
    assert "DDP" in names[-1]
    assert len(found["pairs"]) == 1


def test_resume_benchmark_finds_equal_weights():
    found = measure("resume", "--runs", "1", checks=["bit-equal"])
    assert found["checks"][0]["ok"]


@serves_release
@needs_opponents
def test_serve_benchmark_compares_all_servers():
    found = measure(
        "serve", "--arch", "resnet_tiny", "--pixels", "64", "--rounds", "1", "--seconds", "0.1", "--native",
        checks=["classify alike", "successes/s, serving/ against flask", "CPU second", "against LitServe", "p99 of successes", "p99 of refusals", "neither"],
    )  # fmt: skip
    assert found["checks"][0]["ok"], "the servers disagree"
    assert {cell["server"] for cell in found["cells"]} == {"serving/", "flask, gunicorn, torch", "LitServe, torch"}
    assert all(cell["rate"] > 0 and not cell["failed"] for cell in found["cells"] if cell["callers"] <= 8)


@serves_release
def test_fuzz_benchmark_passes_its_checks():
    """Attacks and 500 bodies do the server no harm: here the checks themselves hold."""
    found = measure(
        "fuzz", "--bodies", "500", "--pixels", "64",
        checks=[
            "endless header:", "endless headers:", "64 heads", "requests in a row", "byte a second", "idle connections", "odd chunks",
            "RGB:", "RGBA:", "I;16:", "progressive:", "65,500", "a column", "zTXt", "iTXt", "iCCP", "100 x 6 MB", "50 x 7 MB",
            "wrong answers", "slowest refusal", "slowest ping", "golden answers", "memory", "log lines",
        ],
    )  # fmt: skip
    attacks, bodies = found["checks"][:18], found["checks"][18:]
    assert all(check["ok"] for check in bodies), bodies
    assert all(check["value"] <= 350 for check in attacks), attacks  # pings may be late beside the other tests
    assert {"200", "400", "413", "415"} <= found["statuses"].keys() <= {"0", "200", "400", "413", "415"}
    assert found["bodies"] == 500


@needs_opponents
def test_iam_benchmark_compares_with_cloudsplaining():
    found = measure(
        "iam", "--roles", "200", "--rounds", "1", "--pairs", "1",
        checks=["audit of 200 roles, from", "median round", "CPU time", "whole process", "memory", "without equal", "cloudsplaining / ours", "^correct findings", "^incorrect findings"],
    )  # fmt: skip
    assert found["checks"][7]["ok"], "cloudsplaining finds what the audit does not"
    assert [(row["roles"], row["who"]) for row in found["rows"]] == [
        (200, "kennel"),
        (20, "kennel"),
        (20, "cloudsplaining"),
    ]


def test_rights_benchmark_replays_a_removed_action():
    """The job's first three steps, and once more without an action that one of them needs: it breaks where the record says."""
    page = ROOT / "docs" / "needed-actions.md"
    before = page.read_text()
    code, out, err = run("rights", "--steps", "3", "--replay", "1", "--seed", "1", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["steps"] == 3
    assert {use["why"] for use in found["uses"]} >= {"a run", "expect.toml"}
    (replayed,) = found["replays"]
    assert replayed["as_predicted"]
    assert replayed["broke"] == replayed["step"] == 2, "a removal of another step: take another seed"
    assert page.read_text() == before, "a part of the job says nothing of the page"


def test_crash_benchmark_makes_a_sample_of_trials():
    """Two trials with the pictures' workflows; the page needs all of them."""
    page = ROOT / "docs" / "reliability.md"
    before = page.read_text()
    code, out, err = run("crash", "--points", "2", "--seed", "17", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [row["workflow"] for row in found["rows"]] == ["data.up", "data.push"]
    assert sum(row["killed"] + row["lost"] + row["throttled"] for row in found["rows"]) == 2
    assert all(check["ok"] for check in found["checks"])
    assert len(found["checks"]) == 5
    assert page.read_text() == before


def test_benchmark_without_rsync_names_the_command(tmp_path):
    """A missing program is reported with the command that installs it."""
    code, out, err = run("sync", env={"PATH": str(tmp_path)})
    assert (code, out) == (FAILED, "")
    assert err.strip() == f"bench.sync needs rsync and OpenSSH's client. Install it: {sync.INSTALL}"


@pytest.mark.parametrize(
    ("bench", "words"),
    [
        (lambda: data.measure_push(1, 100), "bench.data needs the AWS CLI"),
        (lambda: serve.measure_serving(1, 0.1), "bench.serve needs flask, gunicorn and LitServe"),
        (lambda: iam.measure_audit(1, 1, 100, 0, ""), "bench.iam needs cloudsplaining"),
    ],
    ids=["data", "serve", "iam"],
)
def test_benchmark_without_opponents_names_the_command(bench, words, monkeypatch, tmp_path):
    """A benchmark without the tools it compares with says how to install them."""
    monkeypatch.setattr(opponents, "VENV", tmp_path)
    with pytest.raises(OpsError, match=f"^{words}. Install it: make .venv-bench/.ready$"):
        bench()


@serves_release
def test_server_that_fails_to_start_reports_why(tmp_path):
    made = servers.make_release("resnet_tiny", 64)
    with (
        pytest.raises(OpsError, match=r"serving/ does not start: .*incomplete or unreadable"),
        servers.start_server(servers.OURS, made / "opt", {}, tmp_path / "log"),
    ):
        pass
