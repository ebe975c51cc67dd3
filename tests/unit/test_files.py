"""Files are written as a whole or not at all."""

import pytest

from ops.core.files import write_atomically


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


def test_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "outside").write_bytes(b"kept")
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "outside").read_bytes() == b"kept"
    assert (tmp_path / "link").read_bytes() == b"new"
