"""The training loop: from the first step or a checkpoint to the weights with the lowest loss on the valid split."""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

import sample_order
from checkpoint import Checkpoints, Stopped
from frozen import is_bf16_faster
from ledger import Ledger
from loader import Feed
from metrics import TOP, Tally
from model import Classifier
from preprocess import Preprocess
from ranks import Ranks

PROGRESS_S = 10.0  # seconds between two lines of progress within an epoch
CONTINUE, SAVE, STOP = 0, 1, 2

Batches = Iterator[tuple[torch.Tensor, torch.Tensor, list[int]]]  # inputs, labels, numbers of the pictures


class DivergedError(Exception):
    """The valid loss is not finite; the last checkpoint precedes the end of that epoch."""


class Pictures:
    """The pictures of a split as network inputs: normalised on the device, or as features of the frozen part."""

    def __init__(self, feed: Feed, preprocess: Preprocess, device: torch.device, frozen: Any = None) -> None:
        self.feed, self.preprocess, self.device, self.frozen = feed, preprocess, device, frozen
        self.labels = torch.tensor([entry.label for entry in feed.views.entries])
        self.waited_s = 0.0  # waiting for pictures, since the start

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, epoch: int, numbers: list[list[int]]) -> Batches:
        waiting_since = time.monotonic()
        for pictures, labels, indices in self.feed.batches(epoch, numbers):
            self.waited_s += time.monotonic() - waiting_since
            yield self.prepare_inputs(pictures), labels.to(self.device, non_blocking=True), indices
            waiting_since = time.monotonic()

    def prepare_inputs(self, pictures: torch.Tensor) -> torch.Tensor:
        if self.frozen is not None:
            features: torch.Tensor = self.frozen(pictures)
            return features
        normal = self.preprocess.normalise(pictures.to(self.device, non_blocking=True))
        return normal.contiguous(memory_format=torch.channels_last)


class Features:
    """The precomputed features of a split: one view of each picture, or several, of which each epoch uses the next."""

    waited_s = 0.0

    def __init__(self, views: list[torch.Tensor], labels: torch.Tensor, device: torch.device) -> None:
        self.views, self.labels, self.device = [view.to(device) for view in views], labels, device

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, epoch: int, numbers: list[list[int]]) -> Batches:
        view = self.views[epoch % len(self.views)]
        for indices in numbers:
            yield view[indices], self.labels[indices].to(self.device), indices


@dataclass
class Progress:
    """The position and results of a run, without its weights; a checkpoint stores all of it."""

    epoch: int = 0
    step: int = 0  # steps of the epoch that are done
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # loss, correct answers, pictures, of all ranks
    lines: list[dict[str, Any]] = field(default_factory=list)
    passes: list[dict[str, Any]] = field(default_factory=list)  # the ledger's entries
    best: dict[str, Any] = field(default_factory=lambda: {"loss": float("inf"), "epoch": 0, "weights": {}})


class Fit:
    """The training of one run. `network` is the whole classifier, or only its head when the inputs are features."""

    def __init__(
        self,
        network: nn.Module,
        inputs: dict[str, Any],
        args: argparse.Namespace,
        ranks: Ranks,
        checkpoints: Checkpoints,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.network, self.inputs, self.args, self.ranks, self.checkpoints = network, inputs, args, ranks, checkpoints
        self.stop = stop  # returns whether SIGTERM was received
        self.at = Progress()
        self.ledger = Ledger(len(inputs["train"]))
        train = inputs["train"]
        self.padding = -len(train) % ranks.size
        self.steps = len(sample_order.derive_batch_bounds(len(train), args.batch, ranks.size))
        self.half = isinstance(network, Classifier) and is_bf16_faster(ranks.device, args.pixels)
        trained = [p for p in network.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(trained, lr=args.lr, weight_decay=args.weight_decay, fused=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, args.lr, total_steps=args.epochs * self.steps
        )
        network.train()
        self.wrapped = ranks.wrap_network(network, self.make_example())
        self.resume()

    def make_example(self) -> torch.Tensor:
        """Return two inputs of the right shape, filled with zeros."""
        train = self.inputs["train"]
        if isinstance(train, Features):
            return torch.zeros_like(train.views[0][:2])
        return torch.zeros_like(train.prepare_inputs(train.feed.views[0, [0]][0].repeat(2, 1, 1, 1)))

    def run(self) -> Progress:
        """Train to the last epoch, or until the valid loss stops improving; then load the best weights.

        Raises Stopped and DivergedError.
        """
        at, args = self.at, self.args
        while at.epoch < args.epochs and not (args.patience and at.epoch - at.best["epoch"] >= args.patience):
            self.run_epoch()
        self.network.load_state_dict(at.best["weights"])
        self.ranks.say(f"best valid loss {at.best['loss']:.6f} (epoch {at.best['epoch']})")
        return at

    def run_epoch(self) -> None:
        at, began = self.at, time.monotonic()
        done, before = at.step, self.inputs["train"].waited_s
        self.train_epoch(began)
        loss, right, seen = at.sums
        at.passes.append(self.ledger.close(f"train epoch {at.epoch + 1}", self.padding, self.ranks))
        self.ranks.copy_statistics(self.network)
        seconds = time.monotonic() - began
        valid = self.evaluate_valid()
        if not np.isfinite(valid["loss"]):
            raise DivergedError(f"the valid loss of epoch {at.epoch + 1} is {valid['loss']}; lower train.lr")
        if valid["loss"] < at.best["loss"]:
            weights = {name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()}
            at.best = {"loss": valid["loss"], "epoch": at.epoch + 1, "weights": weights}
        line: dict[str, Any] = {
            "epoch": at.epoch + 1,
            "step": (at.epoch + 1) * self.steps,
            "train": {"loss": loss / seen, "accuracy": right / seen},
            "valid": valid,
            "lr": self.schedule.get_last_lr()[0],
            "seconds": round(time.monotonic() - began, 2),
            "images_per_s": round((1 - done / self.steps) * seen / seconds, 1),
            "data_wait": round((self.inputs["train"].waited_s - before) / seconds, 3),
        }
        at.lines.append(line)
        self.ranks.say(format_epoch(line, self.args.epochs))
        at.epoch, at.step, at.sums = at.epoch + 1, 0, [0.0, 0.0, 0.0]
        self.save_or_stop(self.ranks.maximum(STOP if self.stop() else SAVE))

    def train_epoch(self, began: float) -> None:
        """Run the remaining steps of the epoch."""
        at, args, ranks = self.at, self.args, self.ranks
        mine = sample_order.list_rank_batches(
            len(self.inputs["train"]), args.seed, at.epoch, args.batch, ranks.rank, ranks.size
        )
        here = torch.tensor(at.sums if ranks.rank == 0 else [0.0] * 3, dtype=torch.float64, device=ranks.device)
        reported_at = began
        self.network.train()
        for inputs, labels, numbers in self.inputs["train"].batches(at.epoch, mine[at.step :]):
            here += self.train_step(inputs, labels)
            self.ledger.record(numbers)
            at.step += 1
            now = time.monotonic()
            if now - reported_at > PROGRESS_S:
                reported_at = now
                ranks.say(self.format_progress(here, now - began))
            action = self.ranks.maximum(STOP if self.stop() else SAVE if self.checkpoints.is_due() else CONTINUE)
            if action and at.step < self.steps:  # the end of an epoch writes its own checkpoint
                at.sums = ranks.sum(here.cpu().numpy()).tolist()
                self.save_or_stop(action)
        at.sums = ranks.sum(here.cpu().numpy()).tolist()

    def train_step(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Run one step; return [sum of losses, correct answers, pictures] of this rank's part of the batch."""
        torch.manual_seed(sample_order.derive_step_seed(self.args.seed, self.at.epoch, self.at.step, self.ranks.rank))
        with torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=self.half):
            scores = self.wrapped(inputs)
        loss = nn.functional.cross_entropy(scores.float(), labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.schedule.step()
        right = (scores.argmax(1) == labels).sum()
        return torch.stack(
            [loss.detach().double() * len(labels), right.double(), torch.full_like(right, len(labels)).double()]
        )

    def format_progress(self, here: torch.Tensor, seconds: float) -> str:
        loss, _, seen = here.tolist()
        rate = seen * self.ranks.size / seconds
        left = (self.args.epochs - self.at.epoch) * self.steps - self.at.step
        return (
            f"epoch {self.at.epoch + 1}/{self.args.epochs}  step {self.at.step}/{self.steps}  train loss {loss / seen:.4f}  "
            f"{rate:.0f} images/s  ETA {left * self.args.batch / rate:.0f} s"
        )

    def evaluate_valid(self) -> dict[str, Any]:
        size = max(1, self.args.batch // self.ranks.size)  # a batch that fits in memory for training fits here
        tally, _, _ = evaluate_split(self.network, self.inputs["valid"], self.args.classes, self.ranks, size, self.half)
        return tally.compute_figures()

    def save_or_stop(self, action: int) -> None:
        """Write a checkpoint, and raise Stopped if `action` is STOP. All ranks call this at the same step."""
        at = self.at
        ledgers = self.ranks.gather(self.ledger.state())
        self.checkpoints.save(
            {
                "at": vars(at),
                "network": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "schedule": self.schedule.state_dict(),
                "ledgers": ledgers,
            }
        )
        if action == STOP:
            raise Stopped(f"stopped at epoch {at.epoch + 1}, step {at.step}; the checkpoint is written")

    def resume(self) -> None:
        saved = self.checkpoints.load()
        if saved is None:
            return
        self.at = Progress(**saved["at"])
        self.network.load_state_dict(saved["network"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.schedule.load_state_dict(saved["schedule"])
        self.ledger.restore(saved["ledgers"][self.ranks.rank])
        self.ranks.say(f"resuming at epoch {self.at.epoch + 1}, step {self.at.step}, from the checkpoint")


def format_epoch(line: dict[str, Any], epochs: int) -> str:
    """Return an epoch's line of the log, which `sm.train` and tuning parse."""
    train, valid = line["train"], line["valid"]
    return (
        f"epoch {line['epoch']}/{epochs}  train loss {train['loss']:.4f}  valid loss {valid['loss']:.4f}  "
        f"valid accuracy {valid['accuracy']:.4f}  {line['images_per_s']:.0f} images/s  "
        f"waited {line['data_wait']:.0%} for data  {line['seconds']} s"
    )


@torch.no_grad()
def evaluate_split(
    network: nn.Module, inputs: Any, classes: int, ranks: Ranks, batch_size: int, reduced: bool = False
) -> tuple[Tally, list[dict[str, Any]], Ledger]:
    """Evaluate each picture once, on any number of ranks; return (tally of all, this rank's answers, its ledger)."""
    network.eval()
    tally, ledger, answers = Tally(classes), Ledger(len(inputs)), []
    mine = list(range(len(inputs)))[ranks.rank :: ranks.size]
    batches = [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
    for batch, labels, numbers in inputs.batches(0, batches):
        with torch.autocast(ranks.device.type, torch.bfloat16, enabled=reduced):
            scores = network(batch)
        losses = tally.add(scores, labels)
        ledger.record(numbers)
        top = scores.double().softmax(1).topk(min(TOP, classes), 1)
        for number, loss, best, chance in zip(
            numbers, losses.tolist(), top.indices.tolist(), top.values.tolist(), strict=True
        ):
            answers.append({"number": number, "loss": loss, "top": best, "probabilities": np.round(chance, 6).tolist()})
    return tally.sum_over_ranks(ranks), answers, ledger
