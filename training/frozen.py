"""The frozen part of a network, made fast: no gradients, fused convolutions, bf16 where the hardware supports it.

Its features are computed again for each epoch's augmentation, or once for K views of each picture and cached on disk.
"""

import copy
import hashlib
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from checkpoint import Stopped, replace_file
from loader import Feed
from preprocess import Preprocess
from ranks import Ranks

CHUNK = 8  # pictures at a time on a CPU: their intermediate results stay in its caches
PROGRESS_S = 10.0  # seconds between two lines of progress
BF16_PIXELS = 64  # for smaller pictures fp32 is as fast, and more exact


def is_bf16_faster(device: torch.device, pixels: int) -> bool:
    """Return whether bf16 is faster: on a GPU with native bf16, or a CPU with AMX or AVX512-BF16 and large pictures."""
    if device.type == "cuda":  # below compute capability 8 (a T4, g4dn) bf16 is emulated, and slower than fp32
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    masked = os.environ.get("ONEDNN_MAX_CPU_ISA", "AMX")  # oneDNN's switch; a benchmark masks instructions with it
    able = torch.cpu.get_capabilities() if any(isa in masked for isa in ("AMX", "BF16")) else {}
    return pixels >= BF16_PIXELS and bool(able.get("amx_bf16") or able.get("avx512_bf16"))


class Frozen:
    """The frozen backbone as a function: uint8 pictures [n, 3, side, side] -> float32 features [n, width], on `device`.

    Every forward pass takes exactly `chunk` pictures, so a picture's features do not depend on its neighbours.
    """

    def __init__(self, backbone: nn.Module, preprocess: Preprocess, device: torch.device, batch: int) -> None:
        """Compile the backbone. `batch` is the largest batch that training passes to this process."""
        self.preprocess, self.device = preprocess, device
        self.chunk = batch if device.type == "cuda" else min(batch, CHUNK)
        self.type = torch.bfloat16 if is_bf16_faster(device, preprocess.pixels) else torch.float32
        network = fuse_batch_norm(copy.deepcopy(backbone).eval()).to(device, self.type)
        self._run: Any = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if device.type == "cpu":
            self._run = compile_network(
                self._run, self._convert_batch(torch.zeros(self.chunk, 3, preprocess.pixels, preprocess.pixels))
            )

    def _convert_batch(self, batch: torch.Tensor) -> torch.Tensor:
        return batch.to(self.type).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.cat([self._compute_chunk(some) for some in pictures.split(self.chunk)])

    def _compute_chunk(self, pictures: torch.Tensor) -> torch.Tensor:
        count = len(pictures)
        if count < self.chunk:  # pad: another shape would be compiled again, and differ in its last bits
            pictures = torch.cat([pictures, pictures[:1].expand(self.chunk - count, -1, -1, -1)])
        inputs = self._convert_batch(self.preprocess.normalise(pictures.to(self.device, non_blocking=True)))
        features: torch.Tensor = self._run(inputs)
        return features[:count].float()


def fuse_batch_norm(network: nn.Module) -> nn.Module:
    """Fuse each BatchNorm into the convolution before it; all of torchvision's classifiers can be traced for it."""
    from torch.fx.experimental.optimization import fuse

    return fuse(network)


def compile_network(network: nn.Module, example: torch.Tensor) -> Any:
    """Trace with oneDNN's graph fusion, which merges ReLU and sums into convolutions; return `network` on failure."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.jit.enable_onednn_fusion(True)
        try:
            traced = torch.jit.freeze(torch.jit.trace(network, example, check_trace=False))
            for _ in range(3):  # the first runs are profiled and do not use the final program
                traced(example)
            return traced
        except RuntimeError as error:
            print(f"the network was not compiled and runs slower: {str(error).splitlines()[0]}", flush=True)
            return network


class Cache:
    """The features of a split on disk: all processes compute them together, once for each key."""

    def __init__(
        self, folder: Path, frozen: Frozen, weights: nn.Module, data: str, ranks: Ranks, stop: Callable[[], bool]
    ) -> None:
        self.folder, self.frozen, self.ranks, self.stop = folder, frozen, ranks, stop
        self.identity = f"{hash_weights(weights)} {data} {frozen.preprocess} {frozen.type} {frozen.chunk}"

    def features(self, feed: Feed, epoch: int) -> torch.Tensor:
        """Return float32 [pictures, width] of the view that `epoch` draws, from disk if cached. Raises Stopped."""
        count, augment = len(feed.views), feed.views.augment
        key = hashlib.sha256(f"{self.identity} {augment} {epoch} {feed.views.entries[0].name}".encode()).hexdigest()[
            :20
        ]
        path = self.folder / f"{key}.npy"
        if self.ranks.broadcast_from_first(path.exists):
            return torch.from_numpy(self.ranks.broadcast_from_first(lambda: np.load(path, allow_pickle=False)))
        mine = list(range(count))[self.ranks.rank :: self.ranks.size]
        computed = self._compute_share(feed, epoch, mine)
        whole = torch.empty(count, computed.shape[1])
        for rank, theirs in enumerate(self.ranks.gather(computed)):
            whole[rank :: self.ranks.size] = theirs
        if self.ranks.rank == 0:
            save_features(path, whole.numpy())
        return whole

    def _compute_share(self, feed: Feed, epoch: int, mine: list[int]) -> torch.Tensor:
        """Compute this rank's part, [len(mine), width]; it is empty if a split has fewer pictures than ranks."""
        done, reported_at = [], time.monotonic()
        for pictures, _, numbers in feed.batches(epoch, list(split_into_chunks(mine or [0], self.frozen.chunk))):
            if self.stop():
                break
            done.append(self.frozen(pictures).cpu())
            if time.monotonic() - reported_at > PROGRESS_S:
                reported_at = time.monotonic()
                seen = sum(len(some) for some in done)
                self.ranks.say(
                    f"features of view {epoch + 1}: {seen} of {len(mine)} pictures, last number {numbers[-1]}"
                )
        if self.ranks.maximum(int(self.stop())):  # all ranks agree, so that no rank waits for features that never come
            raise Stopped("stopped while computing features; complete views are cached")
        return torch.cat(done)[: len(mine)]


def split_into_chunks(numbers: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def save_features(path: Path, features: np.ndarray) -> None:
    import io

    buffer = io.BytesIO()
    np.save(buffer, features)
    try:
        replace_file(path, buffer.getvalue())
    except OSError as error:
        print(f"features not cached, they will be computed again: {error.strerror or error}", flush=True)


def hash_weights(network: nn.Module) -> str:
    """Return the SHA-256 over a network's weights and their names."""
    whole = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        whole.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()
