"""The sample ledger records which pictures each rank really saw. It proves that all ranks together saw every picture once.

A sampler that gives every rank all pictures, or omits some, is detected at the end of the first epoch. Hosts that each
train alone are rejected earlier: see ranks.py.
"""

import hashlib
from typing import Any

import numpy as np

from ranks import Ranks


class LedgerError(Exception):
    """The pictures that a pass used are not the data set, each picture once."""


class Ledger:
    """The counts by picture of what this rank saw in the current pass, and a running SHA-256 of the order."""

    def __init__(self, pictures: int) -> None:
        self.counts = np.zeros(pictures, np.int32)
        self.chain = b""

    def record(self, numbers: list[int]) -> None:
        np.add.at(self.counts, numbers, 1)
        self.chain = hashlib.sha256(self.chain + np.array(numbers, np.int64).tobytes()).digest()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint stores, so that a resumed run continues the count."""
        return {"counts": self.counts.tolist(), "chain": self.chain.hex()}

    def restore(self, state: dict[str, Any]) -> None:
        self.counts, self.chain = np.array(state["counts"], np.int32), bytes.fromhex(state["chain"])

    def close(self, what: str, padding: int, ranks: Ranks) -> dict[str, Any]:
        """Return the pass's entry and reset. Raises LedgerError unless each was seen once, plus `padding`."""
        seen = ranks.gather((int(self.counts.sum()), self.chain.hex()))
        total = ranks.sum(self.counts)
        missing, overlap = int((total == 0).sum()), int((total[total > 1] - 1).sum())
        if missing or overlap != padding:
            raise LedgerError(
                f"{what}: of {len(total)} pictures {missing} were not seen and {overlap} were seen again (expected: {padding}, to "
                f"fill the last batch); the processes saw {', '.join(str(n) for n, _ in seen)}"
            )
        self.counts, self.chain = np.zeros_like(self.counts), b""
        return {
            "pass": what,
            "pictures": len(total),
            "overlap": overlap,
            "padding": padding,
            "ranks": [{"rank": rank, "seen": n, "sha256": chain} for rank, (n, chain) in enumerate(seen)],
        }


def summarise_passes(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the ledger that is saved with the model: the totals, then each pass."""
    return {
        "complete": True,  # close() raises when it is not
        "pictures": entries[0]["pictures"],
        "overlap": sum(entry["overlap"] for entry in entries),
        "padding": sum(entry["padding"] for entry in entries),
        "beyond_padding": sum(entry["overlap"] - entry["padding"] for entry in entries),
        "processes": len(entries[0]["ranks"]),
        "passes": entries,
    }
