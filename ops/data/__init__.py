"""Pictures and the bucket they live in: made safe, packed, pushed, verified."""

from __future__ import annotations

from pathlib import Path

from ops.aws import Account
from ops.cli import Answer, carry_out, task
from ops.errors import FINDINGS, OpsError


@task()
def up(c):
    """Make the bucket: private, encrypted, versioned, TLS only."""
    from ops.data import bucket

    account = Account.of(c)
    account.guard()
    done = carry_out(c, account, bucket.steps(bucket.facts(account), account.settings))
    return Answer(
        done.data | {"bucket": account.settings.bucket}, f"{account.settings.bucket}. {done.text}", changes=done.changes
    )


@task(
    help={
        "dir": "Folder with train/, valid/ and test/; data.dir of the settings by default.",
        "skip_bad": "Leave unreadable pictures out.",
        "json": "Print the manifest's summary as JSON.",
    }
)
def push(c, dir="", skip_bad=False, json=False):
    """Pack the pictures and upload what is not in the bucket yet."""
    from ops import config, dataset
    from ops.data import bucket, upload

    account = Account.of(c)
    pictures = upload.readable(
        dataset.survey(Path(dir).expanduser() if dir else config.below_root(account.settings.data.dir)), skip_bad
    )
    account.guard()
    if not bucket.facts(account).exists:
        raise OpsError(f"There is no bucket {account.settings.bucket}. Make it: invoke data.up")
    manifest, sent = upload.send(account, pictures, dry=c.config.run.dry)
    summary = {
        "name": manifest["name"],
        "digest": manifest["digest"],
        "classes": len(manifest["classes"]),
        "pictures": manifest["pictures"],
        "uploaded": sent,
    }
    verb = "would be uploaded" if c.config.run.dry else "uploaded"
    total = sum(manifest["pictures"].values())
    text = f"{manifest['name']} {manifest['digest'][:12]}: {total} pictures of {len(manifest['classes'])} classes, {sent} objects {verb}."
    return Answer(summary, text, changes=0 if c.config.run.dry else sent)


@task(help={"json": "Print it as JSON."})
def verify(c, json=False):
    """Read every shard of the current data set and compare it with the manifest."""
    from ops import dataset
    from ops.data import upload

    account = Account.of(c)
    manifest = dataset.current(account)
    bad = upload.spoilt(account, manifest)
    text = (
        f"{manifest['name']} {manifest['digest'][:12]}: {len(manifest['shards'])} shards, {len(bad)} missing or spoilt."
    )
    if bad:
        text += " Send them again: delete them in the bucket, then invoke data.push"
    return Answer(
        {"digest": manifest["digest"], "shards": len(manifest["shards"]), "bad": bad}, text, code=FINDINGS if bad else 0
    )
