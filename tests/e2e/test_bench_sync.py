"""What bench.sync measures with: every contender delivers the files, through either server; ours skips what is there."""

import shutil

import psutil
import pytest

from bench import sync as bench
from bench import transfer
from bench.transfer import OURS, PUT, RSYNC, TAR
from ops.core.errors import FAILED, OpsError


@pytest.fixture(params=["sshd", "asyncssh"])
def testbed(request, tmp_path, monkeypatch):
    if not shutil.which("rsync") or not shutil.which("ssh"):
        pytest.skip(bench.INSTALL)
    if request.param == "asyncssh":
        monkeypatch.setattr(bench, "find_sshd", lambda: None)
    elif not bench.find_sshd():
        pytest.skip(bench.INSTALL)
    before = psutil.Process().children(recursive=True)
    with bench.open_testbed(tmp_path, files=12, round_trip_s=0.002) as made:
        assert request.param in made.server
        yield made
    assert set(psutil.Process().children(recursive=True)) <= set(before)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.bin")}


def test_each_tool_delivers_all_files(testbed):
    """Each tool delivers all files; a second run of ours and of rsync finds them in place."""
    for name in (OURS, RSYNC, TAR, PUT):
        assert testbed.run(name, fresh=True).keys() == {name, *([bench.INSIDE] if name == OURS else [])}
        assert len(files(testbed.targets / name)) == 12
        assert files(testbed.targets / name) == files(testbed.sent), name
    for name in (OURS, RSYNC):
        testbed.run(name, fresh=False)


def test_sync_sending_unchanged_files_is_an_error(testbed):
    """A run of ours that sends files although nothing should have changed is an error."""
    testbed.run(OURS, fresh=True)
    next(iter(testbed.sent.rglob("*.bin"))).write_bytes(b"other")
    with pytest.raises(OpsError, match="Ours sent unchanged files"):
        testbed.run(OURS, fresh=False)


def test_tool_that_delivers_nothing_is_an_error(testbed, monkeypatch):
    """A tool that delivers nothing, or fails, is an error."""
    monkeypatch.setattr(transfer, "build_transfer_command", lambda name, asked: ["true"])
    with pytest.raises(OpsError, match="differ from those that were sent"):
        testbed.run(TAR, fresh=True)
    monkeypatch.setattr(transfer, "build_transfer_command", lambda name, asked: ["sh", "-c", "echo why >&2; exit 3"])
    with pytest.raises(OpsError, match="sh failed with exit code 3: why"):
        testbed.run(TAR, fresh=True)


def times(ours, rsync, **more):
    return {OURS: [ours + 0.2] * 3, bench.INSIDE: [ours] * 3, RSYNC: [rsync] * 3, **more}


@pytest.mark.parametrize(
    ("new", "same", "put", "good"),
    [
        (1.1, 0.5, 60, [True, True, True]),
        (1.3, 0.5, 60, [True, False, True]),
        (1.1, 1.3, 60, [True, True, False]),
        (1.1, 0.5, 12, [False, True, True]),
    ],
)
def test_sync_report_applies_its_limits(new, same, put, good):
    found = {bench.NEW: times(new, 1.0, **{TAR: [0.8] * 3, PUT: [put] * 2}), bench.SAME: times(same, 1.0)}
    answer = bench.report_sync("a server", 12, found)
    assert [check["ok"] for check in answer.data["checks"]] == good
    assert answer.code == (0 if all(good) else FAILED)
    assert answer.data["whole"][bench.NEW] == pytest.approx(new + 0.2)
    assert "Server: a server" in answer.text


def test_sync_without_rsync_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        OpsError, match=r"bench\.sync needs rsync and OpenSSH's client. Install it: apt-get install rsync"
    ):
        bench.open_testbed(tmp_path, files=12).__enter__()
