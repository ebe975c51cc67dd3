"""What a release must not be without a reason; which deployment a roll-back goes back to; when an endpoint may go."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from ops.core.errors import OpsError
from ops.endpoint import cleanup, deployment, evaluation, plan
from ops.releases import gate, history
from ops.releases.build import Release
from ops.releases.records import DeploymentNote, JobRelease, ReleaseSummary, parse
from tests.conftest import settings_of

LIVE = ReleaseSummary(
    digest="a" * 64, job="job", tar="sum", classes=["a", "b", "c"], accuracy=0.95, pictures=360, data="d" * 64,
    commit="c" * 12, precisions=["fp32"],
)  # fmt: skip


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ({}, None),
        ({"accuracy": 0.941}, None),
        ({"accuracy": 0.99}, None),
        ({"accuracy": 0.93}, "its accuracy on the test split is lower: 0.9300, the live release has 0.9500"),
        (
            {"classes": ["a", "c", "b"]},
            "its classes have another order: score 1 belongs to c, in the live release to b",
        ),
        ({"classes": ["a", "b"]}, "removed c"),
        ({"classes": ["a", "b", "c", "z"]}, "added z"),
        ({"classes": ["a", "b", "z"]}, "removed c; added z"),
        ({"data": "e" * 64}, "it was trained on another dataset"),
        ({"data": "e" * 64, "accuracy": 0.5}, "are of different test pictures"),
    ],
)
def test_gate_stops_worse_or_incompatible_releases(new, words):
    found = gate.findings(LIVE.model_copy(update=new), LIVE, worse_at_most=0.01)
    assert (words is None and not found) or (len(found) == 1 and words in found[0])


def test_first_release_has_nothing_to_compare_with():
    assert gate.findings(LIVE, None, 0.0) == []


def note(config, rollback=False, outcome="live", release="", scaled=False):
    return DeploymentNote(
        at="2026-11-24T12:00:00.000000Z", release=release or config, config=config, job="job", by="arn", because="",
        rollback=rollback, scaled=scaled, outcome=outcome,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("notes", "live", "before"),
    [
        ([], "a", None),
        ([note("a")], "a", None),
        ([note("a"), note("b")], "b", "a"),
        ([note("a"), note("b"), note("a", rollback=True)], "a", None),
        ([note("a"), note("b"), note("c"), note("b", rollback=True)], "b", "a"),
        ([note("a"), note("b"), note("a", rollback=True), note("c")], "c", "a"),  # not to b, which was bad
        ([note("a"), note("b", outcome="AWS rolled back"), note("c")], "c", "a"),
        ([note("a"), note("b"), note("x", rollback=True)], "x", "b"),  # to one that was never deployed by a note
        ([note("a"), note("a")], "a", None),
        # Live, whatever its note says: the proof failed, or the process died, after AWS had moved the traffic
        ([note("a"), note("b", outcome="gives wrong answers")], "b", "a"),
        ([note("x"), note("a"), note("b", outcome="unfinished")], "b", "a"),
        ([note("a"), note("b"), note("c"), note("b", rollback=True, outcome="unfinished")], "b", "a"),
    ],
)
def test_rollback_goes_to_the_previous_deployment_only(notes, live, before):
    found = history.find_rollback_target(notes, live)
    assert (found and found.config) == before


def test_last_successful_deployment_of_a_release_is_found():
    notes = [note("c1", release="r"), note("c2", outcome="AWS rolled back", release="r"), note("c3")]
    assert history.find_last_deployment(notes, "r").config == "c1"
    assert history.find_last_deployment(notes, "s") is None


def test_scaling_lost_by_an_unfinished_deployment_is_found():
    """Scaling that was removed is missed after a deployment that did not finish."""
    assert not history.has_lost_scaling([])
    assert not history.has_lost_scaling([note("a", scaled=True)])
    assert history.has_lost_scaling([note("a"), note("b", outcome="unfinished", scaled=True)])
    assert not history.has_lost_scaling([note("b", outcome="unfinished")])


@pytest.mark.parametrize(
    ("hours", "expires", "calls", "why"),
    [
        (48, "2026-11-30T00:00Z", 9, ""),
        (48, "2026-11-24T11:59Z", 9, "It expired at 2026-11-24T11:59Z"),
        (48, "", 0, "It had no calls for 24 hours"),
        (23, "", 0, ""),  # younger than that
        (48, "", 1, ""),
    ],
)
def test_cleanup_needs_expiry_or_idleness(hours, expires, calls, why):
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert cleanup.find_cleanup_reason(now - timedelta(hours=hours), expires, calls, 24, now) == why


@pytest.mark.parametrize(
    ("record", "data", "why"),
    [
        (ReleaseSummary, b"[]", "about.json cannot be used: "),
        (ReleaseSummary, b"{", "about.json cannot be used: Invalid JSON"),
        (JobRelease, b'{"digest": "../x"}', "about.json cannot be used: digest: String should match"),
        (DeploymentNote, b'{"at": 1}', "about.json cannot be used: at: Input should be a valid string"),
    ],
)
def test_corrupt_record_is_named(record, data, why):
    with pytest.raises(OpsError, match=why):
        parse(record, data, "about.json")


def test_newer_record_is_parsed_without_its_new_fields():
    data = LIVE.model_dump_json().replace("{", '{"newer": 1, ', 1)
    assert parse(ReleaseSummary, data.encode(), "about.json") == LIVE


def test_rollback_to_other_classes_says_so(monkeypatch):
    target = LIVE.model_copy(update={"classes": ["a", "b"], "data": "e" * 64})
    monkeypatch.setattr(deployment.build, "read_summary", lambda account, digest: target)
    monkeypatch.setattr(deployment.release_samples, "find_release_summary", lambda account, config: LIVE)
    account = SimpleNamespace(settings=settings_of())
    classes, data = deployment.compare_rollback(account, plan.Facts(), Release("e" * 64, "job"))
    assert classes == "its 2 classes differ from the 3 of the live release: removed c"
    assert data.startswith("it was trained on another dataset")


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [(0, 0, 1.0), (0, 5, 1 / 32), (1, 4, 6 / 32), (5, 0, 1.0), (3, 3, 42 / 64)],
)
def test_paired_loss_has_mcnemars_exact_p(wins, losses, p):
    assert gate.Pairs(1000, wins, losses).p == p


def test_gate_lets_noise_pass_and_stops_a_real_loss():
    """20 of 1,000 pictures fewer: noise when 190 answers differ, a real loss when 20 do."""
    live = LIVE.model_copy(update={"accuracy": 0.571, "pictures": 1000})
    new = live.model_copy(update={"accuracy": 0.551})
    assert gate.findings(new, live, 0.01, lambda: gate.Pairs(1000, 85, 105)) == []
    (stopped,) = gate.findings(new, live, 0.01, lambda: gate.Pairs(1000, 0, 20))
    assert "on the same 1000 test pictures 0 wins, 20 losses, p = 9.54e-07" in stopped
    assert gate.findings(new, live, 0.01, lambda: gate.Pairs(1000, 0, 4)) != []  # too few pairs show nothing
    (unpaired,) = gate.findings(new, live, 0.01, lambda: None)
    assert "picture by picture they could not be compared; the difference is known to +-0.0435" in unpaired


@pytest.mark.parametrize(
    ("current", "answers", "reason"),
    [
        ("e" * 64, {}, "invoke data.use dddddddddddd; then run again: invoke sm.deploy --job job"),
        (
            "d" * 64,
            {"a": "7"},
            "only 1 of 2 test pictures have an answer of both. Check the dataset: invoke data.verify",
        ),
    ],
    ids=["another dataset", "answers missing"],
)
def test_models_that_cannot_be_compared_name_the_command(current, answers, reason, monkeypatch, capsys):
    both = LIVE.model_copy(update={"data": "d" * 64, "job": "job"})
    monkeypatch.setattr(evaluation, "read_current", lambda account: SimpleNamespace(digest=current))
    monkeypatch.setattr(evaluation, "evaluate_model", lambda account, job: evaluation.ModelEvaluation(1.0, 1, answers))
    pictures = [("7", "a", None), ("7", "b", None)]
    monkeypatch.setattr(evaluation.release_samples, "list_test_pictures", lambda dataset: pictures)
    assert evaluation.pair_answers(None, both, both) is None
    assert reason in capsys.readouterr().err


def test_pairs_count_only_what_one_model_gets_right():
    truth = dict.fromkeys("abcde", "7")
    ours = {"a": "7", "b": "7", "c": "1", "d": "2"}
    theirs = {"a": "7", "b": "1", "c": "7", "d": "3", "e": "7"}
    assert evaluation.count_pairs(truth, ours, theirs) == gate.Pairs(4, 1, 1)
