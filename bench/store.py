"""The fast, minimal S3 for benchmarks: objects in memory, and the requests that a sync of many files makes.

moto takes about 4 ms of CPU time per PUT, so that 2,000 of them measure moto and not the client; this store takes a
small part of that. It checks no signatures and keeps no versions; both sides of a benchmark use the same store. It also
answers the requests to STS that a command makes before its first one to S3: GetCallerIdentity and AssumeRole.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

ACCOUNT = "123456789012"
PAGE = 1000  # keys in one page of a listing, as in S3
STS = "https://sts.amazonaws.com/doc/2011-06-15/"
CALLER = (
    f'<GetCallerIdentityResponse xmlns="{STS}"><GetCallerIdentityResult>'
    f"<Arn>arn:aws:iam::{ACCOUNT}:user/bench</Arn><UserId>BENCH</UserId><Account>{ACCOUNT}</Account>"
    "</GetCallerIdentityResult></GetCallerIdentityResponse>"
)
ASSUMED = (
    f'<AssumeRoleResponse xmlns="{STS}"><AssumeRoleResult><Credentials><AccessKeyId>ASIABENCH</AccessKeyId>'
    "<SecretAccessKey>bench</SecretAccessKey><SessionToken>bench</SessionToken><Expiration>{expires}</Expiration></Credentials>"
    "<AssumedRoleUser><AssumedRoleId>AROABENCH:{session}</AssumedRoleId>"
    f"<Arn>arn:aws:sts::{ACCOUNT}:assumed-role/{{role}}/{{session}}</Arn></AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>"
)
TO_STS = "POST /"  # no S3 request has this path


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Reply(NamedTuple):
    status: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Object:
    body: bytes
    etag: str
    modified: datetime
    metadata: dict[str, str]

    def headers(self) -> dict[str, str]:
        modified = format_datetime(self.modified, usegmt=True)
        return {"ETag": self.etag, "Last-Modified": modified, **self.metadata}


class Store:
    """The buckets and objects. A bucket exists under every name."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}  # by /BUCKET/KEY
        self.requests: list[str] = []  # METHOD and path of every request since `clear`
        self._tags = itertools.count(1)

    def clear(self) -> None:
        self.objects.clear()
        self.requests.clear()

    def count_s3_requests(self) -> int:
        """Return the number of requests to S3 since `clear`, without those to STS."""
        return sum(line != TO_STS for line in self.requests)

    async def serve(self) -> asyncio.Server:
        """Listen on a free port of the loopback interface."""
        return await asyncio.start_server(self._handle_connection, "127.0.0.1", 0, limit=1 << 20)

    async def _handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await read_request(reader, writer):
                self.requests.append(f"{request.method} {request.path}")
                reply = self.answer(request)
                lines = [f"HTTP/1.1 {reply.status}", *(f"{name}: {value}" for name, value in reply.headers.items())]
                if "Content-Length" not in reply.headers:
                    lines.append(f"Content-Length: {len(reply.body)}")
                writer.write("\r\n".join([*lines, "", ""]).encode() + reply.body)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def answer(self, request: Request) -> Reply:
        bucket, _, key = request.path.lstrip("/").partition("/")
        if request.method == "PUT" and key:
            return self.put(request)
        if request.method == "POST" and not bucket:
            return handle_sts(parse_qs(request.body.decode()))
        if request.method == "GET" and not key:
            return self.list_objects(bucket, request.query)
        if request.method in ("GET", "HEAD") and key:
            return self.get(request)
        return Reply("200 OK", {})  # buckets exist, and may be created

    def put(self, request: Request) -> Reply:
        body, metadata = request.body, {n: v for n, v in request.headers.items() if n.startswith("x-amz-meta-")}
        if "aws-chunked" in request.headers.get("content-encoding", ""):
            body = decode_aws_chunks(body)
        found = self.objects[request.path] = self.build_object(body, metadata)
        return Reply("200 OK", {"ETag": found.etag})

    def build_object(self, body: bytes, metadata: dict[str, str]) -> Object:
        # Any text may be an ETag. An MD5, which S3's servers compute, must not cost time on the client's host.
        return Object(body, f'"{next(self._tags):032x}"', datetime.now(UTC), metadata)

    def get(self, request: Request) -> Reply:
        found = self.objects.get(request.path)
        head = request.method == "HEAD"
        if found is None:
            body = b"" if head else b"<Error><Code>NoSuchKey</Code><Message>There is no such key.</Message></Error>"
            return Reply("404 Not Found", {"Content-Type": "application/xml"}, body)
        if head:
            return Reply("200 OK", found.headers() | {"Content-Length": str(len(found.body))})
        return Reply("200 OK", found.headers(), found.body)

    def list_objects(self, bucket: str, query: dict[str, str]) -> Reply:
        """Answer ListObjectsV2, and ListObjects up to a single page; `delimiter` groups keys."""
        start, prefix = f"/{bucket}/", query.get("prefix", "")
        keys = sorted(path.removeprefix(start) for path in self.objects if path.startswith(start + prefix))
        after = query.get("continuation-token") or query.get("marker", "")
        rows: list[str] = []
        last = ""
        for key in keys:
            if key <= after:
                continue
            if len(rows) == PAGE:
                rows.append("<IsTruncated>true</IsTruncated>")
                rows.append(f"<NextContinuationToken>{escape(last)}</NextContinuationToken>")
                break
            head, cut, _ = key[len(prefix) :].partition(query.get("delimiter") or "\0")
            rows.append(
                self.format_row(start, key)
                if not cut
                else f"<CommonPrefixes><Prefix>{escape(prefix + head + cut)}</Prefix></CommonPrefixes>"
            )
            last = key
        text = f"<ListBucketResult><Name>{bucket}</Name><MaxKeys>{PAGE}</MaxKeys>{''.join(dict.fromkeys(rows))}</ListBucketResult>"
        return Reply("200 OK", {"Content-Type": "application/xml"}, text.encode())

    def format_row(self, start: str, key: str) -> str:
        found = self.objects[start + key]
        modified = found.modified.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return (
            f"<Contents><Key>{escape(key)}</Key><LastModified>{modified}</LastModified><ETag>{escape(found.etag)}</ETag>"
            f"<Size>{len(found.body)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )


def handle_sts(form: dict[str, list[str]]) -> Reply:
    """Answer AssumeRole and GetCallerIdentity, and 501 for any other action."""
    action = form.get("Action", [""])[0]
    kind = {"Content-Type": "text/xml"}
    if action == "GetCallerIdentity":
        return Reply("200 OK", kind, CALLER.encode())
    if action == "AssumeRole":
        role, session = form["RoleArn"][0].rpartition("/")[2], form["RoleSessionName"][0]
        expires = f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
        return Reply(
            "200 OK", kind, ASSUMED.format(role=escape(role), session=escape(session), expires=expires).encode()
        )
    error = f"<Code>NotImplemented</Code><Message>bench/store.py does not support {escape(action) or 'this action'}.</Message>"
    return Reply("501 Not Implemented", kind, f"<ErrorResponse><Error>{error}</Error></ErrorResponse>".encode())


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    """Return the next request of a connection, or None at its end. Answer `Expect: 100-continue`."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "100-continue" in headers.get("expect", "").lower():
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "chunked" in headers.get("transfer-encoding", ""):
        body = await read_chunked_body(reader)
    else:
        body = await reader.readexactly(int(headers.get("content-length") or 0))
    url = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
    return Request(method, unquote(url.path), query, headers, body)


async def read_chunked_body(reader: asyncio.StreamReader) -> bytes:
    """Read a body in HTTP's chunked encoding."""
    found = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        found.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers
    return b"".join(found)


def decode_aws_chunks(body: bytes) -> bytes:
    """Decode aws-chunked data: SIZE[;signature] CRLF DATA CRLF ..., and trailers after the chunk of size 0."""
    found: list[bytes] = []
    place = 0
    while True:
        end = body.index(b"\r\n", place)
        size = int(body[place:end].split(b";")[0], 16)
        if not size:
            return b"".join(found)
        found.append(body[end + 2 : end + 2 + size])
        place = end + 2 + size + 2
