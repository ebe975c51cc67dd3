"""Which data set is current: one HEAD request on its pointer, whose metadata carries the digest.

To load the SDK takes longer than all the rest of a push without news. So each push leaves a signed link beside its notes,
with which the next one asks S3 by itself. The link is the right to ask this one question for some hours; the answer is S3's, of
that moment, and nothing that the notes beside it do not tell as well. Where it does not serve, the SDK asks.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ops.core.errors import AwsError
from ops.core.paths import ROOT
from ops.datasets import manifest

if TYPE_CHECKING:
    from ops.core.aws.account import Account
    from ops.core.settings import Settings

HOURS = 12
TIMEOUT_S = 5

Digest = str | None  # "" of a pointer without one, None where there is no pointer or no bucket


def asked(account: Account) -> Digest:
    """By the SDK. Raises OpsError when the account is not the settings', Refused."""
    settings = account.settings
    key = manifest.pointer_key(settings.data.name)
    try:
        found = account.call_or_none("s3", "head_object", "404|NoSuchKey|NoSuchBucket", Bucket=settings.bucket, Key=key)
    except AwsError:
        account.guard()  # a stranger's bucket is refused too, and then the account is what is wrong
        raise
    return None if found is None else found["Metadata"].get("digest", "")


def link(account: Account) -> dict[str, Any]:
    """A question that can be asked without the SDK, by this profile, as its files are now."""
    settings = account.settings
    wanted = {"Bucket": settings.bucket, "Key": manifest.pointer_key(settings.data.name)}
    url = account.client("s3").generate_presigned_url("head_object", Params=wanted, ExpiresIn=HOURS * 3600)
    return {"url": url, "until": time.time() + HOURS * 3600 - 60, "asker": asker(settings)}


def asker(settings: Settings) -> list[Any]:
    """Who asks, and whom: another profile, key or endpoint is another asker."""
    home = Path("~/.aws").expanduser()
    named = settings.aws.config_file
    files = [
        ROOT / named if named else Path(os.environ.get("AWS_CONFIG_FILE") or home / "config"),
        Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials"),
    ]
    states = [path.stat() if path.is_file() else None for path in files]
    return [
        settings.bucket,
        settings.data.name,
        settings.aws.profile,
        *([str(path), state and state.st_mtime_ns] for path, state in zip(files, states, strict=True)),
    ]


def begin(noted: dict[str, Any], settings: Settings) -> Callable[[], Digest] | None:
    """Ask with a link from before, in a thread: files can be looked at meanwhile. None when the link is not of use.

    What is returned waits for the answer; it raises OSError when there is none that counts.
    """
    if not noted or noted["until"] < time.time() or noted["asker"] != asker(settings):
        return None
    if urlsplit(noted["url"]).scheme == "https" and any(
        name.lower() in ("https_proxy", "all_proxy") for name in os.environ
    ):
        return None  # the SDK knows the way through a proxy
    answers: list[Digest] = []

    def ask() -> None:
        with contextlib.suppress(OSError):
            answers.append(head(noted["url"]))

    def answer() -> Digest:
        thread.join()
        if not answers:
            raise OSError("no answer")
        return answers[0]

    # A daemon: an error found in the folder is told at once, whether S3 has answered or not.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return answer


def head(url: str) -> Digest:
    """Raises OSError for any answer but 200 and 404."""
    import http.client

    place = urlsplit(url)
    kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    connection = kind(place.netloc, timeout=TIMEOUT_S)
    try:
        connection.request("HEAD", f"{place.path}?{place.query}")
        answer = connection.getresponse()
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise OSError(f"{answer.status} {answer.reason}")
    return answer.headers.get("x-amz-meta-digest", "")
