"""What commands write below .kennel is for its owner alone; what they write where a person says has that person's modes."""

import os
import stat

import pytest

from ops.core import task


@pytest.fixture
def usual(monkeypatch):
    monkeypatch.setenv("KENNEL_WORK", "set")
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize(("command", "mode"), [("sm.report", 0o600), ("demo", 0o600), ("data.split", 0o644)])
def test_command_writes_files_of_its_mode(usual, tmp_path, command, mode):
    with task.private_files(command):
        (tmp_path / "new").touch()
    (tmp_path / "later").touch()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "later").stat().st_mode) == 0o644


def test_commands_that_write_elsewhere_exist():
    import tasks

    assert set(task.WRITE_ELSEWHERE) <= set(tasks.ns.task_names)


def test_folder_of_an_older_kennel_is_closed(tmp_path, monkeypatch):
    monkeypatch.delenv("KENNEL_WORK")
    (tmp_path / "work").mkdir(mode=0o755)
    monkeypatch.setattr(task, "WORK", tmp_path / "work")
    with task.private_files("doctor"):
        assert stat.S_IMODE((tmp_path / "work").stat().st_mode) == 0o700


def test_folder_that_is_a_link_is_left_alone(tmp_path):
    (tmp_path / "shared").mkdir(mode=0o755)
    (tmp_path / "work").symlink_to("shared")
    task.close_to_others(tmp_path / "work")
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o755
