"""Read the pictures of a model's worst mistakes from the dataset's shards, and decode them as untrusted input."""

from __future__ import annotations

import tarfile

from PIL import Image

from imaging import PictureError, decode_picture
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.datasets import local_shards
from ops.datasets.manifest import SHA256, read_manifest
from ops.reports.results import Picture, Results

BYTES = 32 << 20  # the largest picture file that is drawn: a larger one is an attack, not a photograph


def fetch_wanted_pictures(account: Account, found: Results, wanted: list[Picture]) -> tuple[dict[str, bytes], str]:
    """Return the wanted test pictures' files by name, and a sentence on why some are missing ("" when none is).

    They come from the dataset that the model was tested on, by its digest, and each has the SHA-256 that the manifest gives.
    """
    if not wanted:
        return {}, ""
    digest = str(found.card.get("data"))
    try:
        if not SHA256.fullmatch(digest):
            raise OpsError("model.json names no dataset.")
        tested_on = read_manifest(account, digest)
    except OpsError as error:
        return {}, f"The mistakes are shown without their pictures. {error}"
    names = {picture.name for picture in wanted}
    got: dict[str, bytes] = {}
    for shard in tested_on.shards:
        sums = {file.path: file.sha256 for file in shard.files if file.path in names}
        if sums:
            got |= read_shard(account, digest, shard.key, sums)
    lost = len(names - set(got))
    why = f"{lost} pictures of mistakes are not in the dataset's shards. Check the dataset: invoke data.verify"
    return got, why if lost else ""


def read_shard(account: Account, digest: str, shard: str, sums: dict[str, str]) -> dict[str, bytes]:
    """Return the files of one shard that have these SHA-256 digests; {} for a shard that is missing or corrupt."""
    try:
        return local_shards.read_pictures(local_shards.fetch_object(account, digest, shard), sums)
    except (OpsError, tarfile.TarError):
        return {}


def make_thumbnail(data: bytes | None) -> Image.Image | None:
    """Return the picture upright, in RGB, at most 300 pixels a side; None when it is too large or cannot be decoded."""
    if data is None or len(data) > BYTES:
        return None
    try:
        upright = decode_picture(data, 600).image
    except PictureError:
        return None
    upright.thumbnail((300, 300))
    return upright
