"""The demo: its steps, each of which is a command of its own, and the report of what they did."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ops.core import pricing
from ops.core.files import write_atomically
from ops.core.output import format_table
from ops.core.paths import WORK
from ops.core.settings import Settings
from ops.datasets.image_folder import scan_folder

REPORT, DIGITS = WORK / "demo.json", WORK / "digits"
DIGITS_STACK = "demo"  # stack.name of invoke.yaml
LONGEST_STACK, DIGEST = 20, 6
SAMPLE = 50
LEAST_ACCURACY = 0.97  # on the digits; an operator's own pictures may be harder


@dataclass(frozen=True)
class Step:
    """A command of the demo, with the hourly cost of what it leaves running."""

    name: str
    command: str
    dollars_per_hour: float = 0.0


@dataclass(frozen=True)
class StepResult:
    """The result of a step: the last line it printed, its changes in AWS, and its requests, retries included."""

    name: str
    command: str
    dollars_per_hour: float
    seconds: float
    outcome: str
    changes: int
    calls: int


@dataclass(frozen=True)
class TestAccuracy:
    """The accuracy of the trained model itself on the whole test split, and the release that was built from it."""

    release: str
    value: float
    pictures: int


@dataclass(frozen=True)
class Answer:
    """The answer of function and endpoint for one test picture, and the trained model's own (`offline`)."""

    picture: str
    truth: str
    answer: str
    offline: str


@dataclass(frozen=True)
class DemoReport:
    """The content of demo.json, which the demo writes."""

    steps: list[StepResult]
    test_accuracy: TestAccuracy
    answers: list[Answer]
    dollars_per_hour: float
    seconds: float

    @property
    def agreeing(self) -> int:
        return sum(one.answer == one.offline for one in self.answers)

    def passes(self, own_pictures: bool) -> bool:
        accurate = own_pictures or self.test_accuracy.value >= LEAST_ACCURACY
        return self.agreeing == len(self.answers) and accurate

    def write(self) -> None:
        REPORT.parent.mkdir(exist_ok=True)
        write_atomically(REPORT, (json.dumps(asdict(self), indent=1) + "\n").encode())


def choose_stack(settings: Settings, own_pictures: Path | None) -> str:
    """Return the stack of the demo: that of the settings, or for own pictures one that is derived from their folder.

    Their classes are not those of the digits, so no release of them may replace one of the digits. A stack that is
    not the default was chosen, and stays.
    """
    if own_pictures is None or settings.stack.name != DIGITS_STACK:
        return settings.stack.name
    return derive_stack(own_pictures)


def derive_stack(folder: Path) -> str:
    """Return a stack's name for a folder: the letters of its own name, and a digest of its path, which tells namesakes apart."""
    path = folder.resolve()
    plain = unicodedata.normalize("NFKD", path.name).lower()
    name = re.sub(r"[^a-z0-9]", "", plain).lstrip("0123456789") or "own"
    return name[: LONGEST_STACK - DIGEST] + hashlib.sha256(os.fsencode(path)).hexdigest()[:DIGEST]


def plan_steps(settings: Settings, pictures: Path, seed: int, again: bool) -> Iterator[Step]:
    """Yield the steps in order: each needs the ones before it. `settings` have the stack that choose_stack returned.

    On a derived stack both deployments give a reason: one host and two differ by chance, and it may have another release.
    A stack that was chosen has its own live release, and none replaces that without the gate.
    """
    own_stack = settings.stack.name == derive_stack(pictures)
    again_flag = " --again" if again else ""
    because = f" --because {shlex.quote(f'demo with the pictures in {pictures}')}" if own_stack else ""
    train_type = settings.train.instance_type
    box = pricing.price_instances("ec2", settings.ec2.instance_types[0]) + pricing.price_disk(settings.ec2.disk_gib)
    endpoint = pricing.price_instances("sagemaker", settings.endpoint.instance_type, settings.endpoint.instances)
    yield Step("start the local AWS", "sandbox.up")
    yield Step("check prerequisites", "doctor")
    yield Step("create roles and policies", "iam.apply")
    yield Step("create the bucket", "data.up")
    yield Step("push the dataset", f"data.push --dir {shlex.quote(str(pictures))}")
    yield Step("create the network", "net.up")
    yield Step("start the GPU box", "ec2.up", box)
    yield Step("train on the box", "ec2.train" + again_flag)
    one_host, two_hosts = (pricing.price_instances("sagemaker", train_type, hosts) for hosts in (1, 2))
    yield Step("train on one host", "sm.train" + again_flag, one_host)
    yield Step("train on two hosts", "sm.train --instances 2" + again_flag, two_hosts)
    yield Step("build the serving image", "sm.image")
    yield Step("deploy release 1", "sm.deploy --once" + because, endpoint + 2 * pricing.price_alarm())
    yield Step("deploy release 2", "sm.deploy --instances 2" + because)
    yield Step("scale with load", "sm.autoscale")
    yield Step(
        "deploy the function",
        "lambda.deploy",
        pricing.price_provisioned_concurrency(settings.fn.provisioned, settings.fn.memory_mb),
    )
    yield Step(f"classify {SAMPLE} pictures", f"lambda.invoke --sample {SAMPLE} --seed {seed}")
    yield Step("audit the policies", "iam.audit")
    yield Step("evaluate the model itself", "sm.evaluate --instances 2")


def shorten_outcome(text: str) -> str:
    """Return the last line that a command printed, without its hint at the next one."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("Next:")] or ["done"]
    return lines[-1].split(" Next: ")[0].split(" --again")[0].split("; ")[0][:96]


def compute_standing_cost(steps: list[StepResult]) -> float:
    """Return dollars an hour of what runs until it is torn down; training costs only while it trains."""
    return round(sum(step.dollars_per_hour for step in steps if ".train" not in step.command), 4)


def describe_report(report: DemoReport, settings: Settings, pictures: Path, job: str, switch: str) -> str:
    """Return the report as text; `job` made the live release, `switch` is of `describe_switch`."""
    rows = [
        (
            step.name,
            f"{step.seconds:.1f}",
            step.outcome,
            pricing.format_price(step.dollars_per_hour, 3) if step.dollars_per_hour else "",
        )
        for step in report.steps
    ]
    accuracy = report.test_accuracy
    return "\n".join(
        (
            "",
            format_table(("step", "s", "outcome", "$/h on AWS"), rows),
            "",
            f"accuracy {accuracy.value:.4f} on the {accuracy.pictures} test pictures, release {accuracy.release[:12]}",
            f"{report.agreeing} of {len(report.answers)} answers through Lambda and endpoint are the trained model's own",
            f"{report.seconds} s; left running on AWS it would cost ${pricing.format_price(report.dollars_per_hour, 3)} an hour "
            f"(list prices of {pricing.read_prices()['dated']}, ops/core/pricing.toml)",
            f"report: {shorten_path(REPORT)}",
            "",
            *([switch] if switch else []),
            *([] if shutil.which("invoke") else ["For the next commands: . .venv/bin/activate"]),
            "Next: invoke sm.status            look at the endpoint",
            "      invoke evidence             write one page of all that runs",
            f"      invoke sm.report {job}",
            f"      invoke sm.invoke {pick_test_picture(pictures)}",
            f"      invoke sm.delete --confirm {settings.endpoint_name} lambda.down --yes ec2.down --yes     tear down what costs",
            "      invoke sandbox.down         or stop the whole local AWS",
        )
    )


def describe_switch(settings: Settings, stack: str) -> str:
    """Return the line that makes `stack` that of the next commands; "" when it is that of the settings already."""
    return (
        ""
        if stack == settings.stack.name
        else f"The stack is {stack}. For the next commands: export INVOKE_STACK_NAME={stack}"
    )


def pick_test_picture(pictures: Path) -> str:
    """Return a picture of the test split, to try the endpoint with."""
    found = next((picture.path for picture in scan_folder(pictures).pictures if picture.split == "test"), None)
    return shlex.quote(str(shorten_path(found.absolute()))) if found else "PICTURE"


def shorten_path(path: Path) -> Path:
    """Return the path relative to the current folder, if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
