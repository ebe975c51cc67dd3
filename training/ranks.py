"""The ranks of a run, as named by torchrun's environment variables; a single rank when they are not set."""

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

T = TypeVar("T")

TIMEOUT = timedelta(minutes=15)  # hosts start, and hash their data, at different speeds


class Ranks:
    """The rank of this process, the number of ranks, and its device. Raises RuntimeError for an unusable GPU."""

    def __init__(self) -> None:
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.local_size = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        self.device = choose_device(int(os.environ.get("LOCAL_RANK", 0)))
        self._group: Any = None
        if self.size < count_hosts():
            raise RuntimeError(
                f"this job has {count_hosts()} hosts but {self.size} processes: each host would train alone"
            )
        if self.size > 1:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo", timeout=TIMEOUT)
            # Counts and flags use gloo even with GPUs: a lost peer is noticed at once, and no device has to wait.
            self._group = (
                dist.group.WORLD if self.device.type == "cpu" else dist.new_group(backend="gloo", timeout=TIMEOUT)
            )

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Return the sum over all ranks, with the shape and precision of `values`."""
        if self.size == 1:
            return values
        total = torch.from_numpy(values.copy())
        dist.all_reduce(total, group=self._group)
        return total.numpy()

    def maximum(self, value: int) -> int:
        """Return the largest of all ranks' values."""
        if self.size == 1:
            return value
        one = torch.tensor([value])
        dist.all_reduce(one, op=dist.ReduceOp.MAX, group=self._group)
        return int(one)

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value, in order of rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self._group)
        return values

    def broadcast_from_first(self, make: Callable[[], T]) -> T:
        """Call `make` on rank 0 and return its result on all ranks."""
        if self.size == 1:
            return make()
        value: list[Any] = [make() if self.rank == 0 else None]
        dist.broadcast_object_list(value, src=0, group=self._group)
        sent: T = value[0]
        return sent

    def say(self, text: str) -> None:
        if self.rank == 0:
            print(text, flush=True)

    def wrap_network(self, network: nn.Module, example: torch.Tensor) -> nn.Module:
        """Return the network with gradients averaged over all ranks; the network itself when there is one rank.

        DDP rebuilds its buckets after the first backward pass, and with three ranks or more sums in another order
        afterwards. A discarded pass comes first, so that a new and a resumed run sum in the same order.
        """
        if self.size == 1:
            return network
        wrapped = nn.parallel.DistributedDataParallel(network)
        state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        wrapped(example).sum().backward()
        network.zero_grad(set_to_none=True)
        network.load_state_dict(state)
        return wrapped

    def copy_statistics(self, network: nn.Module) -> None:
        """Copy rank 0's running statistics to all ranks: they see different pictures, and rank 0's network is saved."""
        if self.size > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)

    def close(self) -> None:
        """Wait until all ranks are done; the process must then end with os._exit.

        gloo's destructors sometimes hang for minutes when the peer has ended first.
        """
        if self.size > 1:
            dist.barrier(group=self._group)


def count_hosts() -> int:
    """Return how many hosts SageMaker gave this job; 1 outside SageMaker."""
    path = Path(os.environ.get("OPT_ML", "/opt/ml")) / "input" / "config" / "resourceconfig.json"
    return len(json.loads(path.read_text()).get("hosts", [""])) if path.exists() else 1


def choose_device(number: int) -> torch.device:
    """Return GPU `number`, or the CPU of a host without GPUs. Raises RuntimeError if torch cannot use a GPU."""
    if torch.cuda.is_available():
        torch.cuda.set_device(number)
        return torch.device("cuda", number)
    if any(Path("/dev").glob("nvidia[0-9]*")):
        raise RuntimeError(
            "this host has a GPU that torch cannot use: look at nvidia-smi, and whether torch is built for CUDA"
        )
    return torch.device("cpu")
