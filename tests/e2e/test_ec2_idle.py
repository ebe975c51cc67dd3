"""An idle box stops itself; if its watchdog fails, the alarm stops it."""

import fcntl
import os
import socket
import subprocess
import sys
import time

import pytest
from boxside import idle_watchdog

from ops.box import facts
from ops.core.paths import ROOT


def state(cli):
    return facts.read(cli.account).state


def until(cli, wanted, seconds=60):
    deadline = time.monotonic() + seconds
    while state(cli) != wanted:
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_idle_box_stops_and_keeps_its_disk(make_stack):
    cli = make_stack("idle", "ec2: {idle_minutes: 0.1}\n")
    cli("iam.apply", "net.up", "ec2.up")
    cli("ec2.run", "echo mine > kept; sleep 8")  # longer than its limit: a connection is open
    assert state(cli) == "running"
    until(cli, "stopped")
    box = facts.read(cli.account).box
    assert box["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    said = cli("ec2.status")
    assert "it costs its disk only. Next: invoke ec2.start" in said.out
    assert "stopped" in cli("ec2.run", "true", ok=False).err
    cli("ec2.start")  # and it is armed again, as at every boot
    assert cli("ec2.run", "cat kept").out == "mine\n"
    until(cli, "stopped")


def test_running_job_keeps_the_box_up(make_stack):
    cli = make_stack("idlejob", "ec2: {idle_minutes: 0.1}\n")
    cli("iam.apply", "net.up", "ec2.up")
    cli("ec2.run", "setsid -f flock -x kennel/trainer.lock sleep 14 > /dev/null 2>&1 < /dev/null")
    time.sleep(11)
    assert state(cli) == "running"
    until(cli, "stopped")


def test_alarm_stops_the_box_when_the_watchdog_fails(make_stack, inject_fault):
    cli = make_stack("idlealarm", "ec2: {idle_minutes: 30}\n")
    cli("iam.apply", "net.up", "ec2.up")
    cli("ec2.run", "pkill -f '[i]dle_watchdog.py 30 .*/'$KENNEL_BOX/; true")
    inject_fault("clock", speed=600)
    try:
        until(cli, "stopped", 90)
    finally:
        inject_fault("clock", speed=1)
    assert facts.read(cli.account).box["StateReason"]["Code"] == "Client.UserInitiatedShutdown"


def test_watchdog_sees_open_connections(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not idle_watchdog.has_connection(port)
        with socket.create_connection(("127.0.0.1", port)):
            assert idle_watchdog.has_connection(port)


def test_watchdog_sees_a_trainer_by_its_lock(tmp_path):
    lock = tmp_path / "trainer.lock"
    assert not idle_watchdog.is_training(lock)
    with lock.open("w") as file:
        assert not idle_watchdog.is_training(lock)
        fcntl.flock(file, fcntl.LOCK_EX)
        assert idle_watchdog.is_training(lock)


@pytest.mark.parametrize("used", [True, False])
def test_watchdog_counts_short_commands(tmp_path, used):
    """Most commands are gone before the next look; so they leave a mark."""
    homes, programs = tmp_path / "home", tmp_path / "bin"
    (homes / "ubuntu" / "kennel").mkdir(parents=True)
    programs.mkdir()
    (programs / "shutdown").write_text(f"#!/bin/sh\ntouch {tmp_path}/off\n")
    (programs / "shutdown").chmod(0o755)
    env = os.environ | {"BOX_ROOT": str(tmp_path), "BOX_SSH_PORT": "9", "PATH": f"{programs}:{os.environ['PATH']}"}
    watchdog = subprocess.Popen(
        [sys.executable, str(ROOT / "training" / "boxside" / "idle_watchdog.py"), "0.05", str(homes)], env=env
    )
    deadline = time.monotonic() + 6
    while watchdog.poll() is None and time.monotonic() < deadline:
        if used:
            (homes / "ubuntu" / "kennel" / "used").touch()
        time.sleep(0.1)
    watchdog.kill()
    watchdog.wait()
    assert (tmp_path / "off").exists() is not used
