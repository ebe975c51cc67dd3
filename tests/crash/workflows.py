"""The workflows, in rings: each leaves the stack where the next one begins."""

import json
import shutil
from functools import partial
from pathlib import Path

from PIL import Image

from iampolicy.account import snapshot
from ops.core import plan
from ops.core.paths import WORK
from ops.datasets import bucket_setup
from ops.iam import apply, roles
from tests.conftest import HOME
from tests.crash import stand_ins
from tests.crash.trials import Place, Ring, Workflow

PUBLIC = "ec2: {way: public}\nnet: {own_address: 127.0.0.1}\n"
LIMITS = "fn: {provisioned: 1, reserved: 5}\n"
MEMORY = "fn: {provisioned: 1, reserved: 6, memory_mb: 512}\n"
OTHER_TYPE = "endpoint: {instance_type: ml.m5.xlarge}\n"
ANY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}]}


def plant_roles(place: Place) -> None:
    """Make the roles with one request to the sandbox, as iam.apply does with fifty."""
    remove_roles(place)
    settings = place.account.settings
    changes = plan.preview(apply.steps(snapshot.Snapshot(), roles.read_roles(settings), settings))
    place.control("iam", calls=[(change.call, change.args) for change in changes if isinstance(change, plan.Change)])


def remove_roles(place: Place) -> None:
    place.control("iam/remove", stack=place.stack)
    shutil.rmtree(WORK / "iam" / place.stack, ignore_errors=True)


def make_bucket(place: Place) -> None:
    steps = partial(bucket_setup.steps, bucket_setup.Facts(), place.account.settings)
    plan.apply(steps, place.account, lambda line: None)


def plant_stack(place: Place) -> None:
    """Roles and bucket."""
    plant_roles(place)
    make_bucket(place)


def remove_bucket(place: Place) -> None:
    s3, bucket = place.account.client("s3"), place.account.bucket
    if not bucket.exists():
        return
    empty_bucket(place)
    s3.delete_bucket(Bucket=bucket.name)


def empty_bucket(place: Place, prefix: str = "") -> None:
    s3, name = place.account.client("s3"), place.account.bucket.name
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name, Prefix=prefix):
        for one in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            s3.delete_object(Bucket=name, Key=one["Key"], VersionId=one["VersionId"])


def change_roles_by_hand(place: Place) -> None:
    """One of each difference that iam.apply repairs: a policy's text, an attachment, an inline policy, tags, a trust."""
    plant_roles(place)
    iam, settings = place.account.client("iam"), place.account.settings
    for stem in ("permissions-data", "permissions-models"):
        arn = roles.derive_policy_arn("operator", stem, settings)
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(ANY), SetAsDefault=True)
    name = settings.build_role_name("lambda-invoke")
    iam.put_role_policy(RoleName=name, PolicyName="extra", PolicyDocument=json.dumps(ANY))
    iam.untag_role(RoleName=name, TagKeys=["kennel:stack"])
    iam.detach_role_policy(
        RoleName=settings.build_role_name("auditor"),
        PolicyArn=roles.derive_policy_arn("auditor", "permissions", settings),
    )


def make_network(place: Place) -> None:
    plant_stack(place)
    made = Workflow("net.up", "ec2").run(place)
    assert made.code == 0, made.said


def plant_old_role(place: Place) -> None:
    """Make a role that Kennel no longer has, with an own policy, a managed one and an instance profile."""
    plant_roles(place)
    account, name = place.account, f"{place.account.settings.prefix}-old"
    iam, settings = account.client("iam"), account.settings
    own = f"arn:aws:iam::{settings.aws.account}:policy{settings.role_path}{name}-own"
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}],
    }
    iam.create_policy(PolicyName=f"{name}-own", Path=settings.role_path, PolicyDocument=json.dumps(ANY))
    iam.create_role(RoleName=name, Path="/old/", AssumeRolePolicyDocument=json.dumps(trust))
    iam.attach_role_policy(RoleName=name, PolicyArn=own)
    iam.attach_role_policy(RoleName=name, PolicyArn=roles.derive_policy_arn("auditor", "permissions", settings))
    iam.put_role_policy(RoleName=name, PolicyName="notes", PolicyDocument=json.dumps(ANY))
    place.control("age", role=name, days=30)
    iam.create_instance_profile(InstanceProfileName=f"{name}-box", Path="/p/")
    iam.add_role_to_instance_profile(InstanceProfileName=f"{name}-box", RoleName=name)


def change_policy(place: Place) -> None:
    """Change a policy by hand and put it right: iam.rollback goes back to the change."""
    plant_roles(place)
    arn = roles.derive_policy_arn("auditor", "permissions", place.account.settings)
    iam = place.account.client("iam")
    wanted = next(role for role in roles.read_roles(place.account.settings) if role.role == "auditor")
    for document in (ANY, wanted.permissions["permissions"].document):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(document), SetAsDefault=True)


def prepare_endpoint(place: Place) -> None:
    make_network(place)
    stand_ins.push_image(place)
    stand_ins.put_models(place)


def prepare_training(place: Place) -> None:
    make_network(place)
    pushed = Workflow("data.push --dir {home}/pictures", "s3").run(place)
    assert pushed.code == 0, pushed.said


def begin_image(place: Place) -> None:
    """Take another stack: the sandbox deletes no project of CodeBuild."""
    remove_roles(place)
    remove_bucket(place)
    name = place.stack.rstrip("0123456789")
    place.rename(f"{name}{int(place.stack[len(name) :] or 0) + 1}")
    plant_stack(place)
    stand_ins.remove_image(place)


def forget_jobs(place: Place) -> None:
    """Delete the code of an earlier job, so that it is sent again."""
    empty_bucket(place, "code/")


def write_pictures(folder: Path) -> Path:
    """Write pictures in two classes by three splits, which pack like any other."""
    for split in ("train", "valid", "test"):
        for label, colour in (("cat", 40), ("dog", 200)):
            path = folder / split / label
            path.mkdir(parents=True, exist_ok=True)
            for number in range(2):
                Image.new("RGB", (12, 9), (colour, number * 20, len(split))).save(path / f"{number}.png")
    return folder


def list_rings() -> list[Ring]:
    """Return all rings, and write the files that they send."""
    write_pictures(HOME / "pictures")
    stand_ins.write_files()
    return [
        Ring("roles", [
            Workflow("iam.apply", "iam", prepare=remove_roles, name="iam.apply, new account", alone=True, long=True),
            Workflow("iam.apply", "iam", prepare=change_roles_by_hand, name="iam.apply, changed by hand", alone=True),
        ]),
        Ring("old", [
            Workflow("iam.prune --roles {prefix}-old --confirm {prefix}-old", "iam", prepare=plant_old_role, name="iam.prune"),
            Workflow("iam.restore {removed} --confirm {prefix}-old", "iam", name="iam.restore"),
            Workflow("iam.rollback --role auditor --yes", "iam", prepare=change_policy, name="iam.rollback", alone=True),
        ]),
        Ring("pictures", [
            Workflow("data.up", "s3", prepare=remove_bucket),
            Workflow("data.push --dir {home}/pictures", "s3", name="data.push"),
        ], setup=plant_roles),
        Ring("box", [
            Workflow("ec2.up", "ec2"),
            Workflow("ec2.stop --yes", "ec2", name="ec2.stop"),
            Workflow("ec2.start", "ec2"),
            Workflow("ec2.down --yes", "ec2", name="ec2.down"),
        ], setup=make_network),
        Ring("spot", [
            Workflow("ec2.up --spot", "ec2"),
            Workflow("ec2.down --yes", "ec2", name="ec2.down, on spot"),
        ], setup=make_network),
        Ring("function", [
            Workflow("lambda.deploy", "function", settings=LIMITS, replace=stand_ins.package_handler),
            Workflow("lambda.deploy", "function", settings=MEMORY, replace=stand_ins.package_handler, name="lambda.deploy, more memory"),
            Workflow("lambda.url", "function", settings=MEMORY),
            Workflow("lambda.url --remove --yes", "function", settings=MEMORY, name="lambda.url --remove"),
            Workflow("lambda.concurrency --stop", "function", settings=MEMORY),
            Workflow("lambda.concurrency --resume", "function", settings=MEMORY),
            Workflow("lambda.rollback --to 1", "function", settings=MEMORY, name="lambda.rollback"),
            Workflow("lambda.down --yes", "function", settings=MEMORY, name="lambda.down"),
        ], setup=plant_stack),
        Ring("endpoint", [
            Workflow("sm.deploy --job {prefix}-sm1-one", "endpoint s3", prepare=stand_ins.forget_releases, replace=stand_ins.package_release, name="sm.deploy"),
            Workflow("sm.autoscale", "endpoint s3"),
            Workflow("sm.deploy --job {prefix}-sm1-two --because tested", "endpoint s3", replace=stand_ins.package_release, name="sm.deploy, a second release"),
            Workflow("sm.rollback --to {first}", "endpoint s3", replace=stand_ins.package_release, name="sm.rollback"),
            Workflow("sm.deploy --job {prefix}-sm1-one", "endpoint s3", settings=OTHER_TYPE, replace=stand_ins.package_release, name="sm.deploy, another instance type"),
            Workflow("sm.delete --confirm {prefix}", "endpoint s3", name="sm.delete"),
        ], setup=prepare_endpoint),
        Ring("training", [
            Workflow("sm.train --no-wait", "jobs s3", prepare=forget_jobs, replace=stand_ins.send_sleeping_code, name="sm.train"),
            Workflow("sm.stop {job}", "jobs s3", name="sm.stop"),
        ], setup=prepare_training),
        Ring("image", [
            Workflow("sm.image", "images s3", prepare=begin_image, replace=stand_ins.build_small_image),
        ]),
        Ring("network", [
            Workflow("net.up", "ec2"),
            Workflow("net.up", "ec2", settings=PUBLIC, name="net.up, public access"),
            Workflow("net.down --yes", "ec2", name="net.down"),
        ], setup=plant_stack),
    ]  # fmt: skip
