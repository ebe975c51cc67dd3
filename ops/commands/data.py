"""Datasets and the bucket they live in: fetched, checked, packed, pushed, verified, pulled; the bucket itself made safe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Context

from ops.core.errors import FINDINGS, OpsError
from ops.core.output import format_table
from ops.core.task import Result, run_plan, task

if TYPE_CHECKING:
    from ops.core.settings import Settings

DIR = "Folder with train/, valid/ and test/; data.dir of the settings by default."
SHOWN = 40  # findings, for people; --json has them all


def resolve_data_folder(settings: Settings, given: str) -> Path:
    from ops.core.settings import resolve_below_root

    return Path(given).expanduser() if given else resolve_below_root(settings.data.dir)


def format_split_counts(pictures: dict[str, int]) -> str:
    return ", ".join(f"{count} {split}" for split, count in pictures.items())


@task()
def up(c: Context) -> Result:
    """Make the bucket: private, encrypted, versioned, TLS only."""
    from ops.core.aws.account import Account
    from ops.datasets import bucket_setup

    account = Account.from_context(c)
    account.guard()
    done = run_plan(c, account, bucket_setup.steps(bucket_setup.facts(account), account.settings))
    data = done.data | {"bucket": account.settings.bucket}
    return Result(data, f"{account.settings.bucket}. {done.text}", changes=done.changes)


@task(
    help={
        "archive": "A name under data.archives of the settings (dogs: 133 breeds), or an http(s) address of a zip.",
        "dir": "Folder to make; data.dir of the settings by default.",
        "json": "Print where it came from as JSON.",
    }
)
def fetch(c: Context, archive: str, dir: str = "", json: bool = False) -> Result:
    """Fetch a public archive of pictures; interrupted, it goes on where it was."""
    from ops.core.settings import load
    from ops.datasets import fetch

    settings = load(c.config)
    folder, wanted = resolve_data_folder(settings, dir), fetch.find_archive(settings.data, archive)
    if c.config.run.dry:
        return Result({"url": wanted.url, "dir": str(folder)}, f"{wanted.url} would be fetched into {folder}.")
    source = fetch.fetch_archive(wanted, folder)
    text = (
        f"{folder}: {format_split_counts(source['pictures'])} pictures from {wanted.url}, SHA-256 {source['sha256']}."
    )
    return Result({"dir": str(folder)} | source, text)


@task(help={"dir": DIR, "json": "Print every finding as JSON."})
def check(c: Context, dir: str = "", json: bool = False) -> Result:
    """Look for what a push would refuse, and for what spoils a model."""
    from ops.core.finding import SEVERITIES
    from ops.core.settings import load
    from ops.datasets import folder_findings

    folder = resolve_data_folder(load(c.config), dir)
    found, every = folder_findings.examine_folder(folder)
    counts: dict[str, int] = {severity: sum(one.severity == severity for one in every) for severity in SEVERITIES}
    said = ", ".join(f"{count} {severity}s" for severity, count in counts.items())
    text = f"{folder}: {len(found.pictures)} pictures of {len(found.list_nonempty_classes('train'))} classes; {said}."
    if every:
        rows = [(one.severity, one.kind, one.where, one.message) for one in every[:SHOWN]]
        more = f"\n... and {len(every) - SHOWN} more: invoke data.check --json" if len(every) > SHOWN else ""
        text = f"{format_table(('', 'what', 'where', 'why'), rows)}{more}\n{text}"
    data = {"dir": str(folder), "pictures": len(found.pictures), **counts, "findings": [vars(one) for one in every]}
    return Result(data, text, code=FINDINGS if counts["error"] + counts["warning"] else 0)


@task(help={"dir": DIR, "skip_bad": "Leave refused pictures out.", "json": "Print the manifest's summary as JSON."})
def push(c: Context, dir: str = "", skip_bad: bool = False, json: bool = False) -> Result:
    """Pack the pictures and upload what is not in the bucket yet."""
    from ops.core.aws.account import Account
    from ops.datasets import push

    account, dry = Account.from_context(c), c.config.run.dry
    manifest, sent = push.push_dataset(account, resolve_data_folder(account.settings, dir), skip_bad, dry)
    summary = {
        "name": manifest.name,
        "digest": manifest.digest,
        "classes": len(manifest.classes),
        "pictures": manifest.pictures,
        "uploaded": sent,
    }
    verb = "would be uploaded" if dry else "uploaded"
    total = sum(manifest.pictures.values())
    text = f"{manifest.name} {manifest.digest[:12]}: {total} pictures of {len(manifest.classes)} classes, {sent} objects {verb}."
    return Result(summary, text, changes=0 if dry else sent)


@task(
    help={
        "dir": "Folder to fill; data.dir of the settings by default.",
        "digest": "Of the data set, or its first digits; the current one by default.",
        "json": "Print what was fetched as JSON.",
    }
)
def pull(c: Context, dir: str = "", digest: str = "", json: bool = False) -> Result:
    """Write the bucket's pictures into a folder, each compared with its SHA-256."""
    from ops.core.aws.account import Account
    from ops.datasets import pull

    account = Account.from_context(c)
    manifest, folder = pull.choose_manifest(account, digest), resolve_data_folder(account.settings, dir)
    done = pull.pull_dataset(account, manifest, folder, c.config.run.dry)
    verb = "would be fetched" if c.config.run.dry else "fetched"
    text = f"{folder}: {manifest.name} {manifest.digest[:12]}, {done['fetched']} pictures {verb}, {done['kept']} were there."
    if done["others"]:
        text += f" {done['others']} other pictures lie there; they were left alone, and a push would take them too."
    return Result({"dir": str(folder), "digest": manifest.digest} | done, text)


@task(help={"json": "Print it as JSON."})
def verify(c: Context, json: bool = False) -> Result:
    """Read all of the current data set back and compare it with the manifest."""
    from ops.core.aws.account import Account
    from ops.datasets import verify

    digest, objects, bad = verify.verify_dataset(Account.from_context(c))
    text = f"{digest[:12]}: {objects} objects, {len(bad)} missing or spoilt."
    text = "\n".join([*(f"{one['state']}: {one['what']}: {one['key']}" for one in bad), text])
    if bad:
        text += " Send them again: invoke data.push"
    return Result({"digest": digest, "objects": objects, "bad": bad}, text, code=FINDINGS if bad else 0)


@task(help={"json": "Print it as JSON."})
def list(c: Context, json: bool = False) -> Result:
    """Show the data sets in the bucket."""
    from ops.core.aws.account import Account
    from ops.datasets import pull

    account = Account.from_context(c)
    rows = pull.list_datasets(account)
    if not rows:
        raise OpsError(f"No data set is in {account.settings.bucket}. Push one: invoke data.push --dir DIR")
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
    return Result(rows, format_table(("", "name", "digest", "pushed, UTC", "classes", "pictures", "MB"), shown))


@task(
    help={
        "arch": "An architecture of torchvision's, as train.arch names it.",
        "url": "Another address; the file's name must carry the first digits of its SHA-256, as torchvision's do.",
    }
)
def weights(c: Context, arch: str, url: str = "") -> Result:
    """Stage torchvision's published weights in the bucket, for train.weights: imagenet."""
    from ops.core.aws.account import Account
    from ops.datasets import pretrained

    account = Account.from_context(c)
    if c.config.run.dry:
        text = f"torchvision's weights of {arch} would be put in s3://{account.settings.bucket}/weights/."
        return Result({"arch": arch}, text)
    account.guard()
    found = pretrained.publish_weights(account, arch, pretrained.fetch_published(arch, url))
    text = f"{arch}: {found.name}, SHA-256 {found.sha256[:12]}, is in the bucket. Next: train.weights: imagenet, then invoke sm.train"
    return Result({"arch": arch, "key": found.key, "sha256": found.sha256}, text, changes=1)
