"""Commands for datasets and their bucket: create the bucket; fetch, split, check, push, pull, list, use and verify datasets."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Context

from ops.core.errors import FINDINGS, OpsError
from ops.core.output import format_table
from ops.core.task import Result, run_plan, task

if TYPE_CHECKING:
    from ops.core.settings import Settings

DIR = "Dataset folder with train/, valid/ and test/ (default: data.dir of the settings)."
PRINTED_FINDINGS = 40  # --json has all findings


def resolve_data_folder(settings: Settings, given: str) -> Path:
    from ops.core.settings import resolve_below_root

    return Path(given).expanduser() if given else resolve_below_root(settings.data.dir)


def format_split_counts(pictures: dict[str, int]) -> str:
    return ", ".join(f"{count} {split}" for split, count in pictures.items())


@task()
def up(c: Context) -> Result:
    """Create the dataset bucket: private, encrypted, versioned, HTTPS only.

    If the bucket exists, only the properties that differ are changed.

    Example: invoke data.up
    """
    from ops.core.aws.account import Account
    from ops.datasets import bucket_setup

    account = Account.from_context(c)
    account.guard()
    done = run_plan(c, account, bucket_setup.steps, bucket_setup.facts(account), account.settings)
    data = done.data | {"bucket": account.settings.bucket}
    return Result(data, f"Bucket {account.settings.bucket} is ready. {done.text}", changes=done.changes)


@task(
    help={
        "archive": "Name of an archive in data.archives of the settings, or the http(s) URL of a zip file.",
        "dir": "Dataset folder to create (default: data.dir of the settings).",
        "json": "Print the result as JSON.",
    }
)
def fetch(c: Context, archive: str, dir: str = "", json: bool = False) -> Result:
    """Download a public archive of pictures and unpack it as a dataset folder.

    An interrupted download resumes. URL, SHA-256 and counts are written to
    source.json in the folder.

    Example: invoke data.fetch dogs --dir DIR
    """
    from ops.core.masking import strip_url
    from ops.core.settings import load
    from ops.datasets import fetch

    settings = load(c.config)
    folder, source_archive = resolve_data_folder(settings, dir), fetch.find_archive(settings.data, archive)
    if c.config.run.dry:
        text = f"would download {strip_url(source_archive.url)} into {folder}"
        return Result({"url": strip_url(source_archive.url), "dir": str(folder)}, text)
    source = fetch.fetch_archive(source_archive, folder)
    text = (
        f"{folder}: {format_split_counts(source['pictures'])} pictures from {strip_url(source_archive.url)}, "
        f"SHA-256 {source['sha256']}."
    )
    return Result({"dir": str(folder)} | source | {"url": strip_url(source_archive.url)}, text)


@task(
    help={
        "dir": "Folder with a folder of pictures for each class.",
        "out": "Dataset folder to create (default: data.dir of the settings).",
        "valid": "Share of each class that becomes valid (default: 0.15).",
        "test": "Share of each class that becomes test (default: 0.15).",
        "seed": "Seed of the choice (default: 0).",
        "json": "Print the result as JSON.",
    }
)
def split(
    c: Context, dir: str, out: str = "", valid: float = 0.15, test: float = 0.15, seed: int = 0, json: bool = False
) -> Result:
    """Split DIR/CLASS/* into a dataset folder: train, valid and test.

    Each class keeps its shares, and the same seed chooses the same pictures.
    The files are hard links where possible, else copies; DIR is not changed.

    Example: invoke data.split --dir DIR --out OUT --valid 0.15 --test 0.15
    """
    from ops.core.settings import load
    from ops.datasets.image_folder import describe_left_out
    from ops.datasets.split import Shares, split_folder

    folder, dry = resolve_data_folder(load(c.config), out), c.config.run.dry
    done = split_folder(Path(dir).expanduser(), folder, Shares(valid, test), seed, dry)
    left_out = f"{describe_left_out(done.left_out)}.\n" if done.left_out else ""
    verb = "would have" if dry else "has"
    text = f"{left_out}{folder} {verb} {format_split_counts(done.pictures)} pictures of {done.classes} classes."
    return Result(
        {"dir": str(folder), **done._asdict()}, f"{text} Next: invoke data.check --dir {shlex.quote(str(folder))}"
    )


@task(help={"dir": DIR, "json": "Print the result as JSON."})
def check(c: Context, dir: str = "", json: bool = False) -> Result:
    """Check a dataset folder for problems before a push.

    Errors stop a push, warnings cost accuracy, notes need no action. Exit code
    7 with errors or warnings.

    Example: invoke data.check --dir DIR
    """
    from ops.core.finding import SEVERITIES
    from ops.core.settings import load
    from ops.datasets import folder_findings

    folder = resolve_data_folder(load(c.config), dir)
    scanned, findings = folder_findings.examine_folder(folder)
    counts: dict[str, int] = {severity: sum(one.severity == severity for one in findings) for severity in SEVERITIES}
    counted = ", ".join(f"{count} {severity}s" for severity, count in counts.items())
    text = f"{folder}: {len(scanned.pictures)} pictures of {len(scanned.list_nonempty_classes('train'))} classes; {counted}."
    if findings:
        rows = [(one.severity, one.kind, one.where, one.message) for one in findings[:PRINTED_FINDINGS]]
        hidden = len(findings) - PRINTED_FINDINGS
        more = f"\n... and {hidden} more: invoke data.check --json" if hidden > 0 else ""
        text = f"{format_table(('severity', 'kind', 'where', 'message'), rows)}{more}\n{text}"
    data = {
        "dir": str(folder),
        "pictures": len(scanned.pictures),
        **counts,
        "findings": [vars(one) for one in findings],
    }
    return Result(data, text, code=FINDINGS if counts["error"] + counts["warning"] else 0)


@task(
    help={
        "dir": DIR,
        "skip_bad": "Leave out pictures that the check refuses, instead of failing.",
        "json": "Print the result as JSON.",
    }
)
def push(c: Context, dir: str = "", skip_bad: bool = False, json: bool = False) -> Result:
    """Pack a dataset folder into shards and upload those that the bucket lacks.

    The pushed dataset becomes the current one, which training uses. Files that
    are not PNG or JPEG are left out, and counted.

    Example: invoke data.push --dir DIR
    """
    from ops.core.aws.account import Account
    from ops.datasets import push
    from ops.datasets.image_folder import describe_left_out

    account, dry = Account.from_context(c), c.config.run.dry
    folder = resolve_data_folder(account.settings, dir)
    manifest, sent, left_out = push.push_dataset(account, folder, skip_bad, dry)
    summary = {
        "name": manifest.name,
        "digest": manifest.digest,
        "classes": len(manifest.classes),
        "pictures": manifest.pictures,
        "uploaded": sent,
        "left_out": left_out,
    }
    verb = "would be uploaded" if dry else "uploaded"
    total = sum(manifest.pictures.values())
    text = f"{manifest.name} {manifest.digest[:12]}: {total} pictures of {len(manifest.classes)} classes, {sent} objects {verb}."
    if left_out:
        text = f"{describe_left_out(left_out)}. Why: invoke data.check --dir {shlex.quote(str(folder))}\n{text}"
    return Result(summary, text, changes=0 if dry else sent)


@task(
    help={
        "dir": "Folder to write to (default: data.dir of the settings).",
        "digest": "Digest of the dataset, or its first digits (default: the current dataset).",
        "json": "Print the result as JSON.",
    }
)
def pull(c: Context, dir: str = "", digest: str = "", json: bool = False) -> Result:
    """Download a dataset from the bucket into a folder.

    The SHA-256 of each picture is verified. Pictures that are already in the
    folder are not downloaded again.

    Example: invoke data.pull --dir DIR --digest DIGEST
    """
    from ops.core.aws.account import Account
    from ops.datasets import pull

    account = Account.from_context(c)
    manifest, folder = pull.choose_manifest(account, digest), resolve_data_folder(account.settings, dir)
    done = pull.pull_dataset(account, manifest, folder, c.config.run.dry)
    verb = "would be downloaded" if c.config.run.dry else "downloaded"
    text = (
        f"{folder}: {manifest.name} {manifest.digest[:12]}, {done['fetched']} pictures {verb}, "
        f"{done['kept']} were already there."
    )
    if done["others"]:
        text += (
            f" The folder has {done['others']} other pictures; they were not changed, and a push would include them."
        )
    return Result({"dir": str(folder), "digest": manifest.digest} | done, text)


@task(help={"json": "Print the result as JSON."})
def verify(c: Context, json: bool = False) -> Result:
    """Download the current dataset and compare every object with the manifest.

    Exit code 7 if an object is missing or corrupt; the next push uploads it
    again.

    Example: invoke data.verify
    """
    from ops.core.aws.account import Account
    from ops.datasets import verify

    digest, objects, bad = verify.verify_dataset(Account.from_context(c))
    text = f"{digest[:12]}: {objects} objects, {len(bad)} missing or corrupt."
    text = "\n".join([*(f"{one['state']}: {one['what']}: {one['key']}" for one in bad), text])
    if bad:
        text += " Upload them again: invoke data.push"
    return Result({"digest": digest, "objects": objects, "bad": bad}, text, code=FINDINGS if bad else 0)


@task(help={"json": "Print the result as JSON."})
def list(c: Context, json: bool = False) -> Result:
    """List the datasets in the bucket and mark the current one.

    Example: invoke data.list
    """
    from ops.core.aws.account import Account
    from ops.datasets import pull

    account = Account.from_context(c)
    rows = pull.list_datasets(account)
    if not rows:
        raise OpsError(f"Bucket {account.settings.bucket} has no dataset. Push one: invoke data.push --dir DIR")
    shown = [
        (
            "current" if row["current"] else "",
            row["name"],
            row["digest"][:12],
            row["pushed"],
            row["classes"],
            format_split_counts(row["pictures"]),
            f"{row['bytes'] / 1e6:.1f}",
        )
        for row in rows
    ]
    return Result(rows, format_table(("", "name", "digest", "pushed (UTC)", "classes", "pictures", "MB"), shown))


@task(help={"digest": "Digest of the dataset, or its first digits.", "json": "Print the result as JSON."})
def use(c: Context, digest: str, json: bool = False) -> Result:
    """Make a dataset that was pushed before the current one.

    Only the pointer to the current dataset changes; nothing is uploaded.

    Example: invoke data.use DIGEST
    """
    from ops.core.aws.account import Account
    from ops.datasets.use import use_dataset

    manifest, changes = use_dataset(Account.from_context(c), digest, c.config.run.dry)
    verb = "is already" if not changes else "would be" if c.config.run.dry else "is now"
    data = {"name": manifest.name, "digest": manifest.digest, "changed": bool(changes) and not c.config.run.dry}
    text = (
        f"{manifest.name} {manifest.digest[:12]} {verb} the current dataset: {format_split_counts(manifest.pictures)} pictures "
        f"of {len(manifest.classes)} classes."
    )
    return Result(data, text, changes=0 if c.config.run.dry else changes)


@task(
    help={
        "arch": "Name of a torchvision architecture, as in train.arch.",
        "url": "Another URL of the weights; the file name must contain the first digits of its SHA-256, as torchvision's do.",
    }
)
def weights(c: Context, arch: str, url: str = "") -> Result:
    """Download torchvision's pretrained weights and upload them to the bucket.

    Set train.weights: imagenet to start training from them.

    Example: invoke data.weights resnet18
    """
    from ops.core.aws.account import Account
    from ops.datasets import pretrained

    account = Account.from_context(c)
    if c.config.run.dry:
        text = f"would upload torchvision's weights of {arch} to s3://{account.settings.bucket}/weights/"
        return Result({"arch": arch}, text)
    account.guard()
    found = pretrained.publish_weights(account, arch, pretrained.fetch_published(arch, url))
    text = (
        f"{arch}: {found.name}, SHA-256 {found.sha256[:12]}, is in the bucket. "
        "Next: set train.weights: imagenet, then invoke sm.train"
    )
    return Result({"arch": arch, "key": found.key, "sha256": found.sha256}, text, changes=1)
