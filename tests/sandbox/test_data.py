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
def test_what_cannot_be_trained_on_is_refused(pictures, stacks, spoil, words):
    spoil(pictures)
    with pytest.raises(OpsError) as error:
        dataset.list_pictures(pictures)
    assert words in str(error.value)


def test_a_missing_folder_is_refused_by_the_command_before_any_call(stacks, tmp_path):
    ran = stacks("nodata")("data.push", "--dir", str(tmp_path / "none"), ok=False)
    assert (ran.code, "There is no folder" in ran.err) == (1, True)
