"""What a release must not be without a reason; which deployment a roll-back goes back to; when an endpoint may go."""

import itertools
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from ops.core.errors import STOPPED, OpsError
from ops.endpoint import cleanup, deployment, evaluation, plan
from ops.releases import gate, history
from ops.releases.build import Release
from ops.releases.records import DeploymentNote, JobRelease, ReleaseSummary, parse
from tests.conftest import settings_of

LIVE = ReleaseSummary(
    digest="a" * 64, job="job", tar="sum", classes=["a", "b", "c"], accuracy=0.95, pictures=360, data="d" * 64,
    commit="c" * 12, precisions=["fp32"],
)  # fmt: skip


def against(summary, pairs=None, tests=None, name="the live release"):
    """A release to compare with, of which these pairs and counts of test pictures are made up."""
    return gate.Reference(name, summary, lambda: pairs, lambda: tests or {})


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
    found = gate.findings(LIVE.model_copy(update=new), against(LIVE), worse_at_most=0.01)
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


@pytest.mark.parametrize(("outcome", "completed"), [("unfinished", "b"), ("live", "a"), ("gives wrong answers", "a")])
def test_killed_rollback_is_completed_first(outcome, completed, monkeypatch):
    """After the traffic moved to b, the same command completes that; with another outcome it goes on to a."""
    notes = [note("a"), note("b"), note("c"), note("b", rollback=True, outcome=outcome)]
    monkeypatch.setattr(deployment.probe, "require_endpoint", lambda account: {})
    monkeypatch.setattr(deployment.history, "read_notes", lambda account: notes)
    monkeypatch.setattr(deployment.build, "find_release", lambda account, digest: None)
    monkeypatch.setattr(deployment.plan, "read_instance_type", lambda account, config: "ml.m5.large")
    monkeypatch.setattr(
        deployment.plan, "EndpointSpec", lambda release, settings, existing_config, **_: existing_config
    )
    account = SimpleNamespace(settings=None)
    assert deployment.choose_rollback(account, SimpleNamespace(live="b", configs=["a", "b", "c"]), "") == completed


@pytest.mark.parametrize("outcome", ["unfinished", "live"])
def test_failed_check_completes_a_killed_deployment(outcome, monkeypatch):
    """A live release that fails its check is not taken for one whose process died; a deployment that was live stays so."""
    written = []
    monkeypatch.setattr(history, "read_notes", lambda account: [note("a", outcome=outcome)])
    monkeypatch.setattr(history, "write_note", lambda account, note: written.append(note.outcome))
    with pytest.raises(OpsError), history.complete_deployment(None, "a"):
        raise OpsError("gives wrong answers\nmore")
    assert written == (["gives wrong answers"] if outcome == "unfinished" else [])


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
    assert gate.findings(new, against(live, gate.Pairs(1000, 85, 105)), 0.01) == []
    (stopped,) = gate.findings(new, against(live, gate.Pairs(1000, 0, 20)), 0.01)
    assert "on the same 1000 test pictures 0 wins, 20 losses, p = 9.54e-07" in stopped
    assert gate.findings(new, against(live, gate.Pairs(1000, 0, 4)), 0.01) != []  # too few pairs show nothing
    (unpaired,) = gate.findings(new, against(live), 0.01)
    assert "picture by picture they could not be compared; the difference is known to +-0.0435" in unpaired


def released(number, right, truth, worse=()):
    """Release `number` that answers the first `right` of the pictures correctly, but for those in `worse`."""
    answers = {
        path: label if place < right and path not in worse else "wrong"
        for place, (path, label) in enumerate(truth.items())
    }
    hits = {path for path, label in truth.items() if answers[path] == label}
    classes = sorted(set(truth.values()))
    recall = {
        name: sum(truth[p] == name for p in hits) / sum(one == name for one in truth.values()) for name in classes
    }
    digest = f"{number:064x}"
    return LIVE.model_copy(
        update={"digest": digest, "classes": classes, "accuracy": len(hits) / len(truth), "pictures": len(truth), "recall": recall}
    ), answers  # fmt: skip


def judge(new, live, best, truth):
    """The gate's findings, the pairs counted from the made-up answers of (summary, answers)."""

    def reference(other, name):
        pairs = gate.count_pairs(truth, new[1], other[1])
        return against(other[0], pairs, Counter(truth.values()), name)

    return gate.findings(new[0], reference(live, "the live release"), 0.01, reference(best, "the best release so far"))


@pytest.mark.parametrize("shuffled", [False, True])
def test_ten_small_losses_in_a_row_do_not_pass(shuffled):
    """Each release loses 9 of 1,000 pictures against the one before, which alone is within the margin of 0.01.

    Shuffled, each release errs on other pictures than the one before, so that a small loss is noise.
    """
    truth = {f"{number:04}": str(number % 10) for number in range(1000)}
    draw, series = random.Random(0), []
    for number in range(11):
        order = draw.sample(sorted(truth), 1000) if shuffled else sorted(truth)
        series.append(released(number, 950 - 9 * number, {path: truth[path] for path in order}))
    for before, new in itertools.pairwise(series):
        assert gate.findings(new[0], against(before[0]), 0.01) == []  # against the one before alone, all ten pass
    live, found = series[0], []
    for new in series[1:]:
        found = judge(new, live, series[0], truth)
        live = live if found else new
    assert live[0].accuracy == (0.932 if shuffled else 0.941)
    assert any(
        "is lower: 0.8600, the best release so far has 0.9500 (allowed margin 0.01; on the" in one for one in found
    )


def test_loss_of_one_class_is_found_behind_an_equal_accuracy():
    truth = {f"{number:04}": str(number % 10) for number in range(1000)}
    before = released(1, 950, truth)
    sevens = [path for path, label in truth.items() if label == "7" and int(path) < 950][:12]
    after = released(2, 962, truth, worse=sevens)
    assert after[0].accuracy == before[0].accuracy
    (found,) = judge(after, before, before, truth)
    assert found == (
        "it recognises fewer pictures of some classes than the live release: 7 0.8400 instead of 0.9500 (1 wins, 12 losses)"
    )
    few = released(3, 954, truth, worse=sevens[:4])
    assert judge(few, before, before, truth) == []  # with ten classes, four pictures of one are chance
    unpaired = gate.findings(after[0], against(before[0], None, Counter(truth.values())), 0.01)
    assert unpaired == [found.removesuffix(" (1 wins, 12 losses)")]


def test_best_release_is_the_most_accurate_comparable_one():
    def other(number, **values):
        return LIVE.model_copy(update={"digest": f"{number:064x}", **values})

    new = other(0, accuracy=0.99)
    best = other(1, accuracy=0.97)
    unlike = [other(2, accuracy=0.98, data="e" * 64), other(3, accuracy=0.98, classes=["c", "b", "a"])]
    assert gate.find_best(new, [other(4), best, new, *unlike]) == best
    assert gate.find_best(new, [new, *unlike]) is None


def test_gate_needs_a_reason_against_the_best_release(monkeypatch):
    """The deployment compares with what was ever live, and with a reason it goes on and records what was found."""
    best, new = (
        LIVE.model_copy(update={"digest": "b" * 64, "accuracy": 0.97}),
        LIVE.model_copy(update={"digest": "c" * 64}),
    )
    notes = [
        note("k-1", release="b" * 64),
        note("k-2", release="a" * 64),
        note("k-3", release="e" * 64, outcome="failed"),
    ]
    monkeypatch.setattr(history, "read_notes", lambda account: notes)
    stored = {one.digest: one for one in (best, LIVE, new)}
    monkeypatch.setattr(deployment.build, "read_summary", lambda account, digest: stored[digest])
    monkeypatch.setattr(deployment.release_samples, "find_release_summary", lambda account, config: LIVE)
    monkeypatch.setattr(evaluation, "pair_answers", lambda account, new, other: gate.Pairs(360, 2, 9))
    account, have = SimpleNamespace(settings=settings_of()), plan.Facts(endpoint={"EndpointConfigName": "k-2"})
    with pytest.raises(OpsError, match=r"0\.9500, the best release so far, bbbbbbbbbbbb, has 0\.9700") as stopped:
        deployment.check_gate(account, have, Release("c" * 64, "job"), "")
    assert stopped.value.code == STOPPED
    assert len(deployment.check_gate(account, have, Release("c" * 64, "job"), "fewer pictures of the sea")) == 1


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
    assert gate.count_pairs(truth, ours, theirs) == gate.Pairs(4, 1, 1, {"7": gate.Pairs(4, 1, 1)})
