"""The daily work on the box, as commands: run something, look around, fetch, make room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ops.core.aws.account import Account
from ops.core.errors import FINDINGS, OpsError
from ops.core.output import say, table
from ops.core.task import Result, confirm, task

LEAST_FREE_GB, LEAST_FREE = 1.0, 0.1  # below either, the disk counts as full


@task(help={"command": "What the box's shell runs."})
def run(c, command):
    """Run a command on the box; its output and exit code are yours."""
    from ops.box import access, facts
    from ops.core import ssh as box

    account = Account.from_context(c, "operator-infra")
    have = facts.read(account)
    ident = access.check(have)["InstanceId"]
    if c.config.run.dry:
        say(f"would run on {ident}: {command}")
        return None
    left = (
        "The command may have been ended, or run still: invoke ec2.run 'ps aux'. What ec2.train started is not touched."
    )
    with access.connected(account, have, left) as link:
        code = box.stream(link, command, on_output=sys.stdout.buffer.write)
    sys.stdout.flush()
    return Result({"code": code}, "", code=code)


@task(help={"command": "What to run instead of a shell."})
def ssh(c, command=""):
    """Open a shell on the box with OpenSSH's own client."""
    from ops.box import access, facts
    from ops.core import settings
    from ops.core.paths import ROOT

    account = Account.from_context(c, "operator-infra")
    box = access.check(facts.read(account))
    if c.config.run.dry:
        say(f"would open SSH to {box['InstanceId']}: {command or 'a shell'}")
        return None
    options = access.ssh_options(account, box["InstanceId"], settings.named_file(c))
    flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    argv = ["ssh", *flags, account.settings.box_name, *([command] if command else [])]
    try:
        code = subprocess.run(argv, cwd=ROOT, check=False).returncode
    except FileNotFoundError as error:
        raise OpsError("OpenSSH's client is not installed here. Without it: invoke ec2.run 'COMMAND'") from error
    if code == 255:
        say("The connection failed, or was lost. What ec2.train started goes on. Where it ends: invoke ec2.reach")
    return Result({"code": code}, "", code=code)


@task()
def ssh_config(c):
    """Print the block for ~/.ssh/config that brings ssh, scp and rsync to the box."""
    from ops.box import access, facts
    from ops.core import settings

    account = Account.from_context(c, "operator-infra")
    box = access.check(facts.read(account))
    options = access.ssh_options(account, box["InstanceId"], settings.named_file(c))
    alias = account.settings.box_name
    text = "\n".join([f"Host {alias}", *(f"  {name} {value}" for name, value in options.items())])
    return Result({"host": alias, "options": options}, text)


@task(help={"path": "On the box, from the user's home or /.", "to": "The folder here that it goes into."})
def fetch(c, path, to="."):
    """Bring a file or a folder from the box; nothing here is overwritten."""
    from ops.box import access, download, facts

    account = Account.from_context(c, "operator-infra")
    if Path(path).name in ("", ".."):
        raise OpsError(f"{path!r} is not the path of a file or folder.")
    have = facts.read(account)
    ident = access.check(have)["InstanceId"]
    target = Path(to).expanduser() / Path(path).name
    if target.exists():
        raise OpsError(f"{target} is here already. Nothing was fetched. Another folder: --to DIR")
    if c.config.run.dry:
        say(f"would fetch {path} from {ident} to {target}")
        return None
    left = f"Nothing is at {target}, and what had come is deleted. Again: invoke ec2.fetch {path}"
    with access.connected(account, have, left) as link:
        size = download.bring(link, path, target)
    return Result({"path": str(target), "bytes": size}, f"{target}: {size / 1e6:.1f} MB")


@task(help={"json": "Print it as JSON."})
def disk(c, json=False):
    """Show how full the box's disk is, and with what; exit 7 when it is nearly full."""
    from ops.box import access, facts, remote_jobs
    from ops.core import ssh as box

    account = Account.from_context(c, "operator-infra")
    home = box.words(str(remote_jobs.place(account.settings).home))
    with access.connected(account, facts.read(account), "Nothing was changed.", use=False) as link:
        df = box.run(link, f"mkdir -p {home} && df -Pk {home}").splitlines()[1].split()
        du = box.run(link, f"cd {home} && du -sk -- */ 2>/dev/null || true").splitlines()
    total, free = int(df[1]) / 1e6 * 1.024, int(df[3]) / 1e6 * 1.024
    parts = {name.rstrip("/"): int(kib) * 1024 / 1e9 for kib, name in (line.split("\t", 1) for line in du)}
    full = free < LEAST_FREE_GB or free < LEAST_FREE * total
    rows = [(name, f"{size:.3f}") for name, size in sorted(parts.items(), key=lambda part: -part[1])]
    verdict = "the disk is nearly full. Next: invoke ec2.clean" if full else "there is room"
    text = f"{free:.1f} of {total:.1f} GB are free: {verdict}\n{table((f'in {home}', 'GB'), rows)}"
    data = {"total_gb": round(total, 2), "free_gb": round(free, 2), "full": full, "parts_gb": parts}
    return Result(data, text, code=FINDINGS if full else 0)


@task(help={"yes": "Do not ask."})
def clean(c, yes=False):
    """Delete what ended jobs left on the box; logs, checkpoints and the current data set stay."""
    from ops.box import access, download, facts
    from ops.datasets import manifest

    account = Account.from_context(c, "operator-infra")
    have = facts.read(account)
    access.check(have)
    digest = manifest.pointed(account, account.settings.data.name)
    shards = [shard["sha256"] for shard in manifest.named(account, digest)["shards"]] if digest else []
    left = "Some of it may be gone; all of it can be fetched or made again. Again: invoke ec2.clean"
    with access.connected(account, have, left) as link:
        found = download.clean(link, account.settings, shards, dry=True)
        total = sum(size for _, size in found)
        for name, size in found:
            say(f"~ {name}  {size / 1e6:.1f} MB")
        if c.config.run.dry or not found:
            return Result({"gone": found}, f"{total / 1e6:.1f} MB could go.")
        confirm(c, f"This deletes {total / 1e6:.1f} MB on {have.ident}.", yes=yes)
        download.clean(link, account.settings, shards, dry=False)
    return Result({"gone": found}, f"{total / 1e6:.1f} MB were deleted.", changes=1)


@task(help={"json": "Print it as JSON."})
def ps(c, json=False):
    """List the jobs of the box and their states; where it is off, those that left something in the bucket."""
    from ops.box import access, download, facts, remote_jobs

    account = Account.from_context(c, "operator-infra")
    have = facts.read(account)
    if have.state != "running":
        found = download.in_bucket(account)
        note = f"The box is not running; {'this is what the bucket has' if found else 'no job is in the bucket'}."
    else:
        with access.connected(account, have, "Nothing was changed.", use=False) as link:
            found, note = remote_jobs.every(link, remote_jobs.place(account.settings)), download.devices(link)
    rows = [
        (job["job"], job["state"], "yes" if job.get("alive") else "no", job.get("reason", "-")[:80]) for job in found
    ]
    return Result(found, "\n".join(filter(None, (table(("job", "state", "alive", "why"), rows), note))))


@task(help={"job": "A job; the newest of the box by default.", "lines": "How many of the last lines."})
def logs(c, job="", lines=100):
    """Print the end of a job's log, from the box or, where that is off, from the bucket."""
    from ops.box import access, facts, follow, remote_jobs
    from ops.core import ssh as box

    account = Account.from_context(c, "operator-infra")
    have = facts.read(account)
    if lines < 1:
        raise OpsError("--lines is how many of the last lines: 1 or more.")
    if have.state != "running" and job:
        text = b"\n".join(follow.kept(account, job)[1].rstrip(b"\n").split(b"\n")[-lines:])
    else:
        there = remote_jobs.place(account.settings)
        with access.connected(account, have, "Nothing was changed.", use=False) as link:
            name = job or remote_jobs.newest(link, there)
            if not name or name not in remote_jobs.names(link, there):
                raise OpsError(f"{name or 'No job'} was never started on this box. Its jobs: invoke ec2.ps")
            text = box.read(link, f"tail -n {int(lines)} {box.words(there.job(name))}/log")
    return Result({"log": text.decode(errors="replace")}, text.decode(errors="replace").rstrip("\n"))
