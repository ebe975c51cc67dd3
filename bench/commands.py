"""Commands that run the benchmarks. The exit code is 1 when a check fails, 7 for bench.iam and bench.rights."""

from __future__ import annotations

from invoke import Context

from ops.core.task import Result, task


@task(help={"pairs": "Number of paired measurements (default: 25).", "json": "Print the result as JSON."})
def cli(c: Context, pairs: int = 25, json: bool = False) -> Result:
    """Measure the CPU time of `invoke --list`.

    Compared with `invoke --version` and `aws --version`.

    Example: invoke bench.cli --pairs 5
    """
    from bench import cli

    return cli.measure_cli_start(pairs)


@task(
    help={
        "rounds": "Measurements of each side (default: 5).",
        "files": "Number of pictures to push (default: 2000).",
        "json": "Print the result as JSON.",
    }
)
def data(c: Context, rounds: int = 5, files: int = 2000, json: bool = False) -> Result:
    """Measure data.push against `aws s3 sync` over simulated network links.

    Example: invoke bench.data --files 100 --rounds 1
    """
    from bench import data

    return data.measure_push(rounds, files)


@task(
    help={
        "rounds": "Measurements of each side (default: 5).",
        "files": "Number of files to send (default: 2000).",
        "json": "Print the result as JSON.",
    }
)
def sync(c: Context, rounds: int = 5, files: int = 2000, json: bool = False) -> Result:
    """Measure file transfer to the box against rsync and paramiko's put.

    Example: invoke bench.sync --files 100 --rounds 1
    """
    from bench import sync

    return sync.measure_sync(rounds, files)


@task(
    help={
        "pairs": "Number of paired measurements (default: 5).",
        "pictures": "Pictures per class, for training and for testing (default: 16).",
        "pixels": "Width and height of the training input (default: 224).",
        "json": "Print the result as JSON.",
    }
)
def train(c: Context, pairs: int = 5, pictures: int = 16, pixels: int = 224, json: bool = False) -> Result:
    """Measure fine-tuning of a frozen backbone against torchvision's reference loop.

    Compares speed and accuracy on the same pictures and weights.

    Example: invoke bench.train --pairs 1 --pictures 2 --pixels 32
    """
    from bench import train

    return train.measure_training(pairs, pictures, pixels)


@task(
    help={
        "runs": "Number of runs to kill and resume (default: 20).",
        "seed": "Random seed (default: 0).",
        "json": "Print the result as JSON.",
    }
)
def resume(c: Context, runs: int = 20, seed: int = 0, json: bool = False) -> Result:
    """Kill and resume training runs and compare their weights bit by bit.

    Example: invoke bench.resume --runs 5
    """
    from bench import resume

    return resume.verify_resume(runs, seed)


@task(
    help={
        "rounds": "Measurements of each server (default: 5).",
        "seconds": "Seconds of each measurement (default: 1.5).",
        "arch": "Architecture of the served model, as in train.arch (default: resnet18).",
        "pixels": "Width and height of the model's input (default: 224).",
        "native": "Skip the second pass, which runs with bf16 instructions disabled.",
        "json": "Print the result as JSON.",
    }
)
def serve(
    c: Context,
    rounds: int = 5,
    seconds: float = 1.5,
    arch: str = "resnet18",
    pixels: int = 224,
    native: bool = False,
    json: bool = False,
) -> Result:
    """Measure the throughput of the server against flask on gunicorn and LitServe.

    Example: invoke bench.serve --rounds 1 --seconds 0.5 --native
    """
    from bench import serve

    return serve.measure_serving(rounds, seconds, arch, pixels, native)


@task(
    help={
        "bodies": "Number of request bodies to send (default: 10000).",
        "seed": "Random seed of the bodies (default: 0).",
        "pixels": "Width and height of the model's input (default: 224).",
        "json": "Print the result as JSON.",
    }
)
def fuzz(c: Context, bodies: int = 10_000, seed: int = 0, pixels: int = 224, json: bool = False) -> Result:
    """Attack the server: its connections, its memory, hostile request bodies.

    Reports each attack's outcome, wrong answers, slow refusals, memory use and
    unexpected log lines.

    Example: invoke bench.fuzz --bodies 500 --seed 7
    """
    from bench import fuzz

    return fuzz.check_hostile_bodies(bodies, seed, pixels=pixels)


@task(
    help={
        "presses": "Number of interrupted commands (default: 200).",
        "seed": "Random seed of the moments (default: 0).",
        "json": "Print the result as JSON.",
    }
)
def interrupts(c: Context, presses: int = 200, seed: int = 0, json: bool = False) -> Result:
    """Press Ctrl-C at random moments of commands, each in a terminal.

    Each command is then run again to its end. Reports tracebacks, slow ends, and
    what a third run would still change.

    Example: invoke bench.interrupts --presses 12 --seed 1
    """
    from bench import interrupts

    return interrupts.interrupt_commands(presses, seed)


@task(
    help={
        "rounds": "Audits of all roles (default: 5).",
        "pairs": "Paired audits, with cloudsplaining, of a tenth of the roles (default: 2).",
        "roles": "Number of roles in the synthetic account (default: 3000).",
        "seed": "Random seed of the account (default: 0).",
        "oracle": "Python with cloudsplaining (default: that of .venv-bench).",
        "json": "Print the result as JSON.",
    }
)
def iam(
    c: Context, rounds: int = 5, pairs: int = 2, roles: int = 3000, seed: int = 0, oracle: str = "", json: bool = False
) -> Result:
    """Measure the audit of a synthetic account against cloudsplaining.

    Also checks that the audit misses no correct finding of cloudsplaining.

    Example: invoke bench.iam --roles 200 --rounds 1 --pairs 1
    """
    from bench import iam

    return iam.measure_audit(rounds, pairs, roles, seed, oracle)


@task(
    help={
        "replay": "Number of actions to remove and test (default: 5).",
        "steps": "Record only this number of first steps and do not write docs/needed-actions.md (default: all).",
        "seed": "Random seed for the choice of removed actions (default: 0).",
        "json": "Print the result as JSON.",
    }
)
def rights(c: Context, replay: int = 5, steps: int = 0, seed: int = 0, json: bool = False) -> Result:
    """Record the complete workflow and report which IAM actions each role needs.

    Some actions are then removed, to check that the predicted step fails.

    Example: invoke bench.rights --steps 3 --replay 1 --seed 1
    """
    from bench import needed_actions

    return needed_actions.verify_needed_actions(replay, steps, seed)


@task(
    help={
        "points": "About this number of trials, drawn by the seed; fewer than 500 do not write docs/reliability.md (default: all).",
        "seed": "Random seed of the sample (default: 0).",
        "json": "Print the result as JSON.",
    }
)
def crash(c: Context, points: int = 0, seed: int = 0, json: bool = False) -> Result:
    """Kill every workflow at each change, lose answers and throttle calls.

    The command is run again; the stack must then equal that of an uninterrupted
    run.

    Example: invoke bench.crash --points 60 --seed 1
    """
    from bench import crash

    return crash.measure_crashes(points, seed)
