"""The idle watchdog shuts an idle box down. It runs as root from boot on: `python3 idle_watchdog.py MINUTES HOMES`.

A box is in use while a trainer holds its lock, an SSH connection is open, or a command of ops/box has touched its `used`
file (most commands end between two checks). ops/box/user_data.py puts this file unchanged into the instance's user data,
so it is one small file that needs only the standard library. BOX_ROOT and BOX_SSH_PORT are set where a box is not a
separate machine (the local AWS).
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ESTABLISHED = "01"  # a state in /proc/net/tcp


def is_training(lock: Path) -> bool:
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no job was ever started here
    return False


def has_connection(port: int, tables: tuple[str, ...] = ("/proc/net/tcp", "/proc/net/tcp6")) -> bool:
    """Return whether an SSH connection is open. Fields 2 to 4 of a line: local address, remote address, state."""
    for table in tables:
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == ESTABLISHED and int(fields[1].rsplit(":", 1)[1], 16) == port:
                return True
    return False


def read_marks(homes: Path) -> set[float]:
    """Return when each HOMES/USER/*/used was last touched; user and folder are settings and may change."""
    return {path.stat().st_mtime for path in homes.glob("*/*/used")}


def write_state(path: Path, state: dict[str, float]) -> None:
    """Write the idle time and its limit, atomically, for ec2.status."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(state))
    part.chmod(0o644)
    part.replace(path)


def main(minutes: float, homes: Path) -> None:
    path = Path(os.environ.get("BOX_ROOT", "") + "/var/lib/kennel/idle.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    port, limit = int(os.environ.get("BOX_SSH_PORT", "22")), minutes * 60
    idle, checked_at, marked = 0.0, time.monotonic(), read_marks(homes)
    while idle < limit:
        write_state(path, {"idle_s": idle, "limit_s": limit, "time": time.time()})
        time.sleep(max(0.2, min(15.0, limit / 20)))
        now, before, marked = time.monotonic(), marked, read_marks(homes)
        used = (
            has_connection(port)
            or marked != before
            or any(is_training(lock) for lock in homes.glob("*/*/trainer.lock"))
        )
        # Monotonic time: suspending the host or setting its clock must not count as idle.
        idle, checked_at = 0.0 if used else idle + now - checked_at, now
    write_state(path, {"idle_s": idle, "limit_s": limit, "time": time.time()})
    print(f"this box was idle for {minutes:g} minutes; shutting down", flush=True)
    subprocess.run(["shutdown", "-h", "now"], check=True)


if __name__ == "__main__":
    main(float(sys.argv[1]), Path(sys.argv[2]))
