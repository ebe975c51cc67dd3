"""The demo's plan: whose stack it works on, and the reasons that its deployments give."""

import re
from pathlib import Path

import pytest

from ops.core.settings import Stack
from ops.reports import demo
from tests.conftest import draw_pictures, settings_of

SETTINGS = settings_of()
CHOSEN = settings_of(text="stack: {name: mine}")


@pytest.mark.parametrize(
    ("folder", "letters"),
    [
        ("pictures", "pictures"), ("My-Dogs_2", "mydogs2"), ("2024 birds", "birds"), ("café", "cafe"), ("cafe\u0301", "cafe"),
        ("a" * 30, "a" * 14), ("犬", "own"), ("demo", "demo"), ("7", "own"), ("ﬁsh", "fish"), ("\udcff", "own"),
    ],
    ids=["plain", "mixed", "digits first", "composed", "decomposed", "long", "no letter", "demo", "digit", "ligature", "bytes"],
)  # fmt: skip
def test_stack_is_named_after_the_folder(folder, letters):
    chosen = demo.choose_stack(SETTINGS, Path("/somewhere") / folder)
    assert re.fullmatch(letters + "[0-9a-f]{6}", chosen)
    assert Stack(name=chosen, expires_hours=1, wait_minutes=0).name == chosen


def test_folders_of_one_name_have_different_stacks(tmp_path, monkeypatch):
    """Their classes may differ, and no release of one may replace one of the other."""
    mine, other = tmp_path / "a" / "photos", tmp_path / "b" / "photos"
    mine.mkdir(parents=True)
    assert demo.choose_stack(SETTINGS, mine) != demo.choose_stack(SETTINGS, other)
    monkeypatch.chdir(mine)
    (tmp_path / "link").symlink_to(mine)
    assert {demo.choose_stack(SETTINGS, Path(way)) for way in (".", "../photos", str(tmp_path / "link"))} == {
        demo.choose_stack(SETTINGS, mine)
    }


def test_digits_and_a_chosen_stack_keep_their_name():
    assert demo.choose_stack(SETTINGS, None) == "demo"
    assert demo.choose_stack(CHOSEN, Path("dogs")) == "mine"
    assert demo.describe_switch(CHOSEN, "mine") == ""
    assert demo.describe_switch(SETTINGS, "dogs").endswith("export INVOKE_STACK_NAME=dogs")


@pytest.mark.parametrize(("stack", "reasons"), [("derived", 2), ("demo", 0), ("mine", 0)])
def test_deployments_on_a_derived_stack_give_a_reason(stack, reasons):
    """Chance, or other classes that are live, must not stop the demo half way; on a chosen stack the gate decides."""
    folder = Path("my dogs")
    name = demo.derive_stack(folder) if stack == "derived" else stack
    commands = [
        step.command for step in demo.plan_steps(settings_of(text=f"stack: {{name: {name}}}"), folder, 0, False)
    ]
    deployments = [command for command in commands if command.startswith("sm.deploy")]
    assert len(deployments) == 2
    assert sum("--because 'demo with the pictures in my dogs'" in command for command in deployments) == reasons


def test_next_command_names_a_picture_of_the_test_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "valid", "test"):
        folder = tmp_path / "my dogs" / split / "ant"
        folder.mkdir(parents=True)
        for name in (".DS_Store", ".hidden.jpg", "Thumbs.db", "a.txt"):
            (folder / name).write_text("")
    (tmp_path / "my dogs" / "test" / ".DS_Store").write_text("")
    assert demo.pick_test_picture(Path("my dogs")) == "PICTURE"
    (folder / "b.jpg").write_text("")
    assert demo.pick_test_picture(Path("my dogs")) == "'my dogs/test/ant/b.jpg'"


@pytest.mark.parametrize("found", ["/usr/bin/invoke", None], ids=["on the path", "not on the path"])
def test_report_tells_how_invoke_is_found(monkeypatch, tmp_path, found):
    """make demo runs it from .venv/bin, which is not on the PATH yet: the next commands would not be found."""
    monkeypatch.setattr(demo.shutil, "which", lambda name: found)
    report = demo.DemoReport([], demo.TestAccuracy("0d70c2a09772", 0.99, 360), [], 0.656, 77.4)
    said = demo.describe_report(report, SETTINGS, draw_pictures(tmp_path), "job", "")
    assert ("For the next commands: . .venv/bin/activate\nNext: invoke sm.status" in said) == (found is None)
