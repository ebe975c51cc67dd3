"""What a release must not be without a reason, as a table; and which deployment a roll-back goes back to."""

import pytest

from ops.sm import gate, history

LIVE = {"classes": ["a", "b", "c"], "accuracy": 0.95, "data": "d" * 64}


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ({}, None),
        ({"accuracy": 0.941}, None),
        ({"accuracy": 0.99}, None),
        ({"accuracy": 0.93}, "it is worse: accuracy 0.9300 on the test split, and 0.9500 is live"),
        ({"classes": ["a", "c", "b"]}, "its classes stand in another order: score 1 is c's, and was b's"),
        ({"classes": ["a", "b"]}, "without c"),
        ({"classes": ["a", "b", "c", "z"]}, "with z"),
        ({"classes": ["a", "b", "z"]}, "without c and with z"),
        ({"data": "e" * 64}, "it was trained on other data"),
        ({"data": "e" * 64, "accuracy": 0.5}, "are of different test pictures"),
    ],
)
def test_the_gate(new, words):
    found = gate.findings({**LIVE, **new}, LIVE, worse_at_most=0.01)
    assert (words is None and not found) or (len(found) == 1 and words in found[0])


def test_the_first_release_has_nothing_to_be_compared_with():
    assert gate.findings(LIVE, None, 0.0) == []


def note(config, rollback=False, outcome="live"):
    return {"config": config, "release": config, "rollback": rollback, "outcome": outcome}


@pytest.mark.parametrize(
    ("notes", "before"),
    [
        ([], None),
        ([note("a")], None),
        ([note("a"), note("b")], "a"),
        ([note("a"), note("b"), note("a", rollback=True)], None),
        ([note("a"), note("b"), note("c"), note("b", rollback=True)], "a"),
        ([note("a"), note("b"), note("a", rollback=True), note("c")], "a"),  # not to b, which was bad
        ([note("a"), note("b", outcome="AWS went back"), note("c")], "a"),
        ([note("a"), note("b"), note("x", rollback=True)], "b"),  # to one that was never deployed by a note
        ([note("a"), note("a")], None),
    ],
)
def test_a_roll_back_goes_to_what_lay_below_and_never_forward(notes, before):
    found = history.before(notes)
    assert (found and found["config"]) == before
