"""Go back to a dataset that was pushed before: its objects are in the bucket, so only the pointer to the current one moves."""

from __future__ import annotations

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.datasets import corrupt_keys
from ops.datasets.manifest import Manifest, build_pointer_key, read_pointer, write_pointer
from ops.datasets.pull import choose_manifest


def use_dataset(account: Account, digest: str, dry: bool) -> tuple[Manifest, int]:
    """Make the dataset with this digest, or its first digits, the current one; return it and the number of changes (0 or 1).

    Raises OpsError when none or several have it, or when objects of it are missing.
    """
    manifest = choose_manifest(account, digest)
    bad = corrupt_keys.read(account.settings.bucket)
    existing = {item["Key"] for prefix in ("shards/", f"{manifest.folder}/") for item in account.bucket.objects(prefix)}
    pointer = build_pointer_key(manifest.name)
    if missing := sorted(manifest.objects - {pointer} - (existing - bad)):
        raise OpsError(
            f"{len(missing)} objects of {manifest.digest[:12]} are missing or corrupt (first: {missing[0]}). "
            "The current dataset is unchanged. Push its folder again: invoke data.push --dir DIR"
        )
    if pointer not in bad and read_pointer(account, manifest.name) == manifest.digest:
        return manifest, 0
    if not dry:
        account.guard()
        write_pointer(account, manifest)
        corrupt_keys.save_keys(account.settings.bucket, bad - {pointer})
    return manifest, 1
