"""The bucket's configuration, and the changes that make it private, encrypted, versioned and HTTPS only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ops.core.aws.account import Account
from ops.core.plan import Change, Steps
from ops.core.settings import Settings

OLD_VERSION_DAYS = 30
CHECKPOINT_DAYS = 30  # checkpoints are deleted after this time


@dataclass(frozen=True)
class Facts:
    """The bucket's configuration: None for a part that was never set, and for all parts without a bucket."""

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
        },
        {
            "ID": "kennel-checkpoints",
            "Status": "Enabled",
            "Filter": {"Prefix": "checkpoints/"},
            "Expiration": {"Days": CHECKPOINT_DAYS},
        },
    ]
}


def facts(account: Account) -> Facts:
    bucket = account.settings.bucket
    if not account.bucket.exists():
        return Facts()

    def read_part(call: str, key: str, missing: str) -> Any:
        answer = account.call_or_none("s3", call, missing, Bucket=bucket)
        return answer.get(key) if answer else None

    policy = read_part("get_bucket_policy", "Policy", "NoSuchBucketPolicy")
    return Facts(
        True,
        read_part("get_public_access_block", "PublicAccessBlockConfiguration", "NoSuchPublicAccessBlockConfiguration"),
        read_part(
            "get_bucket_encryption",
            "ServerSideEncryptionConfiguration",
            "ServerSideEncryptionConfigurationNotFoundError",
        ),
        read_part("get_bucket_versioning", "Status", "NoSuchBucket"),
        json.loads(policy) if policy else None,
        read_part("get_bucket_lifecycle_configuration", "Rules", "NoSuchLifecycleConfiguration"),
        read_part("get_bucket_tagging", "TagSet", "NoSuchTagSet"),
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
        yield change("create_bucket", "create the bucket", **where)
    if have.public_access != PRIVATE:
        yield change("put_public_access_block", "block public access", PublicAccessBlockConfiguration=PRIVATE)
    if not is_encrypted(have.encryption):
        yield change("put_bucket_encryption", "encrypt objects by default", ServerSideEncryptionConfiguration=ENCRYPTED)
    if have.versioning != "Enabled":
        yield change(
            "put_bucket_versioning",
            "turn on versioning, so that deleted objects can be restored",
            VersioningConfiguration={"Status": "Enabled"},
        )
    if have.policy != build_tls_only_policy(bucket):
        yield change("put_bucket_policy", "require HTTPS", Policy=json.dumps(build_tls_only_policy(bucket)))
    if not has_lifecycle_rules(have.lifecycle):
        yield change(
            "put_bucket_lifecycle_configuration",
            "expire unfinished uploads, old versions and checkpoints",
            LifecycleConfiguration=TIDY,
        )
    if not has_same_tags(have.tags, settings.tags(bucket)):
        yield change("put_bucket_tagging", "set its tags", Tagging={"TagSet": settings.tags(bucket)})


def build_tls_only_policy(bucket: str) -> dict[str, Any]:
    statement = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def is_encrypted(have: Any) -> bool:
    """Return whether objects are encrypted by default; an operator's own KMS key counts as well."""
    return bool(have) and all(
        rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm") for rule in have["Rules"]
    )


def has_lifecycle_rules(have: Any) -> bool:
    enabled = {rule.get("ID") for rule in have or [] if rule["Status"] == "Enabled"}
    return {rule["ID"] for rule in TIDY["Rules"]} <= enabled


def has_same_tags(have: Any, want: list[dict[str, str]]) -> bool:
    return {t["Key"]: t["Value"] for t in have or []} == {t["Key"]: t["Value"] for t in want}
