"""The permissions that S3's calls need: for a given version, tags and ACLs given with an object, and what a copy reads."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote

from sandbox.iam.resource_lookup import Context, More, Params, Row, build_row, build_rows
from sandbox.world import World

OBJECT, BUCKET = "arn:aws:s3:::{Bucket}/{Key}", "arn:aws:s3:::{Bucket}"
GRANTS = ("ACL", "GrantFullControl", "GrantRead", "GrantReadACP", "GrantWriteACP")


def resolve_object_arn(world: World, params: Params) -> list[str]:
    return [f"arn:aws:s3:::{params.get('Bucket', '')}/{params.get('Key', '')}"]


def derive_object_tags(world: World, params: Params, arn: str = "") -> Context:
    """Return the tags of an object that is written; a header gives them in the form of a URL's query."""
    found = parse_qsl(str(params.get("Tagging") or ""), keep_blank_values=True)
    named: Context = {f"s3:requestobjecttag/{key.lower()}": value for key, value in found}
    return named | {"s3:requestobjecttagkeys": [key for key, _ in found]} if found else {}


def list_write_needs(world: World, params: Params) -> More:
    """Yield what an ACL or tags given with an object need: the same as when they are set afterwards."""
    (arn,) = resolve_object_arn(world, params)
    if any(params.get(grant) for grant in GRANTS):
        yield "s3:PutObjectAcl", arn, {"s3:x-amz-acl": str(params["ACL"])} if params.get("ACL") else {}
    if params.get("Tagging"):
        yield "s3:PutObjectTagging", arn, derive_object_tags(world, params)


def list_copy_needs(world: World, params: Params) -> More:
    """Yield what a copy needs: the source is BUCKET/KEY in URL encoding, with a version; its tags come along unless replaced."""
    path, _, query = str(params.get("CopySource", "")).partition("?")
    bucket, _, key = unquote(path).lstrip("/").partition("/")
    version = parse_qs(query).get("versionId", [""])[0]
    source = f"arn:aws:s3:::{bucket}/{key}"
    yield ("s3:GetObjectVersion", source, {"s3:versionid": version}) if version else ("s3:GetObject", source, {})
    yield from list_write_needs(world, params)
    if params.get("TaggingDirective") != "REPLACE" and has_object_tags(world, bucket, key, version):
        yield "s3:GetObjectVersionTagging" if version else "s3:GetObjectTagging", source, {}
        yield "s3:PutObjectTagging", resolve_object_arn(world, params)[0], {}


def list_part_copy_needs(world: World, params: Params) -> More:
    """Yield the read of the source only: a part has neither tags nor an ACL, which belong to the upload."""
    yield next(list_copy_needs(world, params))


def has_object_tags(world: World, bucket: str, key: str, version: str) -> bool:
    """Return whether an object, or a version of it, has tags."""
    s3 = world.get_global_backend("s3")
    found = s3.buckets[bucket].keys.getlist(key, []) if bucket in s3.buckets else []
    wanted = [one for one in found if one.version_id == version] if version else found[-1:]
    return any(s3.tagger.get_tag_dict_for_resource(one.arn) for one in wanted)


def build_versioned_row(action: str) -> Row:
    """Return the row of an object action that has another name if the request gives a version."""
    verb, _, rest = action.partition("Object")
    keys = {"s3:VersionId": "VersionId"}
    return build_row(resolve_object_arn, action=f"s3:{action}", versioned=f"s3:{verb}ObjectVersion{rest}", keys=keys)


LISTING = {"s3:prefix": "Prefix", "s3:delimiter": "Delimiter", "s3:max-keys": "MaxKeys"}
WRITING = {
    "s3:x-amz-acl": "ACL",
    "s3:x-amz-copy-source": "CopySource",
    "s3:x-amz-metadata-directive": "MetadataDirective",
    "s3:x-amz-server-side-encryption": "ServerSideEncryption",
    "s3:x-amz-server-side-encryption-aws-kms-key-id": "SSEKMSKeyId",
    "s3:x-amz-storage-class": "StorageClass",
}
PUT: dict[str, Any] = {"action": "s3:PutObject", "keys": WRITING, "context": derive_object_tags}
S3 = {
    **dict.fromkeys(("GetObject", "HeadObject"), build_versioned_row("GetObject")),
    **build_rows("PutObject CreateMultipartUpload", OBJECT, more=list_write_needs, **PUT),
    "CopyObject": build_row(OBJECT, more=list_copy_needs, **PUT),
    "UploadPartCopy": build_row(OBJECT, more=list_part_copy_needs, **PUT),
    **build_rows("UploadPart CompleteMultipartUpload", OBJECT, action="s3:PutObject"),
    "ListParts": build_row(OBJECT, action="s3:ListMultipartUploadParts"),
    "AbortMultipartUpload": build_row(OBJECT),
    **{action: build_versioned_row(action) for action in ("DeleteObject", "GetObjectTagging", "PutObjectTagging")},
    **build_rows("ListObjectsV2 ListObjects HeadBucket", BUCKET, action="s3:ListBucket", keys=LISTING),
    "ListObjectVersions": build_row(BUCKET, action="s3:ListBucketVersions", keys=LISTING),
    "ListMultipartUploads": build_row(BUCKET, action="s3:ListBucketMultipartUploads"),
    **build_rows("CreateBucket DeleteBucket GetBucketPolicy PutBucketPolicy DeleteBucketPolicy GetBucketTagging PutBucketTagging", BUCKET),
    **build_rows("GetBucketVersioning PutBucketVersioning GetBucketAcl PutBucketAcl GetBucketLocation GetBucketPolicyStatus", BUCKET),
    "GetBucketEncryption": build_row(BUCKET, action="s3:GetEncryptionConfiguration"),
    "PutBucketEncryption": build_row(BUCKET, action="s3:PutEncryptionConfiguration"),
    "GetBucketLifecycleConfiguration": build_row(BUCKET, action="s3:GetLifecycleConfiguration"),
    "PutBucketLifecycleConfiguration": build_row(BUCKET, action="s3:PutLifecycleConfiguration"),
    "GetPublicAccessBlock": build_row(BUCKET, action="s3:GetBucketPublicAccessBlock"),
    "PutPublicAccessBlock": build_row(BUCKET, action="s3:PutBucketPublicAccessBlock"),
    "DeletePublicAccessBlock": build_row(BUCKET, action="s3:PutBucketPublicAccessBlock"),
    **build_rows("GetBucketOwnershipControls PutBucketOwnershipControls", BUCKET),
    "ListBuckets": build_row(action="s3:ListAllMyBuckets"),
}  # fmt: skip
