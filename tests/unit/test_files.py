"""Files are written as a whole or not at all."""

import errno
import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from ops.core import files
from ops.core.errors import OpsError
from ops.core.files import extract_tar, write_atomically
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


def build_entries(*entries):
    """Return a gzipped tar of (TarInfo, bytes of content); the content may be shorter than the entry says."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as zipped:
        for entry, content in entries:
            zipped.write(entry.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % 512))
        zipped.write(bytes(1024))
    return packed.getvalue()


def describe_entry(name, size=0, **more):
    entry = tarfile.TarInfo(name)
    entry.size = size
    for field, value in more.items():
        setattr(entry, field, value)
    return entry


WHOLE = build_entries((describe_entry("model.bin", 5000), bytes(range(250)) * 20))
BROKEN = {
    "no tar": (b"<html>", "file could not be opened"),
    "empty": (b"", "empty file"),
    "cut in the gzip": (WHOLE[:-30], ""),
    "flipped bits": (WHOLE[:40] + bytes(8) + WHOLE[48:], ""),
    "up": (build_entries((describe_entry("../evil", 1), b"x")), "outside"),
    "absolute": (build_entries((describe_entry("/tmp/../../evil", 1), b"x")), "outside"),
    "link out": (build_entries((describe_entry("a", type=tarfile.SYMTYPE, linkname="../../evil"), b"")), "outside"),
    "link to root": (build_entries((describe_entry("a", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b"")), "absolute"),
    "hard link out": (build_entries((describe_entry("a", type=tarfile.LNKTYPE, linkname="../../evil"), b"")), "outside"),
    "device": (build_entries((describe_entry("a", type=tarfile.CHRTYPE), b"")), "special file"),
    "large": (build_entries((describe_entry("a", 1 << 40), b"")), "more than 1,073,741,824 bytes"),
    "many": (build_entries(*[(describe_entry(str(number)), b"") for number in range(101)]), "or 100 files"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_or_hostile_tar_unpacks_nothing(tmp_path, monkeypatch, name):
    data, why = BROKEN[name]
    monkeypatch.setattr(files, "MOST_FILES", 100)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_text("old")
    with pytest.raises(OpsError, match="The archive of model is corrupt or not safe: ") as refused:
        extract_tar(data, tmp_path / "model")
    assert why in str(refused.value)
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["model", "model/old"]


def test_tar_replaces_the_folder(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_text("old")
    extract_tar(WHOLE, tmp_path / "model")
    assert [(path.name, path.stat().st_size) for path in (tmp_path / "model").iterdir()] == [("model.bin", 5000)]


def test_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "outside").write_bytes(b"kept")
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "outside").read_bytes() == b"kept"
    assert (tmp_path / "link").read_bytes() == b"new"
