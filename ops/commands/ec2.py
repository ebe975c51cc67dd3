"""The GPU box in the private network: start it, reach it, train on it, work on it, pay only while it works."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Context

from ops.core.errors import FINDINGS, OpsError
from ops.core.output import format_table, say
from ops.core.task import Result, request_confirmation, run_plan, task

if TYPE_CHECKING:
    from ops.core.aws.account import Account

ROLE = "operator-infra"


@task(
    help={
        "spot": "On spot capacity, and on demand where there is none.",
        "instance-type": "This type, instead of ec2.instance_types.",
    }
)
def up(c: Context, spot: bool = False, instance_type: str = "") -> Result | None:
    """Start the box, or say that it is up."""
    from ops.box import facts, plan
    from ops.box.launch import LaunchOptions
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    have = facts.read(account)
    if have.group is None or not have.subnets:
        raise OpsError("There is no network to put a box in. Make it: invoke net.up")
    options = LaunchOptions((instance_type,) if instance_type else tuple(account.settings.ec2.instance_types), spot)
    have = facts.read_for_launch(account, have, list(options.instance_types), dry=c.config.run.dry)
    if have.box and instance_type not in ("", have.box["InstanceType"]):
        say(f"{have.instance_id} is there, a {have.box['InstanceType']}; --instance-type is for a new one.")
    account.guard()
    done = run_plan(c, account, plan.steps(have, options, account.settings))
    return None if c.config.run.dry else report_running_box(account, done)


def report_running_box(account: Account, done: Result) -> Result:
    from ops.box import facts

    box = facts.read(account).box or {}
    text = f"{box['InstanceId']} {box['InstanceType']} is running at {box['PrivateIpAddress']}. {done.text}. Next: invoke ec2.train"
    return Result({"box": box["InstanceId"], **done.data}, text, changes=done.changes)


@task()
def start(c: Context) -> Result | None:
    """Start the box that was stopped."""
    from ops.box import facts, plan
    from ops.box.launch import LaunchOptions
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    have = facts.read(account)
    if have.box is None:
        raise OpsError("There is no box to start. A new one: invoke ec2.up")
    account.guard()
    options = LaunchOptions(tuple(account.settings.ec2.instance_types))
    have = facts.read_for_launch(account, have, list(options.instance_types))
    done = run_plan(c, account, plan.steps(have, options, account.settings))
    return None if c.config.run.dry else report_running_box(account, done)


@task(help={"yes": "Do not ask."})
def stop(c: Context, yes: bool = False) -> Result | None:
    """Stop the box; its disk is kept. A job on it writes a checkpoint first."""
    from ops.box import facts, plan, training
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    have = facts.read(account)
    if have.box is None or have.state == "stopped":
        return Result({"made": 0}, f"{have.instance_id} is stopped already." if have.box else "There is no box.")
    account.guard()
    # Looking for a job takes a login, and a login pushes a key: not under --dry.
    name = training.find_running_job(account, have) if have.state == "running" and not c.config.run.dry else ""
    what = f"{name} trains on {have.instance_id}; it writes a checkpoint, and ec2.train carries on. " if name else ""
    request_confirmation(c, f"{what}This stops {have.instance_id}.", yes=yes or not name)
    if name:
        training.end_job(account, have, name)
    done = run_plan(c, account, plan.stop_box_steps(have))
    if c.config.run.dry:
        return None
    text = f"{have.instance_id} is stopped, its disk kept. {done.text}. Next: invoke ec2.start"
    return Result(done.data, text, changes=done.changes)


@task(help={"yes": "Do not ask."})
def down(c: Context, yes: bool = False) -> Result | None:
    """Terminate the box; its disk goes too, what is in the bucket stays."""
    from ops.box import facts, plan
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    have = facts.read(account, several=True)
    if not (have.box or have.alarm or have.key_pair or have.spot_requests):
        others = f" (Not touched: {','.join(have.others)}.)" if have.others else ""
        return Result({"made": 0}, f"There is no box.{others}")
    account.guard()
    if have.box is not None:
        all_of_them = ", ".join([have.instance_id, *have.extra])
        request_confirmation(c, f"This terminates {all_of_them} and deletes the disk of each.", yes=yes)
    done = run_plan(c, account, plan.remove_box_steps(have, account.settings))
    if c.config.run.dry:
        return None
    text = f"{have.instance_id if have.box else 'The box'} is gone. {done.text}"
    return Result(done.data, text, changes=done.changes)


@task(help={"json": "Print it as JSON."})
def status(c: Context, json: bool = False) -> Result:
    """Show the box, what it costs, when it stops by itself, and whether SSH reaches it; exit 7 if not."""
    from ops.box import facts, status
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    have = facts.read(account)
    if have.box is None:
        refusals = facts.list_capacity_failures(account)
        others = f" (Not touched: {', '.join(have.others)}.)" if have.others else ""
        words = "".join(f"\nno capacity: {line}" for line in refusals)
        next_one = "See runbooks/no-capacity.md" if refusals else "Start one: invoke ec2.up"
        text = f"There is no box.{others}{words}\n{next_one}"
        return Result({"box": None, "refusals": refusals}, text, code=FINDINGS if refusals else 0)
    found = status.read(account, have)
    return Result(found.data, found.text, code=FINDINGS if found.problem else 0)


@task(help={"json": "Print it as JSON."})
def reach(c: Context, json: bool = False) -> Result:
    """Walk the path to the box hop by hop; name the first that fails and what fixes it; exit 7 then."""
    from dataclasses import asdict

    from ops.box import connectivity, facts
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    found = list(connectivity.check_path(account, facts.read(account)))
    rows = [("FAILS" if hop.problem else "ok", hop.name, hop.problem or hop.found) for hop in found]
    bad = connectivity.find_first_failure(found)
    verdict = f"It ends at {bad.name}: {bad.problem}. Next: {bad.fix}" if bad else "SSH reaches the box."
    text = f"{format_table(('', 'hop', 'found'), rows)}\n{verdict}"
    return Result([asdict(hop) for hop in found], text, code=FINDINGS if bad else 0)


@task(help={"lock": "Write the one that would be taken into the settings file.", "json": "Print it as JSON."})
def ami(c: Context, lock: bool = False, json: bool = False) -> Result:
    """Show the Deep Learning AMIs: age, end of support, whether they suit; exit 7 if ours does not."""
    from ops.box import images
    from ops.core.aws.account import Account
    from ops.core.paths import ROOT
    from ops.core.settings import find_settings_file

    account = Account.from_context(c, ROLE)
    if lock:
        newest = images.find_newest_image(account)
        if c.config.run.dry:
            return Result({"ami": newest.image_id}, f"would write ami: {newest.image_id} into the settings file")
        path = images.pin_image(find_settings_file(c) or ROOT / "invoke.yaml", newest)
        text = f"{path}: ec2.ami is {newest.image_id} ({newest.name}) now. Commit it."
        return Result({"ami": newest.image_id}, text, changes=1)
    found = images.judge_all(account)
    rows = [
        (
            "->" if n == 0 else "",
            r["image"],
            r["name"],
            f"{r['age_days']} d",
            r["supported_until"],
            r["problem"] or "ok",
        )
        for n, r in enumerate(found)
    ]
    text = format_table(("", "image", "name", "age", "supported until", "for our types and disk"), rows)
    text += f"\n-> is what ec2.up takes{' (locked)' if account.settings.ec2.ami else ''}. Lock the newest: invoke ec2.ami --lock"
    return Result(found, text, code=FINDINGS if found[0]["problem"] else 0)


@task()
def sync(c: Context) -> Result | None:
    """Bring code and data set onto the box, without training; what is there is checked, not sent."""
    from ops.box import access, facts, training
    from ops.core.aws.account import Account
    from ops.jobs import spec

    account = Account.from_context(c, ROLE)
    job = spec.build_spec_from_settings(account, "box")
    have = facts.read(account)
    instance_id, digest = access.check(have)["InstanceId"], job.data.digest
    if c.config.run.dry:
        say(f"would bring code {job.code} and data {digest[:12]} to {instance_id}, as far as they are not there")
        return None
    account.guard()
    done = training.sync_job_files(account, have, job)
    text = f"Code {job.code} {'sent' if done.sent else 'was there'}, checked by SHA-256. {done.data}. Next: invoke ec2.train"
    return Result({"code": job.code, "sent": done.sent, "data": digest}, text, changes=int(done.sent))


@task(help={"again": "Train even if the same data, code and settings were trained before."})
def train(c: Context, again: bool = False) -> Result | None:
    """Train on the box, detached; follow the log. What runs already is attached to."""
    from functools import partial

    from ops.box import access, facts, remote_jobs, training
    from ops.box.follow import Follower
    from ops.core.aws.account import Account
    from ops.jobs import spec

    account = Account.from_context(c, ROLE)
    job = spec.build_spec_from_settings(account, "box")
    trained = remote_jobs.list_trained_attempts(account, job)
    if trained and not again:
        text = f"{trained[-1]} was trained before, from the same data, code and settings. --again trains anew."
        return Result({"job": trained[-1]}, text)
    have = facts.read(account)
    instance_id = access.check(have)["InstanceId"]
    if c.config.run.dry:
        say(f"would train {job.name} on {instance_id}")
        return None
    account.guard()
    name = training.start_or_join(account, have, job, again)
    found = Follower(remote_jobs.locate_folders(account.settings), name).follow(
        partial(training.connect_to_current_box, account)
    )
    text = f"{name}: Completed. Next: invoke sm.deploy --job {name}"
    return Result({"job": name, "artefact": found["artefact"]}, text, changes=1)


@task(help={"job": "A job of this box; the newest by default.", "line": "The first line of its log to print, from 1."})
def attach(c: Context, job: str = "", line: int = 1) -> Result:
    """Follow a job on the box from any line of its log, or tell how it ended."""
    from functools import partial

    from ops.box import access, facts, follow, remote_jobs, training
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    if line < 1:
        raise OpsError("--line counts from 1.")
    have = facts.read(account)
    if job and have.state != "running":
        found = follow.print_from_bucket(account, job, line)
        why = found.get("artefact", found.get("reason", "-"))
        return Result({"job": job, **found}, f"{job}: {found['state']}: {why}")
    there = remote_jobs.locate_folders(account.settings)
    with access.open_box_connection(account, have) as link:
        name = training.find_job(link, there, job)
    found = follow.Follower(there, name, line).follow(partial(training.connect_to_current_box, account))
    return Result({"job": name, **found}, f"{name}: {found['state']}: {found['artefact']}")


@task(help={"command": "What the box's shell runs."})
def run(c: Context, command: str) -> Result | None:
    """Run a command on the box; its output and exit code are yours."""
    import sys

    from ops.box import access, facts
    from ops.core.aws.account import Account
    from ops.core.ssh import stream_command

    account = Account.from_context(c, ROLE)
    have = facts.read(account)
    instance_id = access.check(have)["InstanceId"]
    if c.config.run.dry:
        say(f"would run on {instance_id}: {command}")
        return None
    left = (
        "The command may have been ended, or run still: invoke ec2.run 'ps aux'. What ec2.train started is not touched."
    )
    with access.open_box_connection(account, have, left) as link:
        code = stream_command(link, command, on_output=sys.stdout.buffer.write)
    sys.stdout.flush()
    return Result({"code": code}, "", code=code)


@task(help={"command": "What to run instead of a shell."})
def ssh(c: Context, command: str = "") -> Result | None:
    """Open a shell on the box with OpenSSH's own client."""
    from ops.box import access, facts
    from ops.core.aws.account import Account
    from ops.core.settings import find_settings_file

    account = Account.from_context(c, ROLE)
    instance_id = access.check(facts.read(account))["InstanceId"]
    if c.config.run.dry:
        say(f"would open SSH to {instance_id}: {command or 'a shell'}")
        return None
    code = access.run_openssh(account, instance_id, find_settings_file(c), command)
    if code == access.OPENSSH_FAILED:
        say("The connection failed, or was lost. What ec2.train started goes on. Where it ends: invoke ec2.reach")
    return Result({"code": code}, "", code=code)


@task()
def ssh_config(c: Context) -> Result:
    """Print the block for ~/.ssh/config that brings ssh, scp and rsync to the box."""
    from ops.box import access, facts
    from ops.core.aws.account import Account
    from ops.core.settings import find_settings_file

    account = Account.from_context(c, ROLE)
    box = access.check(facts.read(account))
    options = access.build_ssh_options(account, box["InstanceId"], find_settings_file(c))
    alias = account.settings.box_name
    text = "\n".join([f"Host {alias}", *(f"  {name} {value}" for name, value in options.items())])
    return Result({"host": alias, "options": options}, text)


@task(help={"path": "On the box, from the user's home or /.", "to": "The folder here that it goes into."})
def fetch(c: Context, path: str, to: str = ".") -> Result | None:
    """Bring a file or a folder from the box; nothing here is overwritten."""
    from ops.box import access, facts
    from ops.box.download import download_from_box
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    if Path(path).name in ("", ".."):
        raise OpsError(f"{path!r} is not the path of a file or folder.")
    have = facts.read(account)
    instance_id = access.check(have)["InstanceId"]
    target = Path(to).expanduser() / Path(path).name
    if target.exists():
        raise OpsError(f"{target} is here already. Nothing was fetched. Another folder: --to DIR")
    if c.config.run.dry:
        say(f"would fetch {path} from {instance_id} to {target}")
        return None
    left = f"Nothing is at {target}, and what had come is deleted. Again: invoke ec2.fetch {path}"
    with access.open_box_connection(account, have, left) as link:
        size = download_from_box(link, path, target)
    return Result({"path": str(target), "bytes": size}, f"{target}: {size / 1e6:.1f} MB")


@task(help={"json": "Print it as JSON."})
def disk(c: Context, json: bool = False) -> Result:
    """Show how full the box's disk is, and with what; exit 7 when it is nearly full."""
    from ops.box import access, disk, facts
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    with access.open_box_connection(account, facts.read(account), "Nothing was changed.", use=False) as link:
        found = disk.measure_disk(link, account.settings)
    rows = [(name, f"{size:.3f}") for name, size in sorted(found.parts.items(), key=lambda part: -part[1])]
    verdict = "the disk is nearly full. Next: invoke ec2.clean" if found.is_full else "there is room"
    text = f"{found.free:.1f} of {found.total:.1f} GB are free: {verdict}\n{format_table((f'in {found.home}', 'GB'), rows)}"
    sizes = {"total_gb": round(found.total, 2), "free_gb": round(found.free, 2)}
    return Result(
        {**sizes, "full": found.is_full, "parts_gb": found.parts}, text, code=FINDINGS if found.is_full else 0
    )


@task(help={"yes": "Do not ask."})
def clean(c: Context, yes: bool = False) -> Result:
    """Delete what ended jobs left on the box; logs, checkpoints and the current data set stay."""
    from ops.box import access, disk, facts
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    have = facts.read(account)
    access.check(have)
    shards = disk.list_current_shards(account)
    left = "Some of it may be gone; all of it can be fetched or made again. Again: invoke ec2.clean"
    with access.open_box_connection(account, have, left) as link:
        found = disk.clean_disk(link, account.settings, shards, dry=True)
        total = sum(size for _, size in found)
        for name, size in found:
            say(f"~ {name}  {size / 1e6:.1f} MB")
        if c.config.run.dry or not found:
            return Result({"gone": found}, f"{total / 1e6:.1f} MB could go.")
        request_confirmation(c, f"This deletes {total / 1e6:.1f} MB on {have.instance_id}.", yes=yes)
        disk.clean_disk(link, account.settings, shards, dry=False)
    return Result({"gone": found}, f"{total / 1e6:.1f} MB were deleted.", changes=1)


@task(help={"json": "Print it as JSON."})
def ps(c: Context, json: bool = False) -> Result:
    """List the jobs of the box and their states; where it is off, those that left something in the bucket."""
    from ops.box import access, facts, remote_jobs, status
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    have = facts.read(account)
    if have.state != "running":
        found = remote_jobs.list_bucket_jobs(account)
        note = f"The box is not running; {'this is what the bucket has' if found else 'no job is in the bucket'}."
    else:
        with access.open_box_connection(account, have, "Nothing was changed.", use=False) as link:
            found, note = (
                remote_jobs.list_jobs(link, remote_jobs.locate_folders(account.settings)),
                status.read_gpu_status(link),
            )
    rows = [
        (job["job"], job["state"], "yes" if job.get("alive") else "no", job.get("reason", "-")[:80]) for job in found
    ]
    return Result(found, "\n".join(filter(None, (format_table(("job", "state", "alive", "why"), rows), note))))


@task(help={"job": "A job; the newest of the box by default.", "lines": "How many of the last lines."})
def logs(c: Context, job: str = "", lines: int = 100) -> Result:
    """Print the end of a job's log, from the box or, where that is off, from the bucket."""
    from ops.box import access, facts, follow, remote_jobs, training
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    have = facts.read(account)
    if lines < 1:
        raise OpsError("--lines is how many of the last lines: 1 or more.")
    if have.state != "running" and job:
        text = b"\n".join(follow.read_from_bucket(account, job)[1].rstrip(b"\n").split(b"\n")[-lines:])
    else:
        there = remote_jobs.locate_folders(account.settings)
        with access.open_box_connection(account, have, "Nothing was changed.", use=False) as link:
            text = remote_jobs.read_log_tail(link, there, training.find_job(link, there, job), lines)
    return Result({"log": text.decode(errors="replace")}, text.decode(errors="replace").rstrip("\n"))
