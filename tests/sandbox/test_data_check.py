"""Bad input, one kind at a time: what data.check says of it, and whether data.push takes it; and that training then reads it."""

import json
import shutil

import pytest
from PIL import Image


@pytest.fixture
def pictures(pictures):
    """Each another one: those of the suite's fixture are the same in train and valid."""
    for number, path in enumerate(sorted(pictures.rglob("*.png"))):
        Image.new("RGB", (12, 9), (number, 0, 9)).save(path)
    return pictures


def test_check_prints_findings_and_exits_with_7(pictures, make_stack):
    cli = make_stack("check")
    assert "18 pictures of 2 classes; 0 errors, 0 warnings, 0 notes." in cli("data.check", "--dir", str(pictures)).out
    shutil.copy(pictures / "train/cat/0.png", pictures / "test/cat/other.png")
    (pictures / "train/dog/page.jpg").write_bytes(b"<html>")
    found = cli("data.check", "--dir", str(pictures), ok=False)
    assert found.code == 7
    assert "20 pictures of 2 classes; 1 errors, 1 warnings, 0 notes." in found.out
    as_json = json.loads(cli("data.check", "--dir", str(pictures), "--json", ok=False).out)
    assert [(one["severity"], one["kind"]) for one in as_json["findings"]] == [
        ("error", "refused"),
        ("warning", "two splits"),
    ]
    assert (as_json["error"], as_json["warning"], as_json["note"]) == (1, 1, 0)
    assert "There is no folder" in cli("data.check", "--dir", str(pictures / "none"), ok=False).err
