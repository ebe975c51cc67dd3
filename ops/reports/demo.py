"""The demo's steps: each a command that can be typed by itself, run as it would be typed; and what came of them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import invoke

from ops.core import pricing
from ops.core.errors import OpsError
from ops.core.output import say, table
from ops.core.paths import WORK
from ops.core.task import Executor, Result

if TYPE_CHECKING:
    from ops.core.settings import Settings

REPORT, DIGITS = WORK / "demo.json", WORK / "digits"
SAMPLE = 50
LEAST_ACCURACY = 0.97  # on the digits; somebody else's pictures may be harder
LOOK = {
    "ec2": "invoke ec2.status",
    "sm": "invoke sm.status",
    "lambda": "invoke lambda.status",
    "net": "invoke net.status",
    "iam": "invoke iam.audit",
}


@dataclass
class Step:
    """One command, with what came of it."""

    name: str
    command: str
    dollars_per_hour: float = 0.0
    seconds: float = 0.0
    outcome: str = ""
    changes: int = 0
    calls: int = 0


def planned(settings: Settings, pictures: Path, seed: int, again: bool) -> Iterator[Step]:
    """The steps, in the order in which each needs the one before."""
    anew = " --again" if again else ""
    kind = settings.train.instance_type
    box = pricing.hourly("ec2", settings.ec2.instance_types[0]) + pricing.disk(settings.ec2.disk_gib)
    endpoint = pricing.hourly("sagemaker", settings.endpoint.instance_type, settings.endpoint.instances)
    yield Step("start the local AWS", "sandbox.up")
    yield Step("look around", "doctor")
    yield Step("roles and policies", "iam.apply")
    yield Step("bucket", "data.up")
    yield Step("pictures", f"data.push --dir {shlex.quote(str(pictures))}")
    yield Step("private network", "net.up")
    yield Step("GPU box", "ec2.up", box)
    yield Step("train on the box", "ec2.train" + anew)
    yield Step("train on one host", "sm.train" + anew, pricing.hourly("sagemaker", kind))
    yield Step("train on two hosts", "sm.train --instances 2" + anew, pricing.hourly("sagemaker", kind, 2))
    yield Step("serving image", "sm.image")
    yield Step("deploy release 1", "sm.deploy --once", endpoint + 2 * pricing.alarm())
    yield Step("deploy release 2", "sm.deploy --instances 2")
    yield Step("scale with load", "sm.autoscale")
    yield Step(
        "function in front", "lambda.deploy", pricing.provisioned(settings.fn.provisioned, settings.fn.memory_mb)
    )
    yield Step(f"ask about {SAMPLE} pictures", f"lambda.invoke --sample {SAMPLE} --seed {seed}")
    yield Step("audit", "iam.audit")
    yield Step("ask the model itself", "sm.evaluate --instances 2")


def run(c: invoke.Context, step: Step, number: int, of: int) -> Result:
    """Run one command in this process, parsed by Invoke as if it had been typed. Raises OpsError with where to look."""
    from ops.core.aws.account import Account

    say(f"\n== {number}/{of} {step.name}: invoke {step.command}")
    began, sent = time.monotonic(), Account.sent
    try:
        answer = typed(c, step.command)
    except invoke.Exit as error:
        look = LOOK.get(step.command.split(".")[0], "invoke doctor")
        words = str(error.message or f"it ended with {error.code}")
        raise OpsError(
            f"Step {number}, invoke {step.command}: {words}\nLook further: {look}. Then run invoke demo again: it goes on from what is there.",
            error.code,
        ) from error
    step.seconds, step.calls = round(time.monotonic() - began, 2), Account.sent - sent
    step.changes, step.outcome = answer.changes, first(answer.text)
    return answer


def first(text: str) -> str:
    """What a command said, without its hint at the next one."""
    said = [line for line in text.splitlines() if line.strip() and not line.startswith("Next:")] or ["done"]
    return said[-1].split(" Next: ")[0].split(" --again")[0].split("; ")[0][:96]


def typed(c: invoke.Context, command: str) -> Result:
    from invoke.parser import Parser

    from tasks import ns

    parsed = Parser(contexts=ns.to_contexts()).parse_argv(shlex.split(command))
    return next(iter(Executor(ns, config=c.config).execute(*parsed).values()))


def summary(steps: list[Step], asked: Result, offline: Result, settings: Settings) -> dict[str, Any]:
    """demo.json. What is trained costs while it trains; what stands costs until it is taken down."""
    answers = [
        {
            "picture": a["picture"],
            "truth": a["truth"],
            "answer": a["answer"],
            "offline": offline.data["answers"][a["picture"]],
        }
        for a in asked.data
    ]
    standing = sum(step.dollars_per_hour for step in steps if ".train" not in step.command)
    return {
        "steps": [asdict(step) for step in steps],
        "test_accuracy": {
            "release": asked.data[0]["release"],
            "value": offline.data["accuracy"],
            "pictures": offline.data["pictures"],
        },
        "answers": answers,
        "dollars_per_hour": round(standing, 4),
    }


def good(report: dict[str, Any], own: bool) -> bool:
    agree = all(a["answer"] == a["offline"] for a in report["answers"])
    return agree and (own or report["test_accuracy"]["value"] >= LEAST_ACCURACY)


def shown(report: dict[str, Any], settings: Settings, pictures: Path) -> str:
    rows = [
        (
            s["name"],
            f"{s['seconds']:.1f}",
            s["outcome"],
            f"{s['dollars_per_hour']:.3f}" if s["dollars_per_hour"] else "",
        )
        for s in report["steps"]
    ]
    accuracy, answers = report["test_accuracy"], report["answers"]
    agree = sum(a["answer"] == a["offline"] for a in answers)
    return "\n".join(
        (
            "",
            table(("step", "s", "outcome", "$/h on AWS"), rows),
            "",
            f"accuracy {accuracy['value']:.4f} on the {accuracy['pictures']} test pictures, release {accuracy['release'][:12]}",
            f"{agree} of {len(answers)} answers through Lambda and endpoint are the model's own",
            f"{report['seconds']} s; left standing on AWS it would cost ${report['dollars_per_hour']:.3f} an hour "
            f"(list prices of {pricing.prices()['dated']}, ops/core/pricing.toml)",
            f"written: {relative(REPORT)}",
            "",
            "Next: invoke sm.status            look at the endpoint",
            f"      invoke sm.invoke {any_picture(pictures)}",
            f"      invoke sm.delete --confirm {settings.endpoint_name} lambda.down --yes ec2.down --yes     tear down what costs",
            "      invoke sandbox.down         or stop the whole local AWS",
        )
    )


def any_picture(pictures: Path) -> str:
    """One of the test split, to try the endpoint with."""
    found = next((path for path in sorted((pictures / "test").rglob("*")) if path.is_file()), None)
    return str(relative(found)) if found else "PICTURE"


def relative(path: Path) -> Path:
    """As it would be typed from here, if it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
