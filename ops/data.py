"""Pictures and the bucket they live in: made safe, packed, pushed, verified."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops import dataset
from ops.aws import Account
from ops.change import Change, Steps
from ops.cli import Answer, carry_out, say, task
from ops.config import Settings
from ops.errors import FINDINGS, OpsError

UPLOADS_AT_ONCE = 8
OLD_VERSION_DAYS = 30


@dataclass(frozen=True)
class Facts:
    """What the bucket has; None for what was never set, everything None when there is no bucket."""

    exists: bool = False
    public_access: Any = None
    encryption: Any = None
    versioning: Any = None
    policy: Any = None
    lifecycle: Any = None
    tags: Any = None


PRIVATE = {"BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True, "RestrictPublicBuckets": True}
ENCRYPTED = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
TIDY = {
    "Rules": [
        {
            "ID": "kennel-tidy",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
            "NoncurrentVersionExpiration": {"NoncurrentDays": OLD_VERSION_DAYS},
        }
    ]
}


def facts(account: Account) -> Facts:
    bucket = account.settings.bucket
    if account.find("s3", "head_bucket", "404|NoSuchBucket", Bucket=bucket) is None:
        return Facts()

    def ask(call: str, key: str, missing: str) -> Any:
        answer = account.find("s3", call, missing, Bucket=bucket)
        return answer.get(key) if answer else None

    policy = ask("get_bucket_policy", "Policy", "NoSuchBucketPolicy")
    return Facts(
        True,
        ask("get_public_access_block", "PublicAccessBlockConfiguration", "NoSuchPublicAccessBlockConfiguration"),
        ask(
            "get_bucket_encryption",
            "ServerSideEncryptionConfiguration",
            "ServerSideEncryptionConfigurationNotFoundError",
        ),
        ask("get_bucket_versioning", "Status", "NoSuchBucket"),
        json.loads(policy) if policy else None,
        ask("get_bucket_lifecycle_configuration", "Rules", "NoSuchLifecycleConfiguration"),
        ask("get_bucket_tagging", "TagSet", "NoSuchTagSet"),
    )


def steps(have: Facts, settings: Settings) -> Steps:
    bucket = settings.bucket

    def change(call: str, why: str, **args: Any) -> Change:
        return Change("s3", call, {"Bucket": bucket, **args}, why=f"{bucket}: {why}")

    if not have.exists:
        where = (
            {}
            if settings.aws.region == "us-east-1"
            else {"CreateBucketConfiguration": {"LocationConstraint": settings.aws.region}}
        )
        yield change("create_bucket", "there is no bucket", **where)
    if have.public_access != PRIVATE:
        yield change("put_public_access_block", "public access is not blocked", PublicAccessBlockConfiguration=PRIVATE)
    if not encrypted(have.encryption):
        yield change(
            "put_bucket_encryption", "objects are not encrypted by default", ServerSideEncryptionConfiguration=ENCRYPTED
        )
    if have.versioning != "Enabled":
        yield change(
            "put_bucket_versioning",
            "deleted objects could not be brought back",
            VersioningConfiguration={"Status": "Enabled"},
        )
    if have.policy != tls_only(bucket):
        yield change("put_bucket_policy", "it can be read without TLS", Policy=json.dumps(tls_only(bucket)))
    if not tidied(have.lifecycle):
        yield change(
            "put_bucket_lifecycle_configuration",
            "unfinished uploads and old versions stay for ever",
            LifecycleConfiguration=TIDY,
        )
    if not same_tags(have.tags, settings.tags(bucket)):
        yield change("put_bucket_tagging", "its tags differ", Tagging={"TagSet": settings.tags(bucket)})


def tls_only(bucket: str) -> dict[str, Any]:
    statement = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def encrypted(have: Any) -> bool:
    """A key of KMS, set by somebody who knows why, is as good as ours."""
    return bool(have) and all(
        rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm") for rule in have["Rules"]
    )


def tidied(have: Any) -> bool:
    return any(rule.get("ID") == "kennel-tidy" and rule["Status"] == "Enabled" for rule in have or [])


def same_tags(have: Any, want: list[dict[str, str]]) -> bool:
    return {t["Key"]: t["Value"] for t in have or []} == {t["Key"]: t["Value"] for t in want}


@task()
def up(c):
    """Make the bucket: private, encrypted, versioned, TLS only."""
    account = Account.of(c)
    account.guard()
    done = carry_out(c, account, steps(facts(account), account.settings))
    return Answer(
        done.data | {"bucket": account.settings.bucket}, f"{account.settings.bucket}. {done.text}", changes=done.changes
    )


@task(
    help={
        "dir": "Folder with train/, valid/ and test/; data.dir of the settings by default.",
        "skip_bad": "Leave unreadable pictures out.",
        "json": "Print the manifest's summary as JSON.",
    }
)
def push(c, dir="", skip_bad=False, json=False):
    """Pack the pictures and upload what is not in the bucket yet."""
    from ops import config

    account = Account.of(c)
    pictures = readable(
        dataset.survey(Path(dir).expanduser() if dir else config.below_root(account.settings.data.dir)), skip_bad
    )
    account.guard()
    if not facts(account).exists:
        raise OpsError(f"There is no bucket {account.settings.bucket}. Make it: invoke data.up")
    manifest, sent = upload(account, pictures, dry=c.config.run.dry)
    summary = {
        "name": manifest["name"],
        "digest": manifest["digest"],
        "classes": len(manifest["classes"]),
        "pictures": manifest["pictures"],
        "uploaded": sent,
    }
    verb = "would be uploaded" if c.config.run.dry else "uploaded"
    total = sum(manifest["pictures"].values())
    text = f"{manifest['name']} {manifest['digest'][:12]}: {total} pictures of {len(manifest['classes'])} classes, {sent} objects {verb}."
    return Answer(summary, text, changes=0 if c.config.run.dry else sent)


def readable(pictures: list[dataset.Picture], skip_bad: bool) -> list[dataset.Picture]:
    bad = dataset.unreadable(pictures)
    for picture, why in bad:
        say(f"unreadable: {picture.path}: {why}")
    if bad and not skip_bad:
        raise OpsError(
            f"{len(bad)} of {len(pictures)} pictures cannot be read. Mend them, or leave them out: --skip-bad. Nothing was uploaded."
        )
    left_out = {picture for picture, _ in bad}
    return [picture for picture in pictures if picture not in left_out]


def upload(account: Account, pictures: list[dataset.Picture], dry: bool) -> tuple[dict[str, Any], int]:
    """Send the shards that are missing, then the manifest, and last the pointer to it; a crash leaves the old set current.

    Returns (manifest, number of objects sent; under `dry`, that would be).
    """
    settings = account.settings
    there = {
        item["Key"]
        for item in account.pages("s3", "list_objects_v2", "Contents", Bucket=settings.bucket, Prefix="shards/")
    }
    say(f"Packing {len(pictures)} pictures ...")

    def send(shard: dataset.Shard) -> tuple[dict[str, Any], int]:
        missing = shard.key not in there
        if missing and not dry:
            put(account, shard.key, shard.data)
        return {
            "split": shard.split,
            "class": shard.label,
            "sha256": shard.sha256,
            "bytes": len(shard.data),
            "files": list(shard.files),
        }, missing

    entries, sent = [], 0
    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
        for entry, missing in pool.map(send, dataset.shards(pictures, settings.data.shard_mb << 20)):
            entries.append(entry)
            sent += missing
    manifest = dataset.manifest_of(settings.data.name, entries)
    folder = dataset.folder_key(settings.data.name, manifest["digest"])
    listing = json.dumps(dataset.channel(settings.bucket, manifest))
    pointer = json.dumps({"digest": manifest["digest"]})
    for key, text in (
        (f"{folder}/manifest.json", json.dumps(manifest)),
        (f"{folder}/channel.json", listing),
        (f"datasets/{settings.data.name}/current.json", pointer),
    ):
        if content(account, key) != text:
            sent += 1
            if not dry:
                put(account, key, text.encode())
    return manifest, sent


def content(account: Account, key: str) -> str | None:
    found = account.find("s3", "get_object", "NoSuchKey|NoSuchBucket", Bucket=account.settings.bucket, Key=key)
    return found["Body"].read().decode() if found else None


def put(account: Account, key: str, data: bytes) -> None:
    """S3 checks the SHA-256 on arrival."""
    account.call("s3", "put_object", Bucket=account.settings.bucket, Key=key, Body=data, ChecksumAlgorithm="SHA256")


@task(help={"json": "Print it as JSON."})
def verify(c, json=False):
    """Read every shard of the current data set and compare it with the manifest."""
    account = Account.of(c)
    manifest = dataset.current(account)
    bad = []
    for sha in sorted({shard["sha256"] for shard in manifest["shards"]}):
        found = account.find("s3", "get_object", "NoSuchKey", Bucket=account.settings.bucket, Key=f"shards/{sha}.tar")
        if found is None or hashlib.sha256(found["Body"].read()).hexdigest() != sha:
            bad.append(sha)
    text = (
        f"{manifest['name']} {manifest['digest'][:12]}: {len(manifest['shards'])} shards, {len(bad)} missing or spoilt."
    )
    if bad:
        text += " Send them again: delete them in the bucket, then invoke data.push"
    return Answer(
        {"digest": manifest["digest"], "shards": len(manifest["shards"]), "bad": bad}, text, code=FINDINGS if bad else 0
    )
