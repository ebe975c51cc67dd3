"""The workflows, in rings: each leaves the stack where the next one begins."""

import io
import json
import shutil
import zipfile
from functools import partial
from pathlib import Path

from PIL import Image

from ops.core import plan
from ops.core.paths import WORK
from ops.datasets import bucket_setup
from iampolicy.account import snapshot
from ops.iam import apply, roles
from tests.crash.trials import Place, Ring, Workflow

PUBLIC = "ec2: {way: public}\nnet: {own_address: 127.0.0.1}\n"
LIMITS = "fn: {provisioned: 1, reserved: 5}\n"
MEMORY = "fn: {provisioned: 1, reserved: 6, memory_mb: 512}\n"
HANDLER = """
import json
def lambda_handler(event, context):
    answer = {"class": "7", "probability": 1.0, "release": "a" * 64}
    return {"statusCode": 200 if "image" in event else 400, "headers": {}, "body": json.dumps(answer)}
"""
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
        RoleName=settings.build_role_name("auditor"), PolicyArn=roles.derive_policy_arn("auditor", "permissions", settings)
    )


def make_network(place: Place) -> None:
    plant_stack(place)
    made = Workflow("net.up", "ec2").run(place)
    assert made.code == 0, made.said


def package_stand_in() -> None:
    """Deploy a function that answers at once, in the place of lambda/."""
    from ops.function import plan

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("handler.py"), HANDLER)
    plan.package_function = lambda: packed.getvalue()


def write_pictures(folder: Path) -> Path:
    """Write pictures in two classes by three splits, which pack like any other."""
    for split in ("train", "valid", "test"):
        for label, colour in (("cat", 40), ("dog", 200)):
            path = folder / split / label
            path.mkdir(parents=True, exist_ok=True)
            for number in range(2):
                Image.new("RGB", (12, 9), (colour, number * 20, len(split))).save(path / f"{number}.png")
    return folder


def list_rings(folder: Path) -> list[Ring]:
    """Return all rings; `folder` is for the pictures that they push."""
    pictures = write_pictures(folder / "pictures")
    return [
        Ring("roles", [
            Workflow("iam.apply", "iam", prepare=remove_roles, name="iam.apply, new account"),
            Workflow("iam.apply", "iam", prepare=change_roles_by_hand, name="iam.apply, changed by hand"),
        ]),
        Ring("pictures", [
            Workflow("data.up", "s3", prepare=remove_bucket),
            Workflow(f"data.push --dir {pictures}", "s3", name="data.push"),
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
            Workflow("lambda.deploy", "function", settings=LIMITS, replace=package_stand_in),
            Workflow("lambda.deploy", "function", settings=MEMORY, replace=package_stand_in, name="lambda.deploy, more memory"),
            Workflow("lambda.url", "function", settings=MEMORY),
            Workflow("lambda.url --remove --yes", "function", settings=MEMORY, name="lambda.url --remove"),
            Workflow("lambda.concurrency --stop", "function", settings=MEMORY),
            Workflow("lambda.concurrency --resume", "function", settings=MEMORY),
            Workflow("lambda.rollback --to 1", "function", settings=MEMORY, name="lambda.rollback"),
            Workflow("lambda.down --yes", "function", settings=MEMORY, name="lambda.down"),
        ], setup=plant_stack),
        Ring("network", [
            Workflow("net.up", "ec2"),
            Workflow("net.up", "ec2", settings=PUBLIC, name="net.up, public access"),
            Workflow("net.down --yes", "ec2", name="net.down"),
        ], setup=plant_stack),
    ]  # fmt: skip
