"""What bench.data measures with: the line is as long and as narrow as it says, and what passes arrives whole."""

import os
import time
import urllib.error
import urllib.request
import zlib

import pytest

from bench import data as bench
from bench.store import ACCOUNT, decode_aws_chunks, handle_sts
from ops.datasets.image_check import inspect_image

MB = os.urandom(1 << 20)


@pytest.fixture
def line(tmp_path):
    with bench.open_linked_stores(tmp_path, tmp_path, tmp_path, (bench.MBIT_100,)) as (made,):
        yield made


def ask(line, method, path, body=None, **headers):
    """(seconds, status, body)"""
    request = urllib.request.Request(line.url + path, body, headers, method=method)
    began = time.monotonic()
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
            got = answer.read()
            return time.monotonic() - began, answer.status, got
    except urllib.error.HTTPError as error:
        return time.monotonic() - began, error.code, error.read()


def test_new_connection_takes_one_more_round_trip(line):
    """A request takes two round trips, of which one is the connection."""
    took, status, _ = ask(line, "HEAD", "/b/none")
    assert status == 404
    assert 0.04 <= took < 1


def test_transfer_takes_its_time_at_the_line_rate(line):
    """A megabyte takes its time in both directions, and arrives complete."""
    wire = len(MB) / bench.MBIT_100
    up, _, _ = ask(line, "PUT", "/b/k", MB)
    down, _, got = ask(line, "GET", "/b/k")
    assert got == MB
    assert up >= wire
    assert down >= wire


def test_listing_has_1000_keys_per_page(line):
    for number in range(1001):
        line.store.objects[f"/b/{number:04d}"] = line.store.build_object(b"", {})
    _, _, first = ask(line, "GET", "/b?list-type=2")
    assert first.count(b"<Key>") == 1000
    assert b"<NextContinuationToken>0999<" in first
    _, _, rest = ask(line, "GET", "/b?list-type=2&continuation-token=0999")
    assert rest.count(b"<Key>") == 1
    assert b"<IsTruncated>" not in rest


def test_chunked_bodies_are_joined(line):
    assert (
        decode_aws_chunks(b"3;chunk-signature=x\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32:AA==\r\n\r\n")
        == b"abcde"
    )


def test_sts_answers_only_assume_role_and_caller_identity(line):
    _, status, body = ask(
        line, "POST", "/", b"Action=AssumeRole&RoleArn=arn:aws:iam::1:role/kennel/x&RoleSessionName=me"
    )
    assert status == 200
    assert f"<Arn>arn:aws:sts::{ACCOUNT}:assumed-role/x/me</Arn>".encode() in body
    assert ACCOUNT.encode() in ask(line, "POST", "/", b"Action=GetCallerIdentity")[2]
    assert handle_sts({"Action": ["GetFederationToken"]}).status == "501 Not Implemented"
    assert line.store.count_s3_requests() == 0
    ask(line, "HEAD", "/b/none")
    assert line.store.count_s3_requests() == 1


def test_pictures_are_valid_and_do_not_compress(tmp_path):
    bench.draw_pictures(tmp_path, 20)
    paths = sorted(tmp_path.rglob("*.png"))
    assert len(paths) == 20
    assert [inspect_image(path).fault for path in paths] == [""] * 20
    assert len(zlib.compress(b"".join(path.read_bytes() for path in paths))) > 0.98 * sum(
        path.stat().st_size for path in paths
    )
