"""data.split: shares, seed, completeness, and what it refuses."""

import shutil
from pathlib import Path

import pytest

from ops.core.errors import OpsError
from ops.datasets import split as splitting
from ops.datasets.image_folder import SPLITS, scan_folder
from ops.datasets.split import Shares, count_shares, split_folder

SHARES = Shares(0.15, 0.15)


@pytest.fixture
def photos(tmp_path):
    for label, count in (("ant", 20), ("bee", 100)):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"{number}.jpg").write_text(f"{label} {number}")
    return tmp_path / "photos"


def list_names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_split_is_stratified_and_loses_nothing(photos, tmp_path):
    done = split_folder(photos, tmp_path / "out", SHARES, 0, dry=False)
    assert done.pictures == {"train": 84, "valid": 18, "test": 18}
    found = scan_folder(tmp_path / "out").pictures
    counts = {
        (split, label): sum((p.split, p.label) == (split, label) for p in found)
        for split in SPLITS
        for label in ("ant", "bee")
    }
    assert list(counts.values()) == [14, 70, 3, 15, 3, 15]
    assert sorted(p.path.read_text() for p in found) == sorted(p.read_text() for p in photos.rglob("*.jpg"))


def test_same_seed_gives_the_same_split(photos, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        split_folder(photos, tmp_path / name, SHARES, seed, dry=False)
    assert list_names(tmp_path / "a") == list_names(tmp_path / "b") != list_names(tmp_path / "c")


def test_new_picture_leaves_others_in_their_split(photos, tmp_path):
    split_folder(photos, tmp_path / "a", SHARES, 0, dry=False)
    (photos / "bee" / "new.jpg").write_text("new")
    split_folder(photos, tmp_path / "b", SHARES, 0, dry=False)
    assert len(list_names(tmp_path / "a") - list_names(tmp_path / "b")) <= 2


@pytest.mark.parametrize("count", [3, 4, 7, 100])
@pytest.mark.parametrize("shares", [SHARES, Shares(0.01, 0.01), Shares(0.6, 0.39), Shares(0.01, 0.98)])
def test_each_split_gets_a_picture_of_each_class(count, shares):
    valid, test = count_shares(count, shares)
    assert min(valid, test, count - valid - test) >= 1


def test_dry_split_writes_nothing(photos, tmp_path):
    done = split_folder(photos, tmp_path / "out", SHARES, 0, dry=True)
    assert done.pictures == {"train": 84, "valid": 18, "test": 18}
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_links_of_the_source_become_files(photos, tmp_path):
    (tmp_path / "elsewhere.jpg").write_text("elsewhere")
    (photos / "ant" / "link.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    split_folder(photos, tmp_path / "out", SHARES, 0, dry=False)
    [made] = (tmp_path / "out").rglob("link.jpg")
    assert (made.is_symlink(), made.read_text()) == (False, "elsewhere")


def test_disk_without_hard_links_gets_copies(photos, tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(splitting.os, "link", refuse)
    split_folder(photos, tmp_path / "out", SHARES, 0, dry=False)
    assert len(list_names(tmp_path / "out")) == 120


def test_failed_split_leaves_nothing_behind(photos, tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(splitting, "link_or_copy", fail)
    with pytest.raises(OpsError, match="No space left on device. Nothing was kept"):
        split_folder(photos, tmp_path / "out", SHARES, 0, dry=False)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize(
    ("valid", "test"), [(0, 0.1), (0.1, 0), (0.5, 0.5), (-0.1, 0.2), (1.5, 0.1), (float("nan"), 0.1)]
)
def test_unusable_shares_are_refused(photos, tmp_path, valid, test):
    with pytest.raises(OpsError, match="must be above 0 and together below 1"):
        split_folder(photos, tmp_path / "out", Shares(valid, test), 0, dry=False)


def test_output_that_is_not_empty_is_refused(photos, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(OpsError, match="exists and is not empty"):
        split_folder(photos, tmp_path / "out", SHARES, 0, dry=False)
    (tmp_path / "out" / "mine").unlink()
    split_folder(photos, tmp_path / "out", SHARES, 0, dry=False)
    with pytest.raises(OpsError, match="is inside"):
        split_folder(photos, photos / "out", SHARES, 0, dry=False)


def test_folder_that_cannot_be_split_is_refused(photos, tmp_path):
    def refused():
        with pytest.raises(OpsError) as error:
            split_folder(photos, tmp_path / "out", SHARES, 0, dry=False)
        return str(error.value)

    for number in range(2, 20):
        (photos / "ant" / f"{number}.jpg").unlink()
    assert "Each class needs 3 pictures, one for each split. Too few in" in refused()
    assert "ant (2)" in refused()
    shutil.rmtree(photos / "ant")
    assert "has 1 folders: a classifier needs two classes" in refused()
    (photos / "BEE").mkdir()
    assert "BEE and bee: these classes differ in letter case only" in refused()
    (photos / "valid").mkdir()
    (photos / "test").mkdir()
    assert "is split already: it has valid, test" in refused()
    shutil.rmtree(photos)
    assert "There is no folder" in refused()


def test_folders_beside_the_output_are_left_alone(photos, tmp_path):
    """The source may have the name of a partial output, and so may any other folder of the user."""
    source = photos.rename(tmp_path / "out.part")
    split_folder(source, tmp_path / "out", SHARES, 0, dry=False)
    assert len(list_names(source)) == 120
    assert {path.name for path in tmp_path.iterdir()} == {"out", "out.part"}


def test_current_folder_is_no_output(photos, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(OpsError, match="is the current folder"):
        split_folder(photos, Path(), SHARES, 0, dry=True)


def test_class_may_have_the_name_of_a_split(photos, tmp_path):
    (photos / "ant").rename(photos / "train")
    split_folder(photos, tmp_path / "out", SHARES, 0, dry=False)
    assert (tmp_path / "out" / "test" / "train").is_dir()
