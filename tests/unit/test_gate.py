"""What a release must not be without a reason; which deployment a roll-back goes back to; when an endpoint may go."""

from datetime import UTC, datetime, timedelta

import pytest

from ops.commands import sm_cleanup
from ops.releases import gate, history

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
    ("notes", "live", "before"),
    [
        ([], "a", None),
        ([note("a")], "a", None),
        ([note("a"), note("b")], "b", "a"),
        ([note("a"), note("b"), note("a", rollback=True)], "a", None),
        ([note("a"), note("b"), note("c"), note("b", rollback=True)], "b", "a"),
        ([note("a"), note("b"), note("a", rollback=True), note("c")], "c", "a"),  # not to b, which was bad
        ([note("a"), note("b", outcome="AWS went back"), note("c")], "c", "a"),
        ([note("a"), note("b"), note("x", rollback=True)], "x", "b"),  # to one that was never deployed by a note
        ([note("a"), note("a")], "a", None),
        # Live, whatever its note says: the proof failed, or the process died, after AWS had changed over
        ([note("a"), note("b", outcome="answers, but not as it should")], "b", "a"),
        ([note("x"), note("a"), note("b", outcome="unfinished")], "b", "a"),
        ([note("a"), note("b"), note("c"), note("b", rollback=True, outcome="unfinished")], "b", "a"),
    ],
)
def test_a_roll_back_goes_to_what_lay_below_and_never_forward(notes, live, before):
    found = history.before(notes, live)
    assert (found and found["config"]) == before


def test_a_release_is_gone_back_to_as_it_was_when_it_went_live():
    notes = [note("c1"), note("c2", outcome="AWS went back"), note("c3")]
    for one in notes[:2]:
        one["release"] = "r"
    assert history.latest(notes, "r")["config"] == "c1"
    assert history.latest(notes, "s") is None


def test_scaling_that_was_taken_away_is_missed_after_a_deployment_that_ended_too_soon():
    assert not history.lost_scaling([])
    assert not history.lost_scaling([note("a") | {"scaled": True}])
    assert history.lost_scaling([note("a"), note("b", outcome="unfinished") | {"scaled": True}])
    assert not history.lost_scaling([note("b", outcome="unfinished") | {"scaled": False}])


@pytest.mark.parametrize(
    ("hours", "expires", "calls", "why"),
    [
        (48, "2026-11-30T00:00Z", 9, ""),
        (48, "2026-11-24T11:59Z", 9, "It expired at 2026-11-24T11:59Z"),
        (48, "", 0, "Nobody has called it for 24 hours"),
        (23, "", 0, ""),  # younger than that
        (48, "", 1, ""),
    ],
)
def test_why_an_endpoint_may_go(hours, expires, calls, why):
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert sm_cleanup.reason(now - timedelta(hours=hours), expires, calls, 24, now) == why
