"""Training on the box: a cut connection neither hurts the job nor loses a line of its log."""

import os
import subprocess
import time

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
