"""Run rings on a sandbox of their own: python -m tests.crash RING[,RING...] SHARE SEED [KIND,...].

SHARE is the share of the faults that is drawn, 1 for all. Prints a JSON object for each reference and each trial.
"""

import json
import os
import random
import sys
from dataclasses import asdict

from ops.core.output import say
from sandbox import state
from sandbox.client import send_control_request
from tests.conftest import HOME, Cli, write_settings
from tests.crash import workflows
from tests.crash.trials import Outcome, Place, Ring

KINDS = ("kill", "lost", "throttled")


def run_ring(ring: Ring, place: Place, share: float, seed: int, kinds: list[str]) -> None:
    failed = [print_outcome(outcome) for outcome in ring.measure(place)]
    for title, reference in ring.references.items():
        found = {"ring": ring.name, "workflow": title, "calls": len(reference.run.calls), "seconds": reference.run.seconds}
        print(json.dumps(found), flush=True)
    if failed:
        say(f"{ring.name}: an uninterrupted run is not as it should be already; no trials.")
        return
    draw = random.Random(seed)
    faults = {
        title: [fault for fault in some if draw.random() < share] for title, some in ring.list_faults(kinds).items()
    }
    for outcome in ring.run_rounds(place, faults):
        print_outcome(outcome)


def print_outcome(outcome: Outcome) -> Outcome:
    print(json.dumps(asdict(outcome)), flush=True)
    if outcome.wrong or outcome.stopped:
        say(f"{outcome.workflow}, {outcome.fault}: {outcome.wrong or outcome.stopped}"[:400])
    return outcome


def main(names: str, share: str, seed: str, kinds: str = ",".join(KINDS)) -> None:
    rings = {ring.name: ring for ring in workflows.list_rings(HOME)}
    folder = HOME / "sandbox"
    cli = Cli(write_settings(HOME / "sandbox.yaml", folder, "crash"))
    cli.typed("sandbox.up")
    try:
        for name in names.split(","):
            place = Place(folder, f"crash{name}", lambda what, **body: send_control_request(state.read(folder), "POST", what, body))
            run_ring(rings[name], place, float(share), int(seed), kinds.split(","))
    finally:
        cli.typed("sandbox.down")


if __name__ == "__main__":
    os.environ.pop("KENNEL_TESTS_FORKS", None)
    main(*sys.argv[1:])
