"""The whole job as a list of commands, one after another as people type them, and what an administrator does between them.

Every action of iam_policies/ is meant to be asked for by one of them; bench/needed_actions.py records which is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ops.core.errors import INTERRUPTED

PUBLIC = {"ec2": {"way": "public"}, "net": {"own_address": "127.0.0.1"}}
CI, CI_APPLY = ({"aws": {"config_file": "{folder}/ci/config", "profile": name, "take_roles": False}} for name in ("ci", "ci-apply"))  # fmt: skip
MORNING = {"name": "morning", "when": "cron(45 7 ? * MON-FRI *)", "timezone": "Europe/Berlin", "min_instances": 2, "max_instances": 6}  # fmt: skip
SCHEDULE = {"endpoint": {"schedule": [MORNING]}}
CONCURRENCY = {"endpoint": {"scaling_metric": "concurrency"}}
LONG = {"train": {"epochs": 500}}  # never to its end
IMAGE = "/aws/service/deeplearning/ami/x86_64/oss-nvidia-driver-gpu-pytorch-2.12-ubuntu-24.04/latest/ami-id"
UNLIMITED = {"fn": {"reserved": None, "provisioned": 0}}


@dataclass(frozen=True)
class Step:
    """`does` is a command line behind `invoke`, or, with a *, an action of tests/e2e/fault_actions.py.

    `code` is how it ends when all goes well. `settings` are those that this command alone has. `until` are words of its output at
    which Ctrl-C is pressed.
    """

    does: str
    code: int = 0
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    until: str = ""


def steps() -> Iterator[Step]:
    yield from beginning()
    yield from box()
    yield from training()
    yield from serving()
    yield from function()
    yield from roles()
    yield from pipelines()
    yield from ending()


def beginning() -> Iterator[Step]:
    yield Step("iam.apply")
    yield Step("doctor")
    yield Step("data.up")
    yield Step("data.push --dir {digits}")
    yield Step("data.list")
    yield Step("data.verify")
    yield Step("data.pull --dir {folder}/pulled")
    yield Step("net.up")
    yield Step("net.status")


def box() -> Iterator[Step]:
    yield Step("ec2.ami", settings={"ec2": {"ami_parameter": IMAGE}})
    yield Step("ec2.up")
    yield Step("ec2.status")
    yield Step("ec2.reach")
    yield Step("ec2.sync")
    yield Step("ec2.train")
    yield Step("ec2.ps")
    yield Step("ec2.logs")
    yield Step("ec2.stop --yes")
    yield Step("*the box's type is gone")
    yield Step("ec2.start")
    yield Step("*all types are there")
    yield Step("ec2.train", INTERRUPTED, LONG, until="epoch 2/")
    yield Step("ec2.stop --yes")
    yield Step("ec2.down --yes")
    yield Step("ec2.ps")
    yield Step("net.up", settings=PUBLIC)
    yield Step("ec2.up --spot", settings=PUBLIC)
    yield Step("ec2.reach", settings=PUBLIC)
    yield Step("ec2.train", INTERRUPTED, PUBLIC | LONG, until="resuming at")
    yield Step("ec2.down --yes", settings=PUBLIC)
    yield Step("net.up")


def training() -> Iterator[Step]:
    yield Step("sm.train", INTERRUPTED, LONG, until="epoch 2/")
    yield Step("sm.stop {job}")
    yield Step("sm.train", INTERRUPTED, LONG, until="resuming at")
    yield Step("sm.stop {job}")
    yield Step("sm.train")
    yield Step("sm.train --instances 2")
    yield Step("sm.tune")
    yield Step("sm.evaluate")


def serving() -> Iterator[Step]:
    yield Step("sm.image")
    yield Step("*change what serves")
    yield Step("*an administrator changes the image's project by hand")
    yield Step("sm.image")
    yield Step("sm.deploy")
    yield Step("sm.status")
    yield Step("sm.smoke")
    yield Step("sm.deploy --instances 2 --because 'trained on two hosts'")
    yield Step("sm.autoscale", settings=SCHEDULE)
    yield Step("sm.autoscale", settings=CONCURRENCY)
    yield Step("sm.autoscale --explain", settings=CONCURRENCY)
    yield Step("sm.metrics")
    yield Step("sm.logs")
    yield Step("sm.rollback")
    yield Step("sm.releases")
    yield Step("sm.reap")


def function() -> Iterator[Step]:
    yield Step("lambda.deploy")
    yield Step("lambda.invoke --sample 2")
    yield Step("*change the function's code")
    yield Step("lambda.deploy", settings={"fn": {"memory_mb": 512}})
    yield Step("lambda.deploy --because 'a day without a limit'", settings=UNLIMITED)
    yield Step("lambda.status")


def roles() -> Iterator[Step]:
    """As auditor and bootstrap."""
    yield Step("iam.audit")
    yield Step("*a rule opens the network to the world")
    yield Step("*Lambda's console made a role")
    yield Step("*there is no credential report")
    yield Step("iam.audit", code=7)
    yield Step("iam.audit --usage", code=7)
    yield Step("iam.simulate operator s3:GetObject arn:aws:s3:::{bucket}/datasets/x --remote")


def pipelines() -> Iterator[Step]:
    """As ci and ci-apply, then bootstrap."""
    yield Step("*tokens for the pipelines")
    yield Step("*there is no credential report")
    yield Step("iam.audit", code=7, settings=CI)
    yield Step("*the credential report has expired")
    yield Step("iam.audit", code=7, settings=CI)
    yield Step("*the function is closed again")
    yield Step("data.up")
    yield Step("net.up")
    yield Step("*roles are changed by hand")
    yield Step("iam.diff", code=7, settings=CI)
    yield Step("iam.check --remote --role operator", code=7, settings=CI)
    yield Step("iam.apply", settings=CI_APPLY)
    yield Step("*roles are changed by hand")
    yield Step("*a role and a trust are changed by hand")
    yield Step("iam.diff", code=7)
    yield Step("iam.apply")
    yield Step("iam.rollback operator --yes")
    yield Step("iam.apply")
    yield Step("*an unwanted role grows old")
    yield Step("iam.prune --roles old --confirm old")
    yield Step("*the old role's instance profile goes too")
    yield Step("iam.restore {removed}")


def ending() -> Iterator[Step]:
    yield Step("lambda.down --yes")
    yield Step("sm.delete --confirm kennel-rights")
    yield Step("ec2.down --yes")
    yield Step("net.down --yes")
