"""Run a ring on a sandbox of its own: python -m tests.crash RING COUNT SEED.

COUNT faults are drawn, or all of them taken when it is 0. Prints a JSON object for each workflow and each trial.
"""

import json
import sys
from dataclasses import asdict
from typing import Any

from ops.core.output import say
from sandbox import state
from sandbox.client import send_control_request
from tests.conftest import HOME, Cli, write_settings
from tests.crash import workflows
from tests.crash.trials import Outcome, Place, Ring, draw_faults


def run_ring(ring: Ring, place: Place, count: int, seed: int) -> None:
    failed = [print_outcome(outcome) for outcome in ring.measure(place)]
    faults = ring.list_faults()
    for title, reference in ring.references.items():
        run = reference.run
        found = {"ring": ring.name, "workflow": title, "calls": len(run.calls), "seconds": run.seconds}
        found["trials"] = len(faults[title])
        print(json.dumps(found), flush=True)
    if failed:
        say(f"{ring.name}: an uninterrupted run is not as it should be already; no trials.")
        return
    for outcome in ring.run_rounds(place, draw_faults(faults, count, seed) if count else faults):
        print_outcome(outcome)


def print_outcome(outcome: Outcome) -> Outcome:
    print(json.dumps(asdict(outcome)), flush=True)
    if outcome.wrong or outcome.stopped:
        say(f"{outcome.workflow}, {outcome.fault}: {outcome.wrong or outcome.stopped}"[:400])
    return outcome


def main(name: str, count: str, seed: str) -> None:
    rings = {ring.name: ring for ring in workflows.list_rings()}
    folder = HOME / "sandbox"
    cli = Cli(write_settings(HOME / "sandbox.yaml", folder, "crash"))
    cli.typed("sandbox.up")

    def control(what: str, **body: Any) -> Any:
        return send_control_request(state.read(folder), "POST", what, body)

    try:
        run_ring(rings[name], Place(folder, f"crash{name}", control), int(count), int(seed))
    finally:
        cli.typed("sandbox.down")


if __name__ == "__main__":
    main(*sys.argv[1:])
