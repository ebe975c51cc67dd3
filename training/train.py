"""Train a classifier: the same program on a laptop, on the box, and on 1..N SageMaker hosts.

    python train.py --data DIR --out DIR                           one process
    torchrun --nnodes 2 --node_rank 0 ... train.py --data DIR ...  several, as torchrun's environment says

Rank 0 writes model.safetensors, model.json, golden.npz, metrics.jsonl, predictions.jsonl and ledger.json into --out.
On SIGTERM it writes a checkpoint into --checkpoints and exits with code 143; the same command then resumes.
"""

import argparse
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch

import card
import dataset
import model
from checkpoint import Checkpoints, Stopped
from fit import Features, Fit, Pictures, evaluate_split
from frozen import Cache, Frozen
from launch import STOPPED
from ledger import summarise_passes
from loader import Feed, Views, choose_worker_count
from precision import count_agreement, simulate_bf16
from preprocess import Augment, Preprocess
from ranks import Ranks
from sample_order import round_batch


class Flags(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise ValueError, so that wrong flags are reported like any other failure, not on stderr alone."""
        raise ValueError(message)


def build_parser() -> argparse.ArgumentParser:
    opt = Path(os.environ.get("OPT_ML", "/opt/ml"))
    parser = Flags(description="Train a classifier.")
    parser.add_argument("--data", type=Path, default=opt / "input" / "data" / "data")
    parser.add_argument("--out", type=Path, default=opt / "model")
    parser.add_argument("--checkpoints", type=Path, default=opt / "checkpoints")
    parser.add_argument(
        "--start", type=Path, default=opt / "input" / "data" / "weights", help="folder of the weights file"
    )
    parser.add_argument("--arch", default="resnet_tiny")
    parser.add_argument("--head", default="linear", choices=model.HEADS)
    parser.add_argument("--layers", default="all", choices=model.LAYERS, help="the layers that are trained")
    parser.add_argument("--weights", default="none", help="SHA-256 of the file in --start, or none")
    parser.add_argument("--pixels", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument(
        "--patience", type=int, default=0, help="epochs without a better valid loss; 0 never stops early"
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=64,
        help="pictures per step, of all processes together; rounded to what they can share equally",
    )
    parser.add_argument("--lr", type=float, default=0.004)
    parser.add_argument("--weight_decay", type=float, default=0.01)
    parser.add_argument("--shift", type=float, default=0.0625)
    parser.add_argument("--flip", type=lambda text: text == "true", default=False)
    parser.add_argument("--crop", type=float, default=1.0)
    parser.add_argument(
        "--views",
        type=int,
        default=0,
        help="with --layers head: precompute this many views of each picture; 0 computes one per epoch",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser


def prepare_torch(args: argparse.Namespace, ranks: Ranks) -> None:
    """Configure torch for a reproducible run. Raises ValueError for incompatible settings."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # CUDA is not deterministic without it
    # Some CUDA kernels (adaptive pooling of vgg) have no deterministic form: warn on a GPU, raise on a CPU.
    torch.use_deterministic_algorithms(True, warn_only=ranks.device.type == "cuda")
    if args.views and args.layers != "head":
        raise ValueError("--views needs --layers head: the features of layers that are trained change at each step")


def share_batch(args: argparse.Namespace, ranks: Ranks) -> None:
    """Set --batch to what the processes can share equally, and print it when that is another number."""
    wanted, args.batch = args.batch, round_batch(args.batch, ranks.size)
    if args.batch != wanted:
        ranks.say(
            f"batch {args.batch} instead of {wanted}: {ranks.size} processes take {args.batch // ranks.size} pictures each per step"
        )


def build_network(args: argparse.Namespace, classes: int) -> model.Classifier:
    network = model.build(args.arch, classes, args.head, args.layers)
    if args.weights != "none":
        files = sorted(path for path in args.start.glob("*") if path.is_file())
        if len(files) != 1:
            raise ValueError(f"{args.start} has {len(files)} weights files instead of one")
        model.load_backbone_weights(network, files[0], args.weights)
    return network


def build_inputs(
    network: model.Classifier,
    pictures: dataset.Pictures,
    args: argparse.Namespace,
    ranks: Ranks,
    stop: Callable[[], bool],
) -> tuple[dict[str, Any], Pictures]:
    """Return ({"train", "valid"} as pictures or as features of the frozen part, the test split as pictures)."""
    preprocess = Preprocess(args.pixels)
    augment = Augment(args.crop, args.shift, args.flip, args.seed)
    workers = choose_worker_count(ranks.device, ranks.local_size)
    feeds = {
        split: Feed(
            Views(pictures.splits[split], preprocess, augment if split == "train" else None), ranks.device, workers
        )
        for split in dataset.SPLITS
    }
    test = Pictures(feeds["test"], preprocess, ranks.device)
    if args.layers != "head":
        return {split: Pictures(feeds[split], preprocess, ranks.device) for split in ("train", "valid")}, test
    frozen = Frozen(network.backbone, preprocess, ranks.device, args.batch // ranks.size)
    cache = Cache(args.checkpoints / "features", frozen, network.backbone, pictures.digest, ranks, stop)
    fresh = Pictures(feeds["train"], preprocess, ranks.device, frozen)
    train: Any = fresh
    if args.views:
        train = Features([cache.features(feeds["train"], k) for k in range(args.views)], fresh.labels, ranks.device)
    labels = torch.tensor([entry.label for entry in pictures.splits["valid"]])
    return {"train": train, "valid": Features([cache.features(feeds["valid"], 0)], labels, ranks.device)}, test


def main(args: argparse.Namespace) -> tuple[Ranks, Fit]:
    """Train and write the model. The result must stay alive until the process ends: see Ranks.close."""
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    ranks = Ranks()
    prepare_torch(args, ranks)
    share_batch(args, ranks)
    pictures = dataset.load(args.data)
    args.classes = len(pictures.classes)
    ranks.say(
        f"{len(pictures.splits['train'])} pictures of {args.classes} classes, data {pictures.digest[:12]}, "
        f"{ranks.size} processes of {args.threads} threads on {ranks.device.type}"
    )
    network = build_network(args, args.classes)
    network.to(ranks.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 20 % faster on CPUs
    inputs, test = build_inputs(network, pictures, args, ranks, lambda: bool(signals))
    settings = card.select_settings(args)
    checkpoints = Checkpoints(args.checkpoints, {**settings, "data": pictures.digest, "processes": ranks.size}, ranks)
    fit = Fit(
        network.head if args.layers == "head" else network, inputs, args, ranks, checkpoints, lambda: bool(signals)
    )
    done = fit.run()
    tally, answers, ledger = evaluate_split(network, test, args.classes, ranks, max(1, args.batch // ranks.size))
    done.passes.append(ledger.close("test", 0, ranks))
    with simulate_bf16(network):
        _, coarse, _ = evaluate_split(network, test, args.classes, ranks, max(1, args.batch // ranks.size))
    every, short = ([one for some in ranks.gather(mine) for one in some] for mine in (answers, coarse))
    results = {**tally.compute_figures(), "recall": tally.compute_recall(pictures.classes)}
    ranks.say(
        f"test loss {results['loss']:.4f}  test accuracy {results['accuracy']:.4f}  on {results['pictures']} pictures"
    )
    if ranks.rank == 0:
        results |= {"precision": count_agreement(every, short, test.labels.tolist())}
        lines = [*done.lines, {"test": results, "best_epoch": done.best["epoch"]}]
        card.write(args.out, network, pictures, lines, every, summarise_passes(done.passes), settings, ranks)
    ranks.close()
    return ranks, fit


def describe_error(error: BaseException) -> str:
    """Return one sentence for the operator from an error of torch or the system."""
    lines = str(error).strip().splitlines() or [""]
    if lines[0].startswith("Caught ") and len(lines) > 1:  # a DataLoader worker sends its whole traceback
        return lines[-1]
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "can't allocate memory" in text:
        return f"out of memory: lower train.batch or train.pixels, or use a larger instance type. {text}"
    if any(words in text for words in ("Connection closed by peer", "Connection reset by peer", "Broken pipe")):
        return f"another process of this job ended first. {text}"
    return text


def write_failure(error: BaseException) -> None:
    """Write the failure file, once per host; SageMaker shows its first 1,024 characters as the job's FailureReason."""
    path = Path(os.environ.get("OPT_ML", "/opt/ml")) / "output" / "failure"
    if path.parent.is_dir():
        try:
            with path.open("x") as file:
                file.write(describe_error(error)[:1024])
        except OSError:
            return


if __name__ == "__main__":
    try:
        alive = main(build_parser().parse_args())
        os._exit(0)
    except Stopped as stopped:
        print(stopped, flush=True)
        os._exit(STOPPED)  # at once: all ranks stopped at this step, so no rank waits for another
    except Exception as error:
        traceback.print_exc()
        write_failure(error)
        os._exit(1)  # skip destructors, which wait for peers that have ended
