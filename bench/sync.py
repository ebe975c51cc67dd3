"""The benchmark of our transfer to a box against paramiko's `put`, `rsync -a` and tar through ssh, over one link.

All use one SSH server, one key and one pinned host key, through one link (bench/link.py), in turn, each into its own
folder, which is missing or already complete. In the latter case rsync compares sizes and times, and ours reads every
file at both ends. rsync is measured as a process. Ours is judged from connecting on, since a command that sends files
already has Python running; its process time is printed too. tar through ssh is measured, but no check uses it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench import opponents, transfer
from bench import paired_timing as measure
from bench.data import GBIT, ROUND_TRIP_S, cancel_connections
from bench.link import CHUNK, Link, forward_bytes
from bench.transfer import HOST, OURS, PUT, RSYNC, TAR, Keys
from ops.box.file_sync import SUMS
from ops.core import ssh
from ops.core.errors import OpsError
from ops.core.output import format_table, say
from ops.core.task import Result

FOLDERS, BYTES = 20, 20_000
PUTS = 2  # rounds in which paramiko's put takes part, since it takes minutes
MIN_SPEEDUP, MAX_RSYNC_RATIO, MAX_UNCHANGED_RATIO = 15.0, 1.2, 1.2  # the bounds of the checks
ROOM = 10  # times the size of the files: originals, a copy per contender, one in progress, and partly filled blocks
START_S = 15
NEW, SAME = "all new", "nothing changed"
INSIDE = "ours from connecting on"  # without Python's start and imports
LABELS = {OURS: "ours", PUT: "paramiko put", RSYNC: "rsync -a", TAR: "tar | ssh"}
INSTALL = "apt-get install rsync openssh-client openssh-server"
# HOME is set so that the operator's shell settings are not measured at each login.
SSHD = """\
ListenAddress 127.0.0.1
HostKey {keys.host}
AuthorizedKeysFile {keys.allowed}
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
PidFile none
SetEnv HOME={keys.folder}
Subsystem sftp internal-sftp
"""

Times = dict[str, list[float]]


@dataclass(frozen=True)
class Testbed:
    """The files to send and the path to the server; `link_port` is the port of the link's near end."""

    sent: Path
    targets: Path
    keys: Keys
    server: str
    link_port: int

    def run(self, name: str, fresh: bool) -> dict[str, float]:
        """Run one contender; return its process's seconds, and for ours also those from connecting on.

        `fresh` empties the target first. Raises OpsError when it fails, the target is incomplete, or ours does not
        send exactly when `fresh`.
        """
        target = self.targets / name
        if fresh:
            shutil.rmtree(target, ignore_errors=True)
        took, said = transfer.run_timed(
            transfer.build_transfer_command(name, transfer.Transfer(self.sent, str(target), self.keys, self.link_port))
        )
        if hash_files(target) != hash_files(self.sent):
            raise OpsError(f"{LABELS[name]}: the files in {target} differ from those that were sent.")
        if name != OURS:
            return {name: took}
        answer = json.loads(said)
        if answer["sent"] != fresh:
            raise OpsError("Ours sent unchanged files again." if answer["sent"] else "Ours did not send the files.")
        return {name: took, INSIDE: answer["seconds"]}


def hash_files(folder: Path) -> dict[str, bytes]:
    """Return the SHA-256 digest by file name, without the list of checksums that ours leaves beside the files."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: hashlib.sha256(path.read_bytes()).digest() for name, path in found.items() if name != SUMS}


def write_noise_files(folder: Path, count: int) -> None:
    """Write files that do not compress."""
    for number in range(count):
        path = folder / f"{number % FOLDERS:02d}" / f"{number:04d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(BYTES))


@contextmanager
def open_testbed(folder: Path, files: int, round_trip_s: float = ROUND_TRIP_S) -> Iterator[Testbed]:
    """Prepare files, keys, a server that accepts our key, and the link. Raises OpsError when a program is missing."""
    opponents.find_on_path("bench.sync", "rsync and OpenSSH's client", INSTALL, "rsync", "ssh")
    sent, targets, keys = folder / "sent", folder / "targets", Keys(folder / "keys")
    write_noise_files(sent, files)
    targets.mkdir()
    ssh.ensure_key_pair(keys.client)
    ssh.pin_host_keys(keys.known_hosts, HOST, [ssh.ensure_key_pair(keys.host)])
    with start_sshd_or_asyncssh(keys) as (name, far), open_link(far, round_trip_s) as near:
        yield Testbed(sent, targets, keys, name, near)


@contextmanager
def start_sshd_or_asyncssh(keys: Keys) -> Iterator[tuple[str, int]]:
    """Start sshd, or asyncssh where sshd is not installed, as the current user; yield its name and port."""
    log, program = keys.folder / "log", find_sshd()
    if program:
        name, argv = read_sshd_version(program), prepare_sshd_command(program, keys)
    else:
        name, argv = "asyncssh (no sshd is installed)", [sys.executable, "-m", "bench.ssh_server"]
        argv.append(str(keys.folder))
    with log.open("w") as out, transfer.start_process(argv, stdout=out, stderr=out) as process:
        yield name, wait_for_port(process, log)


def find_sshd() -> str | None:
    """Return the absolute path of sshd, which it requires, or None; it is usually on root's PATH only."""
    return shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


def read_sshd_version(program: str) -> str:
    """Return sshd's version; older versions reject -V, but print theirs in the error message."""
    said = subprocess.run([program, "-V"], capture_output=True, text=True, check=False).stderr
    return next((line for line in said.splitlines() if line.startswith("OpenSSH")), "OpenSSH").split(",")[0] + " sshd"


def prepare_sshd_command(program: str, keys: Keys) -> list[str]:
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # for sshd's privilege separation; normally made at boot
    config = keys.folder / "sshd_config"
    config.write_text(SSHD.format(keys=keys))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return [program, "-D", "-e", "-f", str(config), "-p", str(port)]


def wait_for_port(process: subprocess.Popen[str], log: Path) -> int:
    """Return the port that the server's log names. Connecting as a test would not do: sshd penalises missing logins.

    Raises OpsError when the server ends, or logs no port within START_S.
    """
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        if found := re.search(r"\bport (\d+)\.?$", log.read_text(), re.M):
            return int(found[1])
        time.sleep(0.02)
    raise OpsError(f"The SSH server did not start: {log.read_text().strip()[-600:]}")


class NoDelayLink(Link):
    """The link without loopback's delayed acknowledgements.

    With Nagle's algorithm, which both ends of OpenSSH use, and asyncio too on incoming connections, each such
    acknowledgement costs up to 40 ms, and a login meets several.
    """

    async def _handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.sleep(self.round_trip_s)
        try:
            far, far_writer = await asyncio.open_connection("127.0.0.1", self.port, limit=CHUNK)
        except OSError:
            writer.close()
            return
        up = forward_bytes(enable_quickack(reader, writer), far_writer, self.up)
        await asyncio.gather(up, forward_bytes(enable_quickack(far, far_writer), writer, self.down))


def enable_quickack(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> asyncio.StreamReader:
    """Make the reader acknowledge at once what it has read, where the system supports it (Linux); return it."""
    read, ours = reader.read, writer.get_extra_info("socket")

    async def read_and_acknowledge(n: int = -1) -> bytes:
        data = await read(n)
        with suppress(OSError, AttributeError):  # the connection is closed, or this is not Linux
            ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return data

    reader.read = read_and_acknowledge  # type: ignore[method-assign]
    return reader


@contextmanager
def open_link(far: int, round_trip_s: float) -> Iterator[int]:
    """Serve a link to the port `far` on a thread of this process; yield the port of its near end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    serving = asyncio.run_coroutine_threadsafe(NoDelayLink(far, round_trip_s, GBIT).serve(), loop).result()
    try:
        yield serving.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(cancel_connections(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def time_contenders(testbed: Testbed, names: list[str], rounds: int, fresh: bool) -> Times:
    """Return the seconds of each contender. The order rotates; an unmeasured round of all but put comes first."""
    for name in names:
        if name != PUT:
            testbed.run(name, fresh)
    found: Times = {}
    for number in range(rounds):
        first = number % len(names)
        took: dict[str, float] = {}
        for name in names[first:] + names[:first]:
            if name != PUT or number < PUTS:
                took |= testbed.run(name, fresh)
        for name, seconds in took.items():
            found.setdefault(name, []).append(seconds)
        times = ", ".join(f"{LABELS.get(name, name)} {seconds:.2f} s" for name, seconds in took.items())
        say(f"{NEW if fresh else SAME}, round {number + 1}: {times}")
    return found


def measure_sync(rounds: int, files: int) -> Result:
    """Measure all contenders, check the ratios and return the report. Raises OpsError when a transfer fails."""
    if min(rounds, files) < 1:
        raise OpsError("--rounds and --files must be 1 or more.")
    with (
        tempfile.TemporaryDirectory(prefix="kennel-bench-", dir=find_memory_folder(files)) as name,
        open_testbed(Path(name), files) as testbed,
    ):
        say(f"Sending {files} files of {BYTES} bytes to {testbed.server}; round trip {ROUND_TRIP_S * 1000:.0f} ms")
        new = time_contenders(testbed, [OURS, RSYNC, TAR, PUT], rounds, fresh=True)
        same = time_contenders(testbed, [OURS, RSYNC], rounds, fresh=False)
        return report_sync(testbed.server, files, {NEW: new, SAME: same})


def find_memory_folder(files: int) -> Path | None:
    """Return a folder in memory with room for all copies, or None. A disk would add a second or two to each run."""
    shared_memory = Path("/dev/shm")  # noqa: S108  only a uniquely named folder is made in it
    return (
        shared_memory
        if shared_memory.is_dir() and shutil.disk_usage(shared_memory).free > ROOM * files * BYTES
        else None
    )


def compute_rsync_ratio(times: Times, which: str) -> float:
    """Return the median over rounds of ours / rsync."""
    return 1 / measure.compute_speedup(list(zip(times[which], times[RSYNC], strict=True)))


def report_sync(server: str, files: int, found: dict[str, Times]) -> Result:
    new, same = found[NEW], found[SAME]
    puts = list(zip(new[OURS], new[PUT], strict=False))
    values = (measure.compute_speedup(puts), compute_rsync_ratio(new, INSIDE), compute_rsync_ratio(same, INSIDE))
    against_rsync = f"{INSIDE} / {LABELS[RSYNC]}"
    checks = [
        measure.Check(
            f"{NEW}: {LABELS[PUT]} / ours, {len(puts)} rounds",
            values[0],
            "x",
            f"at least {MIN_SPEEDUP:g}",
            values[0] >= MIN_SPEEDUP,
        ),
        measure.Check(
            f"{NEW}: {against_rsync}", values[1], "x", f"at most {MAX_RSYNC_RATIO:g}", values[1] <= MAX_RSYNC_RATIO
        ),
        measure.Check(
            f"{SAME}: {against_rsync}",
            values[2],
            "x",
            f"at most {MAX_UNCHANGED_RATIO:g}",
            values[2] <= MAX_UNCHANGED_RATIO,
        ),
    ]
    pairs = list(zip(new[INSIDE], new[RSYNC], strict=True))
    answer = measure.report_pairs(
        pairs, checks, "ops.core.ssh.connect_to_host and ops.box.file_sync.send_files", LABELS[RSYNC]
    )
    whole = {when: round(compute_rsync_ratio(times, OURS), 3) for when, times in found.items()}
    data = {"server": server, "files": files, "bytes": files * BYTES, "whole": whole, "seconds": found}
    note = f"As a whole process, with Python's start and imports, ours / {LABELS[RSYNC]}: {whole[NEW]} ({NEW}), {whole[SAME]} ({SAME})."
    return Result(
        answer.data | data, f"{format_times(found)}\nServer: {server}\n\n{answer.text}\n\n{note}", code=answer.code
    )


def format_times(found: dict[str, Times]) -> str:
    rows = [
        (when, LABELS.get(name, name), f"{statistics.median(times):.2f}", f"{min(times):.2f}", f"{max(times):.2f}")
        for when, line in found.items()
        for name, times in line.items()
    ]
    return format_table(("files", "program", "median s", "min s", "max s"), rows)
