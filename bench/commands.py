"""Benchmarks as commands: ours against theirs, in turn. --json prints one object; exit 1 when a check fails, of iam and rights 7."""

from __future__ import annotations

from ops.core.task import task


@task(help={"pairs": "How many pairs are measured.", "json": "Print the one JSON object."})
def cli(c, pairs=25, json=False):
    """What `invoke --list` costs, against `invoke --version` and `aws --version`."""
    import shutil
    import sys

    from bench import paired_timing as measure

    invoke = [sys.executable, "-m", "invoke"]
    ours, theirs = [*invoke, "--list"], [*invoke, "--version"]
    found = measure.in_turn(lambda: measure.cpu_seconds(ours), lambda: measure.cpu_seconds(theirs), pairs)
    cost = 1 / measure.times_better(found)
    checks = [measure.Check("invoke --list against invoke --version, CPU time", cost, "x", "at most 1.3", cost <= 1.3)]
    if aws := shutil.which("aws"):
        against = measure.in_turn(
            lambda: measure.cpu_seconds(ours), lambda: measure.cpu_seconds([aws, "--version"]), pairs
        )
        ratio = measure.times_better(against)
        checks.append(
            measure.Check("aws --version against invoke --list, CPU time", ratio, "x", "at least 1", ratio >= 1)
        )
    return measure.report(found, checks, "invoke --list", "invoke --version")


@task(help={"rounds": "How many times each side is measured.", "json": "Print the one JSON object."})
def data(c, rounds=5, json=False):
    """What a push of 2,000 pictures takes, against `aws s3 sync`."""
    from bench import data as sync

    return sync.run(rounds)


@task(help={"rounds": "How many times each side is measured.", "json": "Print the one JSON object."})
def sync(c, rounds=5, json=False):
    """What 2,000 files take to a box, against paramiko's put and rsync."""
    from bench import sync as syncing

    return syncing.run(rounds)


@task(help={"pairs": "How many pairs are measured.", "json": "Print the one JSON object."})
def train(c, pairs=5, json=False):
    """What frozen fine-tuning takes, against a plain loop in torchvision's manner."""
    from bench import train as training

    return training.bench(pairs)


@task(
    help={"runs": "How many runs are killed.", "seed": "Of the moments at which.", "json": "Print the one JSON object."}
)
def resume(c, runs=20, seed=0, json=False):
    """Whether a killed training ends with the weights of one that was not."""
    from bench import resume as resuming

    return resuming.bench(runs, seed)


@task(
    help={
        "rounds": "How many times each server is measured.",
        "seconds": "Of each measurement.",
        "json": "Print the one JSON object.",
    }
)
def serve(c, rounds=5, seconds=1.5, json=False):
    """What the server answers a second, against flask on gunicorn and LitServe."""
    from bench import serve as server

    return server.bench(rounds, seconds)


@task(help={"bodies": "How many are sent.", "seed": "Of what they are made.", "json": "Print the one JSON object."})
def fuzz(c, bodies=10_000, seed=0, json=False):
    """Whether the server bears bodies that are broken, hostile or odd."""
    from bench import fuzz as fuzzing

    return fuzzing.bench(bodies, seed)


@task(
    help={
        "rounds": "How many times 3,000 roles are audited.",
        "pairs": "How many times 300 are, in turn with cloudsplaining.",
        "seed": "Of the accounts.",
        "oracle": "A Python that has cloudsplaining, in place of this one.",
        "json": "Print the one JSON object.",
    }
)
def iam(c, rounds=5, pairs=2, seed=0, oracle="", json=False):
    """What an audit takes, against cloudsplaining, and whether it misses anything."""
    from bench import iam as auditing

    return auditing.bench(rounds, pairs, seed, oracle)


@task(
    help={
        "replay": "How many actions are taken away for real.",
        "seed": "Of which.",
        "json": "Print the one JSON object.",
    }
)
def rights(c, replay=5, seed=0, json=False):
    """Record the whole job: which action of which role does it need? Remove some, and see it break."""
    from bench import needed_actions as needed

    return needed.bench(replay, seed)
