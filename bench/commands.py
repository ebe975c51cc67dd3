"""The benchmarks as commands. --json prints one object; exit code 1 when a check fails, 7 for iam and rights."""

from __future__ import annotations

from invoke import Context

from ops.core.task import Result, task


@task(help={"pairs": "How many pairs are measured.", "json": "Print the one JSON object."})
def cli(c: Context, pairs: int = 25, json: bool = False) -> Result:
    """What `invoke --list` costs, against `invoke --version` and `aws --version`."""
    from bench import cli

    return cli.measure_cli_start(pairs)


@task(
    help={
        "rounds": "How many times each side is measured.",
        "files": "How many pictures are pushed.",
        "json": "Print the one JSON object.",
    }
)
def data(c: Context, rounds: int = 5, files: int = 2000, json: bool = False) -> Result:
    """What a push of 2,000 pictures takes, against `aws s3 sync`."""
    from bench import data

    return data.measure_push(rounds, files)


@task(
    help={
        "rounds": "How many times each side is measured.",
        "files": "How many files are sent.",
        "json": "Print the one JSON object.",
    }
)
def sync(c: Context, rounds: int = 5, files: int = 2000, json: bool = False) -> Result:
    """What 2,000 files take to a box, against paramiko's put and rsync."""
    from bench import sync

    return sync.measure_sync(rounds, files)


@task(
    help={
        "pairs": "How many pairs are measured.",
        "pictures": "How many of a class are trained on, and how many tested.",
        "pixels": "Pictures are trained on as squares of so many.",
        "json": "Print the one JSON object.",
    }
)
def train(c: Context, pairs: int = 5, pictures: int = 16, pixels: int = 224, json: bool = False) -> Result:
    """What frozen fine-tuning takes, against a plain loop in torchvision's manner."""
    from bench import train

    return train.measure_training(pairs, pictures, pixels)


@task(
    help={"runs": "How many runs are killed.", "seed": "Of the moments at which.", "json": "Print the one JSON object."}
)
def resume(c: Context, runs: int = 20, seed: int = 0, json: bool = False) -> Result:
    """Whether a killed training ends with the weights of one that was not."""
    from bench import resume

    return resume.verify_resume(runs, seed)


@task(
    help={
        "rounds": "How many times each server is measured.",
        "seconds": "Of each measurement.",
        "arch": "Of the network that is served, as in train.arch.",
        "pixels": "The network sees squares of so many.",
        "native": "Measure with this CPU's own instructions alone, and not again as if it had no bf16.",
        "json": "Print the one JSON object.",
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
    """What the server answers a second, against flask on gunicorn and LitServe."""
    from bench import serve

    return serve.measure_serving(rounds, seconds, arch, pixels, native)


@task(
    help={
        "bodies": "How many are sent.",
        "seed": "Of what they are made.",
        "pixels": "The network sees squares of so many.",
        "json": "Print the one JSON object.",
    }
)
def fuzz(c: Context, bodies: int = 10_000, seed: int = 0, pixels: int = 224, json: bool = False) -> Result:
    """Whether the server bears bodies that are broken, hostile or odd."""
    from bench import fuzz

    return fuzz.check_hostile_bodies(bodies, seed, pixels=pixels)


@task(
    help={
        "rounds": "How many times 3,000 roles are audited.",
        "pairs": "How many times 300 are, in turn with cloudsplaining.",
        "roles": "How many in place of 3,000; a tenth of them are audited in turn with cloudsplaining.",
        "seed": "Of the accounts.",
        "oracle": "A Python that has cloudsplaining, in place of .venv-bench.",
        "json": "Print the one JSON object.",
    }
)
def iam(
    c: Context, rounds: int = 5, pairs: int = 2, roles: int = 3000, seed: int = 0, oracle: str = "", json: bool = False
) -> Result:
    """What an audit takes, against cloudsplaining, and whether it misses anything."""
    from bench import iam

    return iam.measure_audit(rounds, pairs, roles, seed, oracle)


@task(
    help={
        "replay": "How many actions are taken away for real.",
        "steps": "Record the first so many steps of the job alone; the page in docs/ stays as it is. 0: all.",
        "seed": "Of which.",
        "json": "Print the one JSON object.",
    }
)
def rights(c: Context, replay: int = 5, steps: int = 0, seed: int = 0, json: bool = False) -> Result:
    """Record the whole job: which action of which role does it need? Remove some, and see it break."""
    from bench import needed_actions

    return needed_actions.verify_needed_actions(replay, steps, seed)
