"""data.split: shares, seed, completeness, and what it refuses."""

import os
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


def read_source(folder):
    """Return what a user would miss: names, kinds, contents, modes and times."""
    status = {path: path.lstat() for path in folder.rglob("*")}
    return {
        path.relative_to(folder).as_posix(): (
            one.st_mode,
            one.st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path, one in status.items()
    }


def test_copies_of_a_picture_stay_in_one_split(photos, tmp_path):
    """A test picture that was trained on would be answered by heart."""
    for number in range(8):
        (photos / "ant" / f"copy {number}.jpg").write_text(f"ant {number % 2}")
    (photos / "ant" / "link.jpg").symlink_to("2.jpg")
    split_folder(photos, tmp_path / "out", SHARES, 0, dry=False)
    found = scan_folder(tmp_path / "out").pictures
    assert len(found) == 129
    splits = {
        content: {p.split for p in found if p.path.read_text() == content} for content in ("ant 0", "ant 1", "ant 2")
    }
    assert [len(names) for names in splits.values()] == [1, 1, 1]


def test_class_of_copies_alone_is_refused(photos, tmp_path):
    for path in (photos / "ant").iterdir():
        path.write_text("the same")
    with pytest.raises(OpsError, match="needs 3 different pictures, .* the 20 of ant are copies of 1"):
        split_folder(photos, tmp_path / "out", SHARES, 0, dry=False)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_picture_that_cannot_be_read_is_named(photos, tmp_path, monkeypatch):
    """As root every file can be read, so the disk refuses."""
    opened = Path.open

    def refuse(path, *mode, **more):
        if path.name == "7.jpg":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *mode, **more)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OpsError, match=r"ant/7.jpg cannot be read: Permission denied. Nothing was written."):
        split_folder(photos, tmp_path / "out", SHARES, 0, dry=False)


@pytest.mark.parametrize("hard_links", [True, False])
def test_names_that_one_disk_holds_once_are_refused(photos, tmp_path, monkeypatch, hard_links):
    """On a disk that ignores letter case the second would be written into the first, which is a link to the source."""
    (photos / "bee" / "A.jpg").write_text("capital")
    (photos / "bee" / "a.jpg").write_text("small")
    made = set()

    def link(source, target):
        if not hard_links:
            raise OSError(18, "Invalid cross-device link")
        if str(target).lower() in made:
            raise FileExistsError(17, "File exists", str(source), None, str(target))
        made.add(str(target).lower())

    opened = Path.open

    def open_folded(path, mode="r", *more, **others):
        if "x" in mode and str(path).lower() in made:
            raise FileExistsError(17, "File exists", str(path))
        made.update([str(path).lower()] if "x" in mode else [])
        return opened(path, mode, *more, **others)

    monkeypatch.setattr(splitting, "count_shares", lambda pictures, shares: (1, 1))  # both of them to train
    monkeypatch.setattr(splitting.os, "link", link)
    monkeypatch.setattr(Path, "open", open_folded)
    before = read_source(photos)
    with pytest.raises(OpsError, match=r"only one of the pictures named '[aA].jpg'"):
        split_folder(photos, tmp_path / "out", SHARES, 0, dry=False)
    monkeypatch.undo()
    assert read_source(photos) == before
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize("other", ["A.jpg", "e\u0301.jpg"], ids=["letter case", "Unicode form"])
def test_names_that_differ_in_form_are_both_kept(photos, tmp_path, other):
    (photos / "bee" / "a.jpg").write_text("1")
    (photos / "bee" / "\u00e9.jpg").write_text("2")
    (photos / "bee" / other).write_text("3")
    if len(list_names(photos)) < 123:
        pytest.skip("this disk holds only one of them")
    split_folder(photos, tmp_path / "out", SHARES, 0, dry=False)
    assert len(list_names(tmp_path / "out")) == 123


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupted_split_changes_and_leaves_nothing(photos, tmp_path, monkeypatch, error):
    before, linked = read_source(photos), splitting.link_or_copy

    def interrupt(source, target):
        if source.name == "9.jpg":
            raise error
        linked(source, target)

    monkeypatch.setattr(splitting, "link_or_copy", interrupt)
    with pytest.raises(error):
        split_folder(photos, tmp_path / "out", SHARES, 0, dry=False)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    monkeypatch.undo()
    split_folder(photos, tmp_path / "out", SHARES, 0, dry=False)
    assert read_source(photos) == before


@pytest.mark.parametrize("kind", ["broken link", "loop", "pipe", "link to its folder", "no picture"])
def test_what_is_not_a_picture_is_left_out(photos, tmp_path, kind):
    odd = photos / "ant" / "odd.jpg"
    if kind == "pipe":
        os.mkfifo(odd)  # reading it would wait for ever
    elif kind == "no picture":
        odd.with_suffix(".txt").write_text("")
    else:
        odd.symlink_to({"broken link": "nowhere", "loop": "odd.jpg", "link to its folder": "."}[kind])
    before = read_source(photos)
    done = split_folder(photos, tmp_path / "out", SHARES, 0, dry=False)
    assert (sum(done.pictures.values()), read_source(photos)) == (120, before)


@pytest.mark.parametrize(
    ("out", "words"),
    [("photos", "is inside"), ("photos/ant/x", "is inside"), (".", "is not empty"), ("way/x", "is inside")],
)
def test_source_and_output_within_each_other_are_refused(photos, tmp_path, out, words):
    (tmp_path / "way").symlink_to(photos)
    before = read_source(tmp_path)
    with pytest.raises(OpsError, match=words):
        split_folder(photos, tmp_path / out, SHARES, 0, dry=False)
    assert read_source(tmp_path) == before


@pytest.mark.parametrize("exists", [True, False])
def test_output_may_be_a_link(photos, tmp_path, exists):
    if exists:
        (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    split_folder(photos, tmp_path / "out", SHARES, 0, dry=False)
    assert (tmp_path / "out").is_symlink()
    assert len(list_names(tmp_path / "real")) == 120


def test_longest_name_of_an_output_is_taken(photos, tmp_path):
    split_folder(photos, tmp_path / ("x" * 255), SHARES, 0, dry=False)
    assert len(list_names(tmp_path / ("x" * 255))) == 120
