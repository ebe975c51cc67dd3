"""Download a file over as many connections as it takes: each resumes where the previous one ended."""

from __future__ import annotations

import http.client
import json
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ops.core.errors import OpsError
from ops.core.masking import identify_url, strip_url
from ops.core.output import say

CHUNK = 1 << 20
TRIES = 5  # in a row without a single byte
TIMEOUT_S = 30
MOST_BYTES = 100 << 30


class SafeRedirectHandler(urllib.request.HTTPRedirectHandler):
    """The redirect handler that follows http and https, but never from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme not in {"https", urlsplit(req.full_url).scheme}:
            raise OpsError(
                f"{strip_url(req.full_url)} redirects to {strip_url(newurl)}, which is not https. "
                "Nothing was fetched from there. Give its https address."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def build_opener() -> urllib.request.OpenerDirector:
    """Return an opener for http and https alone, through the environment's proxies. Redirects out of https raise OpsError."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        SafeRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def download_file(url: str, place: Path) -> None:
    """Write the file to `place`, resuming from what `place` has of the same version. Raises OpsError."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise OpsError(f"{strip_url(url)} is not an http or https URL.")
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    failed, opener = 0, build_opener()
    while failed < TRIES:
        before = get_file_size(place)
        try:
            if download_once(opener, url, place):
                return
            reason: Exception | str = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 416, 429):
                raise OpsError(f"{strip_url(url)} answers {error.code} {error.reason}. Check the URL.") from error
            if error.code == 416:  # the local part is longer than the file: another version
                place.unlink(missing_ok=True)
            reason = error
        except (OSError, http.client.HTTPException) as error:
            reason = error
        failed = 0 if get_file_size(place) > before else failed + 1
        say(f"  {reason}; resuming at {get_file_size(place) / 1e6:.0f} MB")
        time.sleep(0.2 * 2**failed)
    raise OpsError(f"Cannot download {strip_url(url)}: {reason}. Run the same command again to resume.")


def download_once(opener: urllib.request.OpenerDirector, url: str, place: Path) -> bool:
    """Download over one connection; return whether the file is complete."""
    version = place.with_suffix(".version")
    known = json.loads(version.read_text()) if version.exists() and place.exists() else {}
    have = get_file_size(place) if known.get("url") == identify_url(url) and known.get("tag") else 0
    if have and have == known["bytes"]:
        return True
    request = urllib.request.Request(url, headers={"User-Agent": "kennel", "Accept-Encoding": "identity"})  # noqa: S310
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", known["tag"])  # another version is sent whole, from its start
    with opener.open(request, timeout=TIMEOUT_S) as answer:
        if have and answer.status == 206:
            if not str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-"):
                raise OpsError(
                    f"{strip_url(url)} sent another range than requested: {answer.headers.get('Content-Range')}"
                )
        else:
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        check_disk_space(place, total, have)
        tag = answer.headers.get("ETag", "")
        tag = (
            answer.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
        )  # a weak ETag proves little
        version.write_text(json.dumps({"url": identify_url(url), "tag": tag, "bytes": total}))
        receive_body(answer, place, have, total)
    return total is None or get_file_size(place) == total


def receive_body(answer: Any, place: Path, have: int, total: int | None) -> None:
    last_report = time.monotonic()
    with place.open("r+b" if have else "wb") as file:
        file.seek(have)
        while data := answer.read1(CHUNK):
            file.write(data)
            if time.monotonic() - last_report > 5:
                last_report = time.monotonic()
                say(f"  {file.tell() / 1e6:.0f} of {(total or 0) / 1e6:.0f} MB")
            if file.tell() > (MOST_BYTES if total is None else total):
                raise OpsError("The server sends more bytes than it announced. The download was stopped.")


def check_disk_space(place: Path, total: int | None, have: int) -> None:
    if (total or 0) > MOST_BYTES:
        raise OpsError(f"The file has {(total or 0) / 1e9:.0f} GB; the limit is {MOST_BYTES >> 30} GiB.")
    free = shutil.disk_usage(place.parent).free
    if (total or 0) - have > free:
        raise OpsError(
            f"The download needs {((total or 0) - have) / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free on the disk."
        )


def get_file_size(place: Path) -> int:
    return place.stat().st_size if place.exists() else 0
