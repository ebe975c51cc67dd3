"""The demo's plan: whose stack it works on, and the reasons that its deployments give."""

from pathlib import Path

import pytest

from ops.core.settings import Stack
from ops.reports import demo
from tests.conftest import settings_of

SETTINGS = settings_of()
CHOSEN = settings_of(text="stack: {name: mine}")


@pytest.mark.parametrize(
    ("folder", "stack"),
    [
        ("pictures", "pictures"), ("My-Dogs_2", "mydogs2"), ("2024 birds", "birds"), ("café", "cafe"), ("cafe\u0301", "cafe"),
        ("a" * 30, "a" * 20), ("犬", "own"), ("demo", "owndemo"), ("7", "own"), ("ﬁsh", "fish"),
    ],
    ids=["plain", "mixed", "digits first", "composed", "decomposed", "long", "no letter left", "demo", "digit", "ligature"],
)  # fmt: skip
def test_stack_is_named_after_the_folder(folder, stack):
    chosen = demo.choose_stack(SETTINGS, Path("/somewhere") / folder)
    assert chosen == stack
    assert Stack(name=chosen, expires_hours=1).name == stack


def test_digits_and_a_chosen_stack_keep_their_name():
    assert demo.choose_stack(SETTINGS, None) == "demo"
    assert demo.choose_stack(CHOSEN, Path("dogs")) == "mine"
    assert demo.describe_switch(CHOSEN, "mine") == ""
    assert demo.describe_switch(SETTINGS, "dogs").endswith("export INVOKE_STACK_NAME=dogs")


@pytest.mark.parametrize(("own", "reasons"), [(True, 2), (False, 0)])
def test_deployments_of_own_pictures_give_a_reason(own, reasons):
    """Chance, or other classes that are live, must not stop the demo half way."""
    commands = [step.command for step in demo.plan_steps(SETTINGS, Path("my dogs"), 0, again=False, own_pictures=own)]
    deployments = [command for command in commands if command.startswith("sm.deploy")]
    assert len(deployments) == 2
    assert sum("--because 'demo with the pictures in my dogs'" in command for command in deployments) == reasons
