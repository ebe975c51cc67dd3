"""Read the current dataset back and compare every object with the manifest."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

from ops.core.aws.account import Account
from ops.datasets import corrupt_keys
from ops.datasets.manifest import CorruptDatasetError, Manifest, build_pointer_key, read_current, read_pointer

AT_ONCE = 8
CHUNK = 1 << 20


def verify_dataset(account: Account) -> tuple[str, int, list[dict[str, str]]]:
    """Return (digest of the current dataset, number of objects read, those that are missing or corrupt).

    Each of the last is {"key", "what", "state": "missing" or "corrupt"}; they are recorded, so that the next push sends them again.
    """
    bucket, name = account.settings.bucket, account.settings.data.name
    digest = "?"
    try:
        digest = read_pointer(account, name) or digest
        states = read_all(account, read_current(account))
    except CorruptDatasetError as error:
        states = {error.key: ("the list of all objects", error.state)}
    bad = {key: state for key, state in states.items() if state[1]}
    corrupt_keys.save_keys(bucket, corrupt_keys.read(bucket) - set(states) | set(bad))
    return digest, len(states), [{"key": k, "what": what, "state": s} for k, (what, s) in sorted(bad.items())]


def read_all(account: Account, manifest: Manifest) -> dict[str, tuple[str, str]]:
    """Return (description; "missing", "corrupt" or "") of each object, by key. The manifest itself was read already."""
    channel = json.dumps(manifest.channel(account.settings.bucket)).encode()
    wanted = {shard.key: (f"{shard.split}/{shard.label}", shard.sha256) for shard in manifest.shards}
    wanted[manifest.channel_key] = ("list for SageMaker", hashlib.sha256(channel).hexdigest())

    def compare(key: str) -> str:
        body, sha256 = account.bucket.open_object_or_none(key), hashlib.sha256()
        if body is None:
            return "missing"
        for piece in body.iter_chunks(CHUNK):
            sha256.update(piece)
        return "" if sha256.hexdigest() == wanted[key][1] else "corrupt"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        states = dict(zip(wanted, pool.map(compare, wanted), strict=True))
    read = {manifest.key: ("manifest", ""), build_pointer_key(manifest.name): ("pointer", "")}
    return read | {key: (wanted[key][0], state) for key, state in states.items()}
