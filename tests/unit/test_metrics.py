"""Metrics and ledger: means over pictures, the same for any batch and any number of processes; no picture counts twice unnoticed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.xdist_group("torch")  # one worker loads it for all these files


@pytest.fixture(scope="module", autouse=True)
def load_torch():
    """Load torch when the first test of this file runs: at the collection each of pytest's workers would load it."""
    global Ledger, LedgerError, Tally, summarise_passes, theirs, torch
    import torch
    from ledger import Ledger, LedgerError, summarise_passes
    from metrics import Tally
    from sklearn import metrics as theirs


class Alone:
    """One process."""

    rank, size = 0, 1

    def sum(self, values):
        return values

    def gather(self, value):
        return [value]


def drawn(count, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, classes, generator=generator) * 3, torch.randint(
        0, classes, (count,), generator=generator
    )


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 200),
    classes=st.integers(2, 20),
    seed=st.integers(0, 99),
    batch=st.integers(1, 64),
    parts=st.integers(1, 4),
)
def test_figures_equal_those_of_scikit_learn(count, classes, seed, batch, parts):
    """The figures are scikit-learn's, however the pictures are split up."""
    scores, labels = drawn(count, classes, seed)
    whole = Tally(classes)
    for rank in range(parts):
        own = Tally(classes)
        for start in range(rank, count, parts * batch):
            mine = list(range(start, min(start + parts * batch, count), parts))
            own.add(scores[mine], labels[mine])
        for name in ("confusion", "bins", "loss", "top", "right"):
            setattr(whole, name, getattr(whole, name) + getattr(own, name))
    found, answers, chances = whole.compute_figures(), scores.argmax(1).numpy(), scores.double().softmax(1).numpy()
    assert found["pictures"] == count
    assert found["accuracy"] == pytest.approx(theirs.accuracy_score(labels, answers))
    assert found["loss"] == pytest.approx(theirs.log_loss(labels, chances, labels=list(range(classes))))
    assert found["macro_f1"] == pytest.approx(theirs.f1_score(labels, answers, average="macro"))
    top = np.argsort(-chances, 1)[:, :5]
    assert found["top5"] == pytest.approx(
        np.mean([label in best for label, best in zip(labels.tolist(), top, strict=True)])
    )
    recall = whole.compute_recall([str(n) for n in range(classes)])
    wanted = theirs.recall_score(labels, answers, average=None, labels=list(range(classes)), zero_division=0)
    for n in range(classes):
        assert recall[str(n)] == (pytest.approx(wanted[n]) if (labels == n).any() else None)


def test_calibration_error_compares_confidence_and_accuracy():
    """The calibration error is the gap between confidence and accuracy."""
    sure = torch.tensor([[20.0, 0.0]] * 10)
    half_right = Tally(2)
    half_right.add(sure, torch.tensor([0, 1] * 5))
    assert half_right.compute_figures()["calibration_error"] == pytest.approx(0.5, abs=1e-6)
    right = Tally(2)
    right.add(sure, torch.zeros(10, dtype=torch.long))
    assert right.compute_figures()["calibration_error"] == pytest.approx(0, abs=1e-6)


def test_most_right_answers_reach_the_certain_probability():
    """19 of the 20 right answers reach it, and the next step is too much; wrong answers do not count."""
    tally = Tally(2)
    chances = torch.cat([torch.linspace(0.60, 0.98, 20), torch.full((5,), 0.55)]).double()
    tally.add(torch.stack([chances, 1 - chances], 1).log(), torch.tensor([0] * 20 + [1] * 5))
    assert tally.compute_figures()["certain_from"] == pytest.approx(0.62, abs=0.0011)
    none_right = Tally(2)
    none_right.add(torch.tensor([[5.0, 0.0]]), torch.tensor([1]))
    assert none_right.compute_figures()["certain_from"] == 1.0


def test_pass_over_each_picture_once_is_complete():
    ledger = Ledger(5)
    ledger.record([3, 1])
    ledger.record([0, 2, 4])
    entry = ledger.close("train epoch 1", 0, Alone())
    assert (entry["overlap"], entry["ranks"][0]["seen"]) == (0, 5)
    assert ledger.counts.sum() == 0
    assert summarise_passes([entry])["complete"] is True


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ([0, 1, 2, 3], "1 were not seen and 0 were seen again"),
        ([0, 1, 2, 3, 4, 4], "0 were not seen and 1 were seen again"),
        ([0, 0, 1, 2, 3], "1 were not seen and 1 were seen again"),
    ],
)
def test_incomplete_pass_is_an_error(seen, words):
    ledger = Ledger(5)
    ledger.record(seen)
    with pytest.raises(LedgerError, match=words):
        ledger.close("train epoch 1", 0, Alone())


def test_restored_ledger_continues():
    one, two = Ledger(4), Ledger(4)
    one.record([2, 0])
    two.restore(one.state())
    for ledger in (one, two):
        ledger.record([1, 3])
    assert one.close("x", 0, Alone()) == two.close("x", 0, Alone())
