"""Training on the box: a cut connection neither hurts the job nor loses a line of its log."""

import os
import subprocess
import time
from types import SimpleNamespace

import pytest

from ops.box import remote_jobs


@pytest.mark.parametrize("systemd", ["running", "degraded", "offline", None])
def test_job_runs_as_systemd_unit_or_own_session(tmp_path, systemd):
    programs = tmp_path / "bin"
    programs.mkdir()
    fakes = {"sudo": 'shift; exec "$@"'}
    if systemd:
        fakes["systemctl"] = f"echo {systemd}; [ {systemd} = running ]"
        fakes["systemd-run"] = (
            f'printf "%s\\n" "$@" > {tmp_path}/asked; while [ "${{1#--}}" != "$1" ]; do shift; done; exec "$@"'
        )
    for name, body in fakes.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    log = tmp_path / "a log"
    words = remote_jobs.build_detached_command("printenv HOME", str(log), "job-1")
    env = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(tmp_path)}
    subprocess.run(["bash", "-c", words], env=env, check=True, timeout=20)
    deadline = time.monotonic() + 10
    while not (log.exists() and log.read_text()):
        assert time.monotonic() < deadline
    assert log.read_text() == f"{tmp_path}\n"
    asked = (tmp_path / "asked").read_text().splitlines() if (tmp_path / "asked").exists() else []
    assert bool(asked) == (systemd in ("running", "degraded"))
    if asked:
        assert not any("$" in word for word in asked)  # systemd would expand it
        assert {"--unit=job-1", "--collect", "--property=KillMode=mixed", f"--uid={os.getuid()}"} <= set(asked)


def test_running_job_reports_at_most_each_half_minute(tmp_path, monkeypatch):
    """Its status and log are in the bucket while the box cannot be reached."""
    from boxside import box_runner, spot_notice

    now, sent = [1000.0], []
    bucket = SimpleNamespace(upload_file=lambda path, bucket, key: sent.append(key))
    monkeypatch.setattr(box_runner.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(spot_notice, "read_interruption_time", lambda: "")
    request = {"bucket": "b", "output": "jobs/j/output/model.tar.gz", "checkpoints": "j"}
    (tmp_path / "log").write_text("epoch 1\n")
    job = box_runner.Job(tmp_path / "job.json", request, bucket, SimpleNamespace(requested=False))
    both = ["jobs/j/output/status.json", "jobs/j/output/log"]
    for state, seconds, expected in (
        ("Downloading", 0, both),
        ("", 10, []),
        ("Training", 10, both),
        ("", 29, []),
        ("", 10, both),
    ):
        if state:
            job.write_status(state)
        now[0] += seconds
        sent.clear()
        assert job.find_reason_to_end() == ""
        assert sent == expected, (state, seconds)
