"""Files are written as a whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from ops.core.files import write_atomically
from ops.core.task import explain_error


def test_file_is_replaced_atomically(tmp_path):
    path = tmp_path / "notes.json"
    write_atomically(path, b"one", mode=0o600)
    write_atomically(path, b"two", mode=0o600, durable=True)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"two", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.json"]


def test_failed_write_keeps_the_old_content(tmp_path):
    path = tmp_path / "notes.json"
    path.write_bytes(b"one")
    with pytest.raises(TypeError):
        write_atomically(path, "no bytes")
    assert path.read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["notes.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("durable", [False, True])
def test_error_of_a_full_disk_names_the_file(tmp_path, monkeypatch, durable):
    """Python names the file of an error of opening, and not that of writing."""
    opened = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, mode=0o777: opened("/dev/full", os.O_WRONLY))
    with pytest.raises(OSError, match="No space left") as full:
        write_atomically(tmp_path / "notes.json", b"one", durable=durable)
    assert f"A disk of this machine is full: [Errno 28] No space left on device: '{tmp_path}/notes.json'" in str(
        explain_error(full.value)
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_disk_that_takes_no_more_is_one_sentence(number):
    explained = str(explain_error(OSError(number, os.strerror(number))))
    assert explained.startswith("A disk of this machine is full: ")
    assert "run the same command again" in explained


def test_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "outside").write_bytes(b"kept")
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "outside").read_bytes() == b"kept"
    assert (tmp_path / "link").read_bytes() == b"new"
