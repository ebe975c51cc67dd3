"""The whole job as a list of commands, one after another as people type them, and what an administrator does between them.

Every action of iam_policies/ is meant to be asked for by one of them; bench/rights.py records which is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

FREE = "INVOKE_NET_OWN_ADDRESS=127.0.0.1 INVOKE_EC2_WAY=public "
CI = "INVOKE_AWS_TAKE_ROLES=false INVOKE_AWS_CONFIG_FILE={folder}/ci/config "


@dataclass(frozen=True)
class Step:
    """`does` is a command line behind `invoke`, with variables before it; or, with a *, a deed of bench/deeds.py.

    `code` is how it ends when all goes well. `settings` are more of the stack's, in YAML.
    """

    does: str
    code: int = 0
    settings: str = ""


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
    yield Step("data.push --dir {folder}/digits")
    yield Step("data.list")
    yield Step("data.verify")
    yield Step("data.pull --dir {folder}/pulled")
    yield Step("net.up")
    yield Step("net.status")


def box() -> Iterator[Step]:
    yield Step("ec2.ami")
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
    yield Step("ec2.down --yes")
    yield Step(FREE + "net.up")
    yield Step(FREE + "ec2.up --spot")
    yield Step(FREE + "ec2.reach")
    yield Step(FREE + "ec2.down --yes")
    yield Step("net.up")


def training() -> Iterator[Step]:
    yield Step("sm.train --no-wait")
    yield Step("*stop the training job")
    yield Step("sm.train")
    yield Step("sm.train --instances 2")
    yield Step("sm.tune")
    yield Step("sm.evaluate")


def serving() -> Iterator[Step]:
    yield Step("sm.image")
    yield Step("*change what serves")
    yield Step("*the image's project is changed by hand")
    yield Step("sm.image")
    yield Step("sm.deploy")
    yield Step("sm.status")
    yield Step("sm.smoke")
    yield Step("sm.deploy --instances 2 --because 'it has seen more'")
    yield Step("sm.autoscale")
    yield Step("sm.autoscale --explain")
    yield Step("sm.metrics")
    yield Step("sm.logs")
    yield Step("sm.rollback")
    yield Step("sm.releases")
    yield Step("sm.reap")


def function() -> Iterator[Step]:
    yield Step("lambda.deploy")
    yield Step("lambda.invoke --sample 2")
    yield Step("lambda.status")


def roles() -> Iterator[Step]:
    yield Step("iam.audit")
    yield Step("iam.diff")


def pipelines() -> Iterator[Step]:
    yield Step("*tokens for the pipelines")
    yield Step(CI + "INVOKE_AWS_PROFILE=ci iam.diff")


def ending() -> Iterator[Step]:
    yield Step("lambda.down --yes")
    yield Step("sm.delete --confirm kennel-rights")
    yield Step("net.down --yes")
