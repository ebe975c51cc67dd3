"""Train a classifier: the same program on a laptop, on the box, and on 1..N SageMaker hosts.

    python train.py --data DIR --out DIR                           one process
    torchrun --nnodes 2 --node_rank 0 ... train.py --data DIR ...  several: decided by torchrun's environment alone

Writes model.safetensors, model.json, golden.npz and metrics.jsonl into --out, from rank 0 only. One line an epoch on stdout.
"""

import argparse
import hashlib
import json
import os
import platform
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import dataset
import model
import numpy as np
import torch
import torch.distributed as dist
from dataset import Preprocess, Tensors, augmented
from torch import nn

GOLDEN = 8
EVAL_BATCH = 256


def flags() -> argparse.ArgumentParser:
    opt = Path(os.environ.get("OPT_ML", "/opt/ml"))
    parser = argparse.ArgumentParser(description="Train a classifier.")
    parser.add_argument("--data", type=Path, default=opt / "input" / "data" / "data")
    parser.add_argument("--out", type=Path, default=opt / "model")
    parser.add_argument("--arch", default="resnet_tiny")
    parser.add_argument("--pixels", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64, help="of all processes together")
    parser.add_argument("--lr", type=float, default=0.004)
    parser.add_argument("--weight_decay", type=float, default=0.01)
    parser.add_argument("--shift", type=float, default=0.0625)
    parser.add_argument("--flip", type=lambda text: text == "true", default=False)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser


class Ranks:
    """The processes of this run; alone, when torchrun did not start us."""

    def __init__(self) -> None:
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.device = torch.device("cpu")
        if torch.cuda.is_available():  # one GPU a process; on a GPU box, training on the CPU would be money for nothing
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(self.device)
        if self.size > 1:
            backend = "nccl" if self.device.type == "cuda" else "gloo"
            dist.init_process_group(backend, timeout=timedelta(minutes=5))

    def summed(self, *values: float) -> list[float]:
        """Each value added up over all processes."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def say(self, text: str) -> None:
        if self.rank == 0:
            print(text, flush=True)

    def align(self, network: nn.Module) -> None:
        """Rank 0's running statistics for all: ranks see different pictures, and rank 0's are saved."""
        if self.size > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)

    def close(self) -> None:
        if self.size > 1:
            dist.destroy_process_group()


def order(count: int, seed: int, epoch: int, size: int) -> list[int]:
    """An epoch's order of the pictures, filled up from its start so that every process gets as many."""
    permuted = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 100_003 + epoch)).tolist()
    return permuted + permuted[: -count % size]


def train_epoch(
    network: nn.Module, data: Tensors, optimiser: Any, schedule: Any, args: argparse.Namespace, ranks: Ranks, epoch: int
) -> dict[str, float]:
    """One pass; the mean loss and accuracy over samples of all processes."""
    network.train()
    loss_sum = right = seen = 0.0
    indices = order(len(data), args.seed, epoch, ranks.size)
    for start in range(0, len(indices), args.batch):
        chosen = indices[start : start + args.batch][ranks.rank :: ranks.size]
        pictures, labels = data.batch(chosen)
        pictures = augmented(pictures, chosen, args.seed, epoch, args.shift, args.flip).to(ranks.device)
        pictures = data.preprocess.normalised(pictures).contiguous(memory_format=torch.channels_last)
        labels = labels.to(ranks.device)
        scores = network(pictures)
        loss = nn.functional.cross_entropy(scores, labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        loss_sum += loss.item() * len(chosen)
        right += (scores.argmax(1) == labels).sum().item()
        seen += len(chosen)
    loss_sum, right, seen = ranks.summed(loss_sum, right, seen)
    return {"loss": loss_sum / seen, "accuracy": right / seen}


def evaluate(network: nn.Module, data: Tensors, ranks: Ranks) -> dict[str, float]:
    """Mean loss and accuracy over samples; every picture is seen exactly once, whatever the number of processes."""
    network.eval()
    loss_sum = right = seen = 0.0
    mine = list(range(len(data)))[ranks.rank :: ranks.size]
    for start in range(0, len(mine), EVAL_BATCH):
        pictures, labels = (tensor.to(ranks.device) for tensor in data.batch(mine[start : start + EVAL_BATCH]))
        scores = model.predict(network, data.preprocess.normalised(pictures))
        loss_sum += nn.functional.cross_entropy(scores, labels, reduction="sum").item()
        right += (scores.argmax(1) == labels).sum().item()
        seen += len(labels)
    loss_sum, right, seen = ranks.summed(loss_sum, right, seen)
    return {"loss": loss_sum / seen, "accuracy": right / seen, "pictures": int(seen)}


def fit(network: nn.Module, splits: dict[str, Tensors], args: argparse.Namespace, ranks: Ranks) -> list[dict[str, Any]]:
    """Train, keep the weights of the epoch with the least loss on valid, then look at test once. Returns the metrics."""
    wrapped = nn.parallel.DistributedDataParallel(network) if ranks.size > 1 else network
    steps = args.epochs * -(-(len(splits["train"]) + -len(splits["train"]) % ranks.size) // args.batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=args.lr, weight_decay=args.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.lr, total_steps=steps)
    lines: list[dict[str, Any]] = []
    best: tuple[float, dict[str, torch.Tensor]] = (float("inf"), {})
    for epoch in range(args.epochs):
        began = time.monotonic()
        trained = train_epoch(wrapped, splits["train"], optimiser, schedule, args, ranks, epoch)
        ranks.align(network)
        valid = evaluate(network, splits["valid"], ranks)
        if valid["loss"] < best[0]:
            best = valid["loss"], {name: tensor.clone() for name, tensor in network.state_dict().items()}
        lines.append(
            {"epoch": epoch + 1, "train": trained, "valid": valid, "seconds": round(time.monotonic() - began, 2)}
        )
        ranks.say(
            f"epoch {epoch + 1}/{args.epochs}  train loss {trained['loss']:.4f}  valid loss {valid['loss']:.4f}  "
            f"valid accuracy {valid['accuracy']:.4f}  {lines[-1]['seconds']} s"
        )
    network.load_state_dict(best[1])
    test = evaluate(network, splits["test"], ranks)
    lines.append({"test": test})
    ranks.say(f"test loss {test['loss']:.4f}  test accuracy {test['accuracy']:.4f}  on {test['pictures']} pictures")
    return lines


def golden(network: nn.Module, test: Tensors) -> dict[str, np.ndarray]:
    """A few test pictures, evenly drawn, as the bytes they came in, with the model's scores: what a server must answer."""
    chosen = [round(i * (len(test) - 1) / (GOLDEN - 1)) for i in range(GOLDEN)]
    pictures = [test.entries[i].read() for i in chosen]
    scores = model.predict(network.eval(), test.preprocess.normalised(test.batch(chosen)[0]))
    return {
        "pictures": np.frombuffer(b"".join(pictures), np.uint8),
        "ends": np.cumsum([len(picture) for picture in pictures]),
        "scores": scores.numpy(),
    }


def write(
    network: nn.Module,
    pictures: dataset.Pictures,
    test: Tensors,
    lines: list[dict[str, Any]],
    args: argparse.Namespace,
    size: int,
) -> None:
    """The model's folder. model.json says where it came from and how it must be fed."""
    args.out.mkdir(parents=True, exist_ok=True)
    device = next(network.parameters()).device.type
    network.cpu()  # where it will be served, and its golden answers compared
    np.savez(args.out / "golden.npz", **golden(network, test))  # type: ignore[arg-type]
    settings = {name: value for name, value in vars(args).items() if name not in ("data", "out")}
    card = {
        "arch": args.arch,
        "classes": pictures.classes,
        "preprocess": vars(test.preprocess),
        "data": pictures.digest,
        "commit": os.environ.get("KENNEL_COMMIT", "unknown"),
        "settings": settings,
        "processes": size,
        "device": device,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "metrics": {"valid": lines[-2]["valid"], "test": lines[-1]["test"]},
        "golden": hashlib.sha256((args.out / "golden.npz").read_bytes()).hexdigest(),
    }
    model.save(network, args.out, card)
    (args.out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, CUDA refuses to be deterministic
    torch.use_deterministic_algorithms(True)
    ranks = Ranks()
    if args.batch % ranks.size:
        raise ValueError(f"--batch {args.batch} cannot be divided by {ranks.size} processes")
    pictures = dataset.load(args.data)
    preprocess = Preprocess(args.pixels)
    splits = {split: Tensors(entries, preprocess) for split, entries in pictures.splits.items()}
    ranks.say(
        f"{len(splits['train'])} pictures of {len(pictures.classes)} classes, data {pictures.digest[:12]}, "
        f"{ranks.size} processes of {args.threads} threads on {ranks.device.type}"
    )
    network = model.build(args.arch, len(pictures.classes))
    network.to(ranks.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a fifth faster on CPUs
    lines = fit(network, splits, args, ranks)
    if ranks.rank == 0:
        write(network, pictures, splits["test"], lines, args, ranks.size)
    ranks.close()


def report(error: BaseException) -> None:
    """SageMaker shows the first 1,024 characters of this file as the job's FailureReason."""
    path = Path(os.environ.get("OPT_ML", "/opt/ml")) / "output" / "failure"
    if path.parent.is_dir():
        path.write_text(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    try:
        main(flags().parse_args())
    except Exception as error:
        traceback.print_exc()
        report(error)
        sys.exit(1)
