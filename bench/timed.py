"""The timed run of training/train.py: `python bench/timed.py FLAGS` prints the figures that bench/reference.py prints.

`start_cpu_s` is the CPU time before the first step: fusing and compiling, and with --views the features.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "training"))

import fit
import train

spent = {"images": 0.0, "cpu_s": 0.0, "wall_s": 0.0, "data_wait_s": 0.0}


def time_epoch(self: Any, began: float) -> None:
    cpu, wall, waited = time.process_time(), time.monotonic(), self.inputs["train"].waited_s
    whole_pass(self, began)
    if self.at.epoch == 0 and self.ranks.device.type == "cuda":  # the first pass warms up, as in the reference
        return
    spent["cpu_s"] += time.process_time() - cpu
    spent["wall_s"] += time.monotonic() - wall
    spent["images"] += self.at.sums[2]
    spent["data_wait_s"] += self.inputs["train"].waited_s - waited


whole_pass, fit.Fit.train_epoch = fit.Fit.train_epoch, time_epoch

if __name__ == "__main__":
    args = train.build_parser().parse_args()
    out, sys.stdout = sys.stdout, sys.stderr
    began, first = time.process_time(), fit.Fit.run

    def run(self: Any) -> Any:
        spent["start_cpu_s"] = time.process_time() - began
        return first(self)

    fit.Fit.run = run
    alive = train.main(args)
    if int(os.environ.get("RANK", 0)) == 0:
        card = json.loads((args.out / "model.json").read_text())
        print(json.dumps({**spent, "accuracy": card["metrics"]["test"]["accuracy"]}), file=out, flush=True)
    os._exit(0)
