"""Pictures and the bucket they live in: fetched, checked, packed, pushed, verified, pulled; the bucket itself made safe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ops.core.aws.account import Account
from ops.core.errors import FINDINGS, OpsError
from ops.core.output import table
from ops.core.task import Result, carry_out, task

if TYPE_CHECKING:
    from ops.core.settings import Settings

DIR = "Folder with train/, valid/ and test/; data.dir of the settings by default."
SHOWN = 40  # findings, for people; --json has them all


def folder_of(settings: Settings, given: str) -> Path:
    from ops.core import settings as config

    return Path(given).expanduser() if given else config.below_root(settings.data.dir)


def counted(pictures: dict[str, int]) -> str:
    return ", ".join(f"{count} {split}" for split, count in pictures.items())


@task()
def up(c):
    """Make the bucket: private, encrypted, versioned, TLS only."""
    from ops.datasets import bucket_setup

    account = Account.from_context(c)
    account.guard()
    done = carry_out(c, account, bucket_setup.steps(bucket_setup.facts(account), account.settings))
    return Result(
        done.data | {"bucket": account.settings.bucket}, f"{account.settings.bucket}. {done.text}", changes=done.changes
    )


@task(
    help={
        "archive": "A name under data.archives of the settings (dogs: 133 breeds), or an http(s) address of a zip.",
        "dir": "Folder to make; data.dir of the settings by default.",
        "json": "Print where it came from as JSON.",
    }
)
def fetch(c, archive, dir="", json=False):
    """Fetch a public archive of pictures; interrupted, it goes on where it was."""
    from ops.core import settings as config
    from ops.datasets import fetch as public

    settings = config.load(c.config)
    folder, wanted = folder_of(settings, dir), public.wanted(settings.data, archive)
    if c.config.run.dry:
        return Result({"url": wanted.url, "dir": str(folder)}, f"{wanted.url} would be fetched into {folder}.")
    source = public.fetch(wanted, folder)
    text = f"{folder}: {counted(source['pictures'])} pictures from {wanted.url}, SHA-256 {source['sha256']}."
    return Result({"dir": str(folder)} | source, text)


@task(help={"dir": DIR, "json": "Print every finding as JSON."})
def check(c, dir="", json=False):
    """Look for what a push would refuse, and for what spoils a model."""
    from ops.core import settings
    from ops.datasets import folder_findings, scan_cache
    from ops.datasets import image_folder as disk

    folder = folder_of(settings.load(c.config), dir)
    found = disk.walk(folder)
    seen = [pair for group in scan_cache.of_folder(folder).look_at(found.pictures) for pair in group]
    every = folder_findings.findings(found, seen)
    counts = {level: sum(one.level == level for one in every) for level in folder_findings.LEVELS}
    said = ", ".join(f"{count} {level}s" for level, count in counts.items())
    text = f"{folder}: {len(found.pictures)} pictures of {len(found.filled('train'))} classes; {said}."
    if every:
        rows = [(one.level, one.kind, one.where, one.why) for one in every[:SHOWN]]
        more = f"\n... and {len(every) - SHOWN} more: invoke data.check --json" if len(every) > SHOWN else ""
        text = f"{table(('', 'what', 'where', 'why'), rows)}{more}\n{text}"
    data = {"dir": str(folder), "pictures": len(found.pictures), **counts, "findings": [vars(one) for one in every]}
    return Result(data, text, code=FINDINGS if counts[folder_findings.ERROR] + counts[folder_findings.WARNING] else 0)


@task(help={"dir": DIR, "skip_bad": "Leave refused pictures out.", "json": "Print the manifest's summary as JSON."})
def push(c, dir="", skip_bad=False, json=False):
    """Pack the pictures and upload what is not in the bucket yet."""
    from ops.core import settings as config
    from ops.datasets import push as upload

    settings = config.load(c.config)
    folder, dry = folder_of(settings, dir), c.config.run.dry
    manifest, sent = upload.offer(settings, lambda: Account(settings, "operator"), folder, skip_bad, dry)
    summary = {
        "name": manifest["name"],
        "digest": manifest["digest"],
        "classes": len(manifest["classes"]),
        "pictures": manifest["pictures"],
        "uploaded": sent,
    }
    verb = "would be uploaded" if dry else "uploaded"
    total = sum(manifest["pictures"].values())
    text = f"{manifest['name']} {manifest['digest'][:12]}: {total} pictures of {len(manifest['classes'])} classes, {sent} objects {verb}."
    return Result(summary, text, changes=0 if dry else sent)


@task(
    help={
        "dir": "Folder to fill; data.dir of the settings by default.",
        "digest": "Of the data set, or its first digits; the current one by default.",
        "json": "Print what was fetched as JSON.",
    }
)
def pull(c, dir="", digest="", json=False):
    """Write the bucket's pictures into a folder, each compared with its SHA-256."""
    from ops.datasets import pull as bring

    account = Account.from_context(c)
    manifest, folder = bring.chosen(account, digest), folder_of(account.settings, dir)
    done = bring.pull(account, manifest, folder, c.config.run.dry)
    verb = "would be fetched" if c.config.run.dry else "fetched"
    text = f"{folder}: {manifest['name']} {manifest['digest'][:12]}, {done['fetched']} pictures {verb}, {done['kept']} were there."
    if done["others"]:
        text += f" {done['others']} other pictures lie there; they were left alone, and a push would take them too."
    return Result({"dir": str(folder), "digest": manifest["digest"]} | done, text)


@task(help={"json": "Print it as JSON."})
def verify(c, json=False):
    """Read all of the current data set back and compare it with the manifest."""
    from ops.datasets import pull as bring

    digest, objects, bad = bring.verify(Account.from_context(c))
    text = f"{digest[:12]}: {objects} objects, {len(bad)} missing or spoilt."
    text = "\n".join([*(f"{one['state']}: {one['what']}: {one['key']}" for one in bad), text])
    if bad:
        text += " Send them again: invoke data.push"
    return Result({"digest": digest, "objects": objects, "bad": bad}, text, code=FINDINGS if bad else 0)


@task(help={"json": "Print it as JSON."})
def list(c, json=False):
    """Show the data sets in the bucket."""
    from ops.datasets import pull as bring

    account = Account.from_context(c)
    rows = bring.listed(account)
    if not rows:
        raise OpsError(f"No data set is in {account.settings.bucket}. Push one: invoke data.push --dir DIR")
    shown = [
        (
            "current" if row["current"] else "",
            row["name"],
            row["digest"][:12],
            row["pushed"],
            row["classes"],
            counted(row["pictures"]),
            f"{row['bytes'] / 1e6:.1f}",
        )
        for row in rows
    ]
    return Result(rows, table(("", "name", "digest", "pushed, UTC", "classes", "pictures", "MB"), shown))
