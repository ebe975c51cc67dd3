"""The stack's bucket: every object that commands read or write goes through here."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from ops.core.aws.errors import find_request_id

if TYPE_CHECKING:
    from ops.core.aws.account import Account

# HEAD requests have no body, so S3 reports a missing object or bucket by the status alone.
MISSING = "404|NoSuchKey|NoSuchBucket"


class Bucket:
    """One bucket of one account. Methods raise AwsError when S3 refuses a request.

    A missing object is None for `head`, `checksum` and the methods named ..._or_none.
    """

    def __init__(self, account: Account, name: str) -> None:
        self.account, self.name = account, name

    def exists(self) -> bool:
        return self.account.call_or_none("s3", "head_bucket", MISSING, Bucket=self.name) is not None

    def head(self, key: str) -> dict[str, Any] | None:
        """Return S3's description of the object (ContentLength, Metadata, LastModified, ...), or None."""
        found: dict[str, Any] | None = self.account.call_or_none(
            "s3", "head_object", MISSING, Bucket=self.name, Key=key
        )
        return found

    def checksum(self, key: str) -> str | None:
        """Return the object's SHA-256 as S3 writes it, in base64; None without the object or the checksum."""
        where = {"Bucket": self.name, "Key": key, "ChecksumMode": "ENABLED"}
        found = self.account.call_or_none("s3", "head_object", MISSING, **where)
        return found.get("ChecksumSHA256") if found else None

    def has(self, key: str) -> bool:
        return self.head(key) is not None

    def get(self, key: str) -> bytes:
        """Return the whole object. Raises AwsError when it is missing."""
        body: bytes = self.open(key).read()
        return body

    def get_object_or_none(self, key: str) -> bytes | None:
        body = self.open_object_or_none(key)
        return None if body is None else body.read()

    def open(self, key: str) -> Any:
        """Return botocore's stream of the object, for objects too large for memory. Raises AwsError when it is missing."""
        return self.account.call("s3", "get_object", Bucket=self.name, Key=key)["Body"]

    def open_object_or_none(self, key: str) -> Any:
        found = self.account.call_or_none("s3", "get_object", MISSING, Bucket=self.name, Key=key)
        return None if found is None else found["Body"]

    def put(self, key: str, body: Any, sha256: str = "", **more: Any) -> None:
        """Store bytes or an open file with a SHA-256 that S3 checks; `more` are arguments of put_object, such as Metadata.

        With `sha256`, in hex, the body is not hashed again.
        """
        if sha256:
            more["ChecksumSHA256"] = base64.b64encode(bytes.fromhex(sha256)).decode()
        where = {"Bucket": self.name, "Key": key}
        with self.account.record("s3.put_object", f"upload {key}", where) as entry:
            answer = self.account.call("s3", "put_object", **where, Body=body, ChecksumAlgorithm="SHA256", **more)
            entry["request"] = find_request_id(answer)

    def objects(self, prefix: str) -> list[dict[str, Any]]:
        """List the objects below the prefix: Key, Size, LastModified, ETag."""
        return self.account.list_all("s3", "list_objects_v2", "Contents", Bucket=self.name, Prefix=prefix)

    def keys(self, prefix: str) -> list[str]:
        return [item["Key"] for item in self.objects(prefix)]

    def folders(self, prefix: str) -> list[str]:
        """List the prefixes one level below, each with its closing slash."""
        pages = self.account.list_all(
            "s3", "list_objects_v2", "CommonPrefixes", Bucket=self.name, Prefix=prefix, Delimiter="/"
        )
        return [item["Prefix"] for item in pages]

    def presign(self, call: str, key: str, seconds: int) -> str:
        """Return a URL with which anyone may make this one call (`get_object`, `put_object`) for `seconds`."""
        where = {"Bucket": self.name, "Key": key}
        return str(self.account.client("s3").generate_presigned_url(call, Params=where, ExpiresIn=seconds))
