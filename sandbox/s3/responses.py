"""The S3 calls that moto gets wrong: checksums that do not match, documents that AWS refuses, and what a new bucket begins with."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import xmltodict
from moto.s3.exceptions import InvalidBucketName, InvalidContinuationToken, MalformedXML, S3ClientError
from moto.s3.models import FakeBucket, PublicAccessBlock
from moto.s3.responses import S3Response
from moto.s3.utils import compute_checksum

BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# moto computes these without further libraries; others are stored unchecked.
CHECKED = ("CRC32", "SHA1", "SHA256")
CONDITIONAL = threading.Lock()
AES256 = {"Rule": {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": "false"}}


class S3(S3Response):
    def _bucket_response_put(self, request: Any, bucket_name: str, querystring: dict[str, Any]) -> Any:
        if "policy" in querystring:
            validate_policy(self.body)
        elif "versioning" in querystring:
            validate_versioning(self.body)
        elif "encryption" in querystring:
            validate_encryption(self.body)
        elif not querystring.keys() - {"x-id"}:
            return self._create_bucket(request, bucket_name, querystring)
        return super()._bucket_response_put(request, bucket_name, querystring)

    def _create_bucket(self, request: Any, name: str, querystring: dict[str, Any]) -> Any:
        if not BUCKET_NAME.fullmatch(name):
            raise InvalidBucketName()
        exists = name in self.backend.buckets
        response = super()._bucket_response_put(request, name, querystring)
        if not exists:
            protect_new_bucket(self.backend.buckets[name])
        return response

    def put_object(self) -> Any:
        """Store an object; If-Match and If-None-Match hold until it is stored, where moto would let two requests pass."""
        with CONDITIONAL:
            return super().put_object()

    def list_objects_v2(self) -> Any:
        try:
            return super().list_objects_v2()
        except TypeError:  # moto looks an unknown token up as None
            raise InvalidContinuationToken() from None

    def _get_checksum(self, response_headers: dict[str, Any]) -> tuple[str, str | None]:
        """Return (algorithm, value) of the object's checksum. Raises S3ClientError if its data have another one."""
        algorithm, value = super()._get_checksum(response_headers)
        for name in [algorithm] if algorithm else CHECKED:
            given = self.headers.get(f"x-amz-checksum-{name.lower()}") or (value if name == algorithm else None)
            if not given or name not in CHECKED:
                continue
            if compute_checksum(self.body or b"", name).decode() != given:
                raise S3ClientError("BadDigest", f"The {name} you specified did not match the calculated checksum.")
            response_headers |= {f"x-amz-checksum-{name.lower()}": given, "x-amz-checksum-type": "FULL_OBJECT"}
            return name, given
        return algorithm, value


def protect_new_bucket(bucket: FakeBucket) -> None:
    """Give a new bucket what AWS gives it: no public access, no ACLs, and encryption with S3's own keys."""
    bucket.public_access_block = PublicAccessBlock(True, True, True, True)
    bucket.encryption = AES256
    bucket.ownership_rule = bucket.ownership_rule or "BucketOwnerEnforced"  # type: ignore[assignment]


def validate_policy(body: bytes | str) -> None:
    """Raise S3ClientError unless the policy is a JSON object with a Statement."""
    try:
        policy = json.loads(body)
    except ValueError:
        policy = None
    if not isinstance(policy, dict):
        raise S3ClientError("MalformedPolicy", "Policies must be valid JSON and the first byte must be '{'")
    if "Statement" not in policy:
        raise S3ClientError("MalformedPolicy", "Missing required field Statement")


def validate_versioning(body: bytes | str) -> None:
    if parse_document(body, "VersioningConfiguration").get("Status") not in ("Enabled", "Suspended"):
        raise MalformedXML()


def validate_encryption(body: bytes | str) -> None:
    """Raise MalformedXML unless the document has one rule."""
    if not isinstance(parse_document(body, "ServerSideEncryptionConfiguration").get("Rule"), dict):
        raise MalformedXML()


def parse_document(body: bytes | str, root: str) -> dict[str, Any]:
    try:
        found = xmltodict.parse(body)[root]
    except (xmltodict.expat.ExpatError, KeyError):
        raise MalformedXML() from None
    return found if isinstance(found, dict) else {}
