"""Pictures into the bucket: what cannot be trained on is refused; equal pictures are equal bytes; only what is missing is sent."""

import shutil

import pytest

from ops.core.errors import OpsError
from ops.datasets import manifest as dataset
from ops.datasets.image_folder import SPLITS


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: shutil.rmtree(p), "There is no folder"),
        (lambda p: shutil.rmtree(p / "valid"), "has no valid folder"),
        (lambda p: [shutil.rmtree(d) for d in (p / "train").iterdir()], "has no classes"),
        (lambda p: [shutil.rmtree(p / s / "dog") for s in SPLITS], "has only one class (cat)"),
        (lambda p: shutil.rmtree(p / "test" / "dog"), "do not have the same classes: dog"),
        (
            lambda p: [(p / s / "bird").mkdir() for s in SPLITS],
            "no pictures in train/bird, valid/bird, test/bird",
        ),
        (lambda p: [(p / s / "dog").rename(p / s / "a\\b") for s in SPLITS], "cannot be called"),
    ],
    ids=["no folder", "no split", "no classes", "one class", "other classes", "empty class", "class of an odd name"],
)
def test_invalid_picture_folder_is_rejected(pictures, make_stack, spoil, words):
    spoil(pictures)
    with pytest.raises(OpsError) as error:
        dataset.list_pictures(pictures)
    assert words in str(error.value)


def test_push_of_a_missing_folder_makes_no_call(make_stack, tmp_path):
    """A missing folder is an error of the command before any call."""
    ran = make_stack("nodata")("data.push", "--dir", str(tmp_path / "none"), ok=False)
    assert (ran.code, "There is no folder" in ran.err) == (1, True)
