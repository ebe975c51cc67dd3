"""Commands for the GPU box in the private network: start and stop it, connect to it, train on it, manage its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Context

from ops.core.errors import FINDINGS, OpsError, Unreachable
from ops.core.output import format_table, say
from ops.core.task import Result, request_confirmation, run_plan, task

if TYPE_CHECKING:
    from ops.core.aws.account import Account

ROLE = "operator-infra"
WAITS = (
    "The command has ended, but a program that it started still writes to this terminal, so ec2.run waits for it. Ctrl-C ends the "
    "wait; the program may end at its next output. Next time: invoke ec2.run 'nohup PROGRAM > FILE 2>&1 < /dev/null &'"
)


@task(
    help={
        "spot": "Request spot capacity first, then on-demand capacity.",
        "instance-type": "EC2 instance type of a new box (default: the types in ec2.instance_types, in order).",
    }
)
def up(c: Context, spot: bool = False, instance_type: str = "") -> Result | None:
    """Launch the GPU box, or start it if it is stopped.

    Instance types and zones are tried in the order of the settings until one
    has capacity.

    Example: invoke ec2.up --spot --instance-type g5.xlarge
    """
    from ops.box import facts, plan
    from ops.box.launch import LaunchOptions
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    have = facts.read(account)
    if have.group is None or not have.subnets:
        raise OpsError("The private network for the box is missing. Create it: invoke net.up")
    options = LaunchOptions((instance_type,) if instance_type else tuple(account.settings.ec2.instance_types), spot)
    have = facts.read_for_launch(account, have, list(options.instance_types), dry=c.config.run.dry)
    if have.box and instance_type not in ("", have.box["InstanceType"]):
        say(f"{have.instance_id} exists, a {have.box['InstanceType']}; --instance-type only applies to a new box.")
    account.guard()
    done = run_plan(c, account, plan.steps, have, options, account.settings)
    return None if c.config.run.dry else report_running_box(account, done)


def report_running_box(account: Account, done: Result) -> Result:
    from ops.box import facts

    box = facts.read(account).box or {}
    text = f"{box['InstanceId']} {box['InstanceType']} is running at {box['PrivateIpAddress']}. {done.text}. Next: invoke ec2.train"
    return Result({"box": box["InstanceId"], **done.data}, text, changes=done.changes)


@task()
def start(c: Context) -> Result | None:
    """Start the stopped box.

    Example: invoke ec2.start
    """
    from ops.box import facts, plan
    from ops.box.launch import LaunchOptions
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    have = facts.read(account)
    if have.box is None:
        raise OpsError("There is no box to start. Launch one: invoke ec2.up")
    account.guard()
    options = LaunchOptions(tuple(account.settings.ec2.instance_types))
    have = facts.read_for_launch(account, have, list(options.instance_types))
    done = run_plan(c, account, plan.steps, have, options, account.settings)
    return None if c.config.run.dry else report_running_box(account, done)


@task(help={"yes": "Skip the confirmation prompt."})
def stop(c: Context, yes: bool = False) -> Result | None:
    """Stop the box and keep its disk.

    A running job writes a checkpoint first, and the next ec2.train resumes
    from it. Asks first when a job runs, or when the box does not answer.

    Example: invoke ec2.stop --yes
    """
    from ops.box import access, facts, plan, training
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    have = facts.read(account)
    if have.box is None or have.state == "stopped":
        return Result({"made": 0}, f"{have.instance_id} is already stopped." if have.box else "There is no box.")
    account.guard()
    name, warning = "", ""
    if have.state == "running" and not c.config.run.dry:  # finding a job needs a login, and a login pushes a key
        try:
            if name := training.find_running_job(account, have):
                warning = f"{name} is running on {have.instance_id}; it writes a checkpoint, and ec2.train resumes it. "
        except OpsError as error:
            warning = f"Could not check for a running job: {access.strip_hints(error)}. A job that runs ends without a last checkpoint. "
    if yes and warning:
        say(warning.rstrip())
    request_confirmation(c, account, f"{warning}This stops {have.instance_id}.", yes=yes or not warning)
    if name:
        training.end_job(account, have, name)
    done = run_plan(c, account, plan.stop_box_steps, have)
    if c.config.run.dry:
        return None
    text = f"{have.instance_id} is stopped; its disk is kept. {done.text}. Next: invoke ec2.start"
    return Result(done.data, text, changes=done.changes)


@task(help={"yes": "Skip the confirmation prompt."})
def down(c: Context, yes: bool = False) -> Result | None:
    """Terminate the box and delete its disk.

    Objects in the bucket are kept.

    Example: invoke ec2.down --yes
    """
    from ops.box import facts, plan
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    have = facts.read(account, several=True)
    if not (have.box or have.alarm or have.key_pair or have.spot_requests):
        others = f" (Boxes of other stacks, not changed: {', '.join(have.others)}.)" if have.others else ""
        return Result({"made": 0}, f"There is no box.{others}")
    account.guard()
    if have.box is not None:
        instances = ", ".join([have.instance_id, *have.extra])
        request_confirmation(c, account, f"This terminates {instances} and deletes the disk of each.", yes=yes)
    done = run_plan(c, account, plan.remove_box_steps, have, account.settings)
    if c.config.run.dry:
        return None
    text = f"{have.instance_id if have.box else 'The box'} is terminated. {done.text}"
    return Result(done.data, text, changes=done.changes)


@task(help={"json": "Print the result as JSON."})
def status(c: Context, json: bool = False) -> Result:
    """Show the box: its state, cost, idle stop and whether SSH reaches it.

    Exit code 7 if the box was interrupted, cannot be reached, or could not be
    launched for lack of capacity.

    Example: invoke ec2.status
    """
    from ops.box import facts, status
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    have = facts.read(account)
    if have.box is None:
        refusals = facts.list_capacity_failures(account)
        others = f" (Boxes of other stacks, not changed: {', '.join(have.others)}.)" if have.others else ""
        reasons = "".join(f"\nno capacity: {line}" for line in refusals)
        next_step = "See runbooks/no-capacity.md" if refusals else "Launch one: invoke ec2.up"
        text = f"There is no box.{others}{reasons}\n{next_step}"
        return Result({"box": None, "refusals": refusals}, text, code=FINDINGS if refusals else 0)
    found = status.read(account, have)
    return Result(found.data, found.text, code=FINDINGS if found.problem else 0)


@task(help={"json": "Print the result as JSON."})
def reach(c: Context, json: bool = False) -> Result:
    """Check the path to the box hop by hop and name the first hop that fails.

    Prints the command that fixes that hop; exit code 7 if one fails.

    Example: invoke ec2.reach
    """
    from dataclasses import asdict

    from ops.box import connectivity, facts
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    hops = list(connectivity.check_path(account, facts.read(account)))
    rows = [("FAILED" if hop.problem else "ok", hop.name, hop.problem or hop.found) for hop in hops]
    failure = connectivity.find_first_failure(hops)
    verdict = (
        f"The path fails at {failure.name}: {failure.problem}. Next: {failure.fix}"
        if failure
        else "SSH reaches the box."
    )
    text = f"{format_table(('', 'hop', 'found'), rows)}\n{verdict}"
    return Result([asdict(hop) for hop in hops], text, code=FINDINGS if failure else 0)


@task(
    help={"lock": "Write the newest suitable AMI to ec2.ami in the settings file.", "json": "Print the result as JSON."}
)
def ami(c: Context, lock: bool = False, json: bool = False) -> Result:
    """List the Deep Learning AMIs with their age and end of support.

    The first is the one that a new box gets; exit code 7 if it does not suit
    ec2.instance_types or the disk size.

    Example: invoke ec2.ami --lock
    """
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
        text = f"{path}: ec2.ami is now {newest.image_id} ({newest.name}). Commit the file."
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
    text = format_table(("", "AMI", "name", "age", "supported until", "suits types and disk"), rows)
    locked = " (locked by ec2.ami)" if account.settings.ec2.ami else ""
    text += f"\n-> marks the AMI that ec2.up uses{locked}. Lock the newest: invoke ec2.ami --lock"
    return Result(found, text, code=FINDINGS if found[0]["problem"] else 0)


@task()
def sync(c: Context) -> Result | None:
    """Send code and dataset to the box without starting a job.

    Files that are already on the box are verified, not sent again.

    Example: invoke ec2.sync
    """
    from ops.box import access, facts, training
    from ops.core.aws.account import Account
    from ops.jobs import spec

    account = Account.from_context(c, ROLE)
    job = spec.build_spec_from_settings(account, "box")
    have = facts.read(account)
    instance_id, digest = access.check(have)["InstanceId"], job.data.digest
    if c.config.run.dry:
        say(f"would send code {job.code} and dataset {digest[:12]} to {instance_id}, unless they are there")
        return None
    account.guard()
    done = training.sync_job_files(account, have, job)
    sent = "was sent" if done.sent else "was already there"
    text = f"Code {job.code} {sent}; its SHA-256 is verified. {done.data}. Next: invoke ec2.train"
    return Result({"code": job.code, "sent": done.sent, "data": digest}, text, changes=int(done.sent))


@task(help={"again": "Train again, even if the same dataset, code and settings were trained before."})
def train(c: Context, again: bool = False) -> Result | None:
    """Train on the box and follow the log.

    The job survives a lost connection. If it is already running, the command
    follows it.

    Example: invoke ec2.train --again
    """
    from functools import partial

    from ops.box import access, facts, remote_jobs, training
    from ops.box.follow import Follower
    from ops.core.aws.account import Account
    from ops.jobs import spec

    account = Account.from_context(c, ROLE)
    job = spec.build_spec_from_settings(account, "box")
    attempts = remote_jobs.list_trained_attempts(account, job)
    if attempts and not again:
        text = f"{attempts[-1]} was already trained with this dataset, code and settings; --again trains again."
        return Result({"job": attempts[-1]}, text)
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


@task(
    help={
        "job": "Name of a job of the box (default: the newest).",
        "line": "First line of the log to print (default: 1).",
    }
)
def attach(c: Context, job: str = "", line: int = 1) -> Result:
    """Follow the log of a job on the box until it ends.

    Prints the job's final state. If the box does not run, the log comes from
    the bucket.

    Example: invoke ec2.attach --job JOB --line 120
    """
    from functools import partial

    from ops.box import access, bucket_jobs, facts, follow, remote_jobs, training
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    if line < 1:
        raise OpsError(f"--line must be 1 or more, not {line}.")
    have = facts.read(account)
    if have.state != "running":
        name = job or bucket_jobs.find_newest_job(account, have)
        found = bucket_jobs.print_log(account, name, line)
        return Result({"job": name, **found}, f"{name}: {bucket_jobs.describe(found)}")
    there = remote_jobs.locate_folders(account.settings)
    try:
        with access.open_box_connection(account, have) as link:
            name = training.find_job(link, there, job)
    except Unreachable as error:
        hint = "A running job trains on; its log is in the bucket: invoke ec2.logs"
        raise OpsError(f"{error}. {hint}") from error
    found = follow.Follower(there, name, line).follow(partial(training.connect_to_current_box, account))
    return Result({"job": name, **found}, f"{name}: {found['state']}: {found['artefact']}")


@task(help={"command": "Command to run on the box, as one quoted argument; its shell expands pipes and variables."})
def run(c: Context, command: str) -> Result | None:
    """Run a command on the box; print its output and exit with its code.

    It waits until every program that writes to its output has ended. One that
    is to go on alone: ec2.run 'nohup PROGRAM > FILE 2>&1 < /dev/null &'

    Example: invoke ec2.run 'nvidia-smi'
    """
    import sys

    from ops.box import access, facts
    from ops.core.aws.account import Account
    from ops.core.ssh import stream_command

    def write_output(data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()  # a log that is followed is seen as it grows

    account = Account.from_context(c, ROLE)
    have = facts.read(account)
    instance_id = access.check(have)["InstanceId"]
    if c.config.run.dry:
        say(f"would run on {instance_id}: {command}")
        return None
    hint = "The command may have ended or may still run: invoke ec2.run 'ps aux'. Training jobs are not affected."
    with (
        access.open_box_connection(account, have, hint) as link,
        account.record("ssh.run", "run a command on the box", {"instance": instance_id, "command": command}),
    ):
        code = stream_command(link, command, write_output, lambda: say(WAITS))
    return Result({"code": code}, "", code=code)


@task(help={"command": "Command to run instead of a shell."})
def ssh(c: Context, command: str = "") -> Result | None:
    """Open a shell on the box with the OpenSSH client.

    Example: invoke ec2.ssh
    """
    from ops.box import access, facts
    from ops.core.aws.account import Account
    from ops.core.settings import find_settings_file

    account = Account.from_context(c, ROLE)
    instance_id = access.check(facts.read(account))["InstanceId"]
    if c.config.run.dry:
        say(f"would open SSH to {instance_id}: {command or 'a shell'}")
        return None
    with account.record("ssh.run", "open SSH to the box", {"instance": instance_id, "command": command}):
        code = access.run_openssh(account, instance_id, find_settings_file(c), command)
    if code == access.OPENSSH_FAILED:
        say("The connection failed or was lost. Training jobs are not affected. Find the failing hop: invoke ec2.reach")
    return Result({"code": code}, "", code=code)


@task()
def ssh_config(c: Context) -> Result:
    """Print a Host block for ~/.ssh/config, for ssh, scp and rsync to the box.

    Example: invoke ec2.ssh-config
    """
    from ops.box import access, facts
    from ops.core.aws.account import Account
    from ops.core.settings import find_settings_file

    account = Account.from_context(c, ROLE)
    box = access.check(facts.read(account))
    options = access.build_ssh_options(account, box["InstanceId"], find_settings_file(c))
    alias = account.settings.box_name
    text = "\n".join([f"Host {alias}", *(f"  {name} {value}" for name, value in options.items())])
    return Result({"host": alias, "options": options}, text)


@task(
    help={
        "path": "File or folder on the box, relative to the home folder or absolute.",
        "to": "Local folder (default: .).",
    }
)
def fetch(c: Context, path: str, to: str = ".") -> Result | None:
    """Download a file or folder from the box, completely or not at all.

    A local file of the same name is never overwritten. Sockets, fifos and
    devices are left out, and named.

    Example: invoke ec2.fetch PATH --to DIR
    """
    from ops.box import access, facts
    from ops.box.download import download_from_box
    from ops.core.aws.account import Account
    from ops.core.text import escape_control_characters

    account = Account.from_context(c, ROLE)
    if Path(path).name in ("", ".."):
        raise OpsError(f"{path!r} does not name a file or folder. Give its path: invoke ec2.fetch PATH")
    have = facts.read(account)
    instance_id = access.check(have)["InstanceId"]
    target = Path(to).expanduser() / Path(path).name
    if target.exists():
        raise OpsError(f"{target} already exists. Nothing was downloaded. Choose another folder: --to DIR")
    if c.config.run.dry:
        say(f"would download {path} from {instance_id} to {target}")
        return None
    hint = f"The partial download was deleted. Try again: invoke ec2.fetch {path}"
    with access.open_box_connection(account, have, hint) as link:
        found = download_from_box(link, path, target)
    text = f"{target}: {found.files} file{'s' * (found.files != 1)}, {found.bytes / 1e6:.1f} MB"
    if found.left_out:
        text += f"\nLeft out, because they have no content: {escape_control_characters(', '.join(found.left_out))}"
    data = {"path": str(target), "files": found.files, "bytes": found.bytes, "left_out": list(found.left_out)}
    return Result(data, text)


@task(help={"json": "Print the result as JSON."})
def disk(c: Context, json: bool = False) -> Result:
    """Show the free space on the disk of the box, and what takes up most.

    The largest paths outside Kennel's folder are of the home folder, /tmp and
    /var. Exit code 7 if the disk is nearly full.

    Example: invoke ec2.disk
    """
    from ops.box import access, disk, facts
    from ops.core.aws.account import Account
    from ops.core.text import escape_control_characters

    account = Account.from_context(c, ROLE)
    with access.open_box_connection(account, facts.read(account), "Nothing was changed.", use=False) as link:
        found = disk.measure_disk(link, account.settings)
        advice = disk.advise(account, link, found) if found.is_full else ""
    rows = [(name, f"{size:.3f}") for name, size in sorted(found.parts.items(), key=lambda part: -part[1])]
    rows.append((f"outside {found.home}", f"{found.outside:.3f}"))
    verdict = f"the disk is nearly full. {advice}" if advice else "enough space"
    text = f"{found.free:.1f} of {found.total:.1f} GB are free: {verdict}\n"
    text += format_table((f"folder in {found.home}", "GB"), rows)
    if found.largest:
        largest = [(escape_control_characters(path), f"{size:.3f}") for path, size in found.largest]
        text += "\n" + format_table((f"largest outside {found.home}", "GB"), largest)
    data = {
        "total_gb": round(found.total, 2),
        "free_gb": round(found.free, 2),
        "full": found.is_full,
        "parts_gb": found.parts,
        "outside_gb": round(found.outside, 3),
        "largest_gb": dict(found.largest),
    }
    return Result(data, text, code=FINDINGS if found.is_full else 0)


@task(help={"yes": "Skip the confirmation prompt."})
def clean(c: Context, yes: bool = False) -> Result:
    """Delete files of ended jobs from the box to free disk space.

    Logs, checkpoints and the current dataset are kept.

    Example: invoke ec2.clean --yes
    """
    from ops.box import access, disk, facts
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    have = facts.read(account)
    access.check(have)
    shards = disk.list_current_shards(account)
    hint = "Some of the files may be deleted; jobs fetch or create them again. Try again: invoke ec2.clean"
    with access.open_box_connection(account, have, hint) as link:
        found = disk.clean_disk(link, account.settings, shards, dry=True)
        total = sum(size for _, size in found)
        for name, size in found:
            say(f"~ {name}  {size / 1e6:.1f} MB")
        if not found:
            return Result({"gone": found}, "There is nothing to delete. What fills the disk: invoke ec2.disk")
        if c.config.run.dry:
            return Result({"gone": found}, f"{total / 1e6:.1f} MB can be deleted.")
        request_confirmation(c, account, f"This deletes {total / 1e6:.1f} MB on {have.instance_id}.", yes=yes)
        with account.record(
            "ssh.clean_disk", "delete files on the box", {"instance": have.instance_id, "files": found}
        ):
            disk.clean_disk(link, account.settings, shards, dry=False)
    return Result({"gone": found}, f"{total / 1e6:.1f} MB were deleted.", changes=1)


@task(help={"json": "Print the result as JSON."})
def ps(c: Context, json: bool = False) -> Result:
    """List the jobs of the box with their states.

    If the box is off or cannot be reached, the jobs that left files in the
    bucket are listed, with the time of their last report.

    Example: invoke ec2.ps
    """
    from ops.box import bucket_jobs, facts, full_disk
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    found, note = bucket_jobs.list_jobs(account, facts.read(account))
    rows = [
        (
            job["job"],
            job["state"],
            bucket_jobs.format_running(job),
            full_disk.take_reason(job.get("reason", "-"))[:80],
        )
        for job in found
    ]
    return Result(found, "\n".join(filter(None, (format_table(("job", "state", "running", "reason"), rows), note))))


@task(
    help={"job": "Name of a job (default: the newest of the box).", "lines": "Number of lines to print (default: 100)."}
)
def logs(c: Context, job: str = "", lines: int = 100) -> Result:
    """Print the last lines of a job's log.

    If the box is off or cannot be reached, the log comes from the bucket. A
    running job uploads it every half minute.

    Example: invoke ec2.logs --job JOB --lines 50
    """
    from ops.box import bucket_jobs, facts
    from ops.core.aws.account import Account

    account = Account.from_context(c, ROLE)
    have = facts.read(account)
    if lines < 1:
        raise OpsError(f"--lines must be 1 or more, not {lines}.")
    text = bucket_jobs.read_log(account, have, job, lines)
    return Result({"log": text.decode(errors="replace")}, text.decode(errors="replace").rstrip("\n"))
