"""The flaws of the project that this one replaces (F1 to F9). Each check passes for ours and fails for the flaw re-created."""

from pathlib import Path

import dataset
import pytest

from bench import resume
from tests.e2e.flaws import f4, f5, f7


def judged(check, ours, flawed):
    """The check holds for ours, and is sharp enough for the flaw."""
    check(ours)
    with pytest.raises(AssertionError):
        check(flawed)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return resume.write_noise_pictures(tmp_path_factory.mktemp("flaws") / "data")


pytestmark = pytest.mark.xdist_group("torch")  # one worker loads it for all these files


@pytest.fixture(scope="module", autouse=True)
def load_torch():
    """Load torch when the first test of this file runs: at the collection each of pytest's workers would load it."""
    global LABELS, Preprocess, SCORES, Tally, f3, f8, fit, loader, model, torch
    import fit
    import loader
    import model
    import torch
    from metrics import Tally
    from preprocess import Preprocess

    from tests.e2e.flaws import f3, f8

    SCORES = torch.randn(836, 7, generator=torch.Generator().manual_seed(0))
    LABELS = torch.randint(0, 7, (836,), generator=torch.Generator().manual_seed(1))


def figures(scores, labels, batch):
    tally = Tally(scores.shape[1])
    for start in range(0, len(labels), batch):
        tally.add(scores[start : start + batch], labels[start : start + batch])
    return tally.compute_figures()


def test_f3_loss_does_not_depend_on_the_batch():
    true = torch.nn.functional.cross_entropy(SCORES, LABELS).item()

    def check(loss):
        assert [loss(SCORES, LABELS, batch) for batch in (32, 256)] == pytest.approx([true, true])

    judged(check, lambda *asked: figures(*asked)["loss"], f3.loss)


def test_f4_perfect_model_has_an_accuracy_of_one():
    perfect = torch.nn.functional.one_hot(LABELS, 7).float()

    def check(accuracy):
        assert [accuracy(perfect, LABELS, batch) for batch in (32, 256)] == [1.0, 1.0]

    judged(check, lambda *asked: figures(*asked)["accuracy"], f4.accuracy)


def test_f5_test_split_does_not_choose_the_weights():
    """Ours chooses in Fit.run_epoch, of which valid's loss is all that it is given; here it sees epochs in which test differs."""
    epochs = [{"valid": 0.5, "test": 0.1}, {"valid": 0.2, "test": 0.9}, {"valid": 0.3, "test": 0.3}]

    class ChoosingFit(fit.Fit):
        def __init__(self):
            self.at, self.network, self.steps, self.stop = fit.Progress(), torch.nn.Linear(1, 1), 1, lambda: False
            self.ranks, self.args, self.padding = fit.Ranks(), type("Args", (), {"epochs": 3, "patience": 0})(), 0
            self.inputs = {"train": fit.Features([torch.zeros(1, 1)], torch.zeros(1), torch.device("cpu"))}
            self.ledger = type("Ledger", (), {"close": lambda *_: {}})()
            self.schedule = type("Schedule", (), {"get_last_lr": lambda _: [0.1]})()

        def train_epoch(self, began):
            self.at.sums = [1.0, 1.0, 1.0]

        def evaluate_valid(self):
            return {"loss": epochs[self.at.epoch]["valid"], "accuracy": 0.5}

        def save_or_stop(self, action): ...

    def ours(_):
        done = ChoosingFit().run()
        return done.best["epoch"] - 1, done.best["loss"]

    def check(choose):
        assert choose(epochs) == (1, 0.2)

    judged(check, ours, f5.choose)


def test_f7_training_uses_the_train_split(data):
    def ours(folder):
        return sorted(entry.name for entry in dataset.load(folder).splits["train"])

    def check(pictures):
        assert all(name.startswith("train/") for name in pictures(data))
        assert len(pictures(data)) == 39

    judged(check, ours, f7.training_pictures)


def test_f8_network_and_pictures_go_to_the_device(data):
    """`meta` is a device that every torch has: a stand-in for the GPU that this machine may lack."""
    device = torch.device("meta")
    views = loader.Views(dataset.load(data).splits["train"], Preprocess(16))

    def ours(network, pictures, device):
        network.to(device)
        inputs = fit.Pictures(loader.Feed(views, torch.device("cpu"), 0), Preprocess(16), device)
        (batch, labels, _), *_ = inputs.batches(0, [[0, 1]])
        return {network(batch).device.type, labels.device.type, *(p.device.type for p in network.parameters())}

    def check(step):
        assert step(model.build("resnet_tiny", 2), views[0, [0, 1]][0].numpy(), device) == {"meta"}

    judged(check, ours, f8.step)


def test_f8_unusable_gpu_is_an_error(monkeypatch):
    import ranks

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(
        Path, "glob", lambda self, pattern: iter([Path("/dev/nvidia0")]) if "nvidia" in pattern else iter([])
    )
    with pytest.raises(RuntimeError, match="a GPU that torch cannot use"):
        ranks.choose_device(0)
