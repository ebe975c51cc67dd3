"""Commands for the Lambda function in front of the endpoint."""

from __future__ import annotations

from dataclasses import asdict

from invoke import Context

from ops.core.errors import FAILED, FINDINGS, OpsError, end_on_interrupt
from ops.core.output import format_table, say
from ops.core.task import Result, request_confirmation, run_plan, task
from ops.core.text import escape_control_characters


@task(
    help={
        "because": "Recorded reason; required if the function admits more than the endpoint scales for.",
        "canary": "Percentage of the calls that the new version gets first, for fn.bake_s seconds.",
    }
)
def deploy(c: Context, because: str = "", canary: int = 0) -> Result | None:
    """Deploy lambda/ as a new function version behind the alias live.

    Runs lambda.preflight first. The new version is called before the alias moves
    to it; if it fails, callers keep the version that is live. With --canary, it
    gets a part of the calls first; exit code 9 if one of them fails, and all go
    back. Sets reserved and provisioned concurrency too, which the endpoint's
    scaling must cover; otherwise exit code 7.

    Example: invoke lambda.deploy --canary 10
    """
    from ops.capacity import coherence
    from ops.core.aws.account import Account
    from ops.function import plan, preflight
    from ops.function.canary import check_share

    account = Account.from_context(c)
    check_share(canary, account.settings.fn.bake_s)
    coherence.require_coherence(account, because)
    code = plan.package_function()
    account.guard()
    for warning in preflight.require_sound_package(code, account.settings):
        say(f"Warning: {warning.message}")
    done = run_plan(c, account, plan.steps, plan.facts(account), code, account.settings, canary)
    if c.config.run.dry:
        return None
    have = plan.facts(account)
    text = f"{account.settings.function_name}:{plan.ALIAS} is version {have.alias}. {done.text}. Next: invoke lambda.invoke --sample 5"
    return Result(
        {"function": account.settings.function_name, "version": have.alias, **done.data}, text, changes=done.changes
    )


@task(help={"to": "Version to go back to (default: the newest one that was live before)."})
def rollback(c: Context, to: str = "") -> Result | None:
    """Point the alias live at an earlier version of the function.

    The version is called first; if it fails, the alias stays where it is.
    The next lambda.deploy moves it to the code and settings of this checkout.

    Example: invoke lambda.rollback
    """
    from ops.core.aws.account import Account
    from ops.function import plan

    account = Account.from_context(c)
    have = plan.require_function(account)
    version = plan.choose_rollback_version(account, have, to)
    account.guard()
    done = run_plan(c, account, plan.rollback_steps, have, version, account.settings)
    if c.config.run.dry:
        return None
    text = f"{account.settings.function_name}:{plan.ALIAS} is version {version}. {done.text}. Next: invoke lambda.invoke --sample 5"
    return Result(
        {"function": account.settings.function_name, "version": version, **done.data}, text, changes=done.changes
    )


@task(help={"json": "Print the result as JSON."})
def status(c: Context, json: bool = False) -> Result:
    """Show the function: its live version, memory, timeout and concurrency.

    Exit code 7 if provisioned concurrency has failed.

    Example: invoke lambda.status
    """
    from ops.core.aws.account import Account
    from ops.function.status import read_status

    data = asdict(read_status(Account.from_context(c)))
    code = FINDINGS if data["provisioned_state"] == "FAILED" else 0
    return Result(data, format_table(list(data), [list(data.values())]), code=code)


@task(
    help={
        "stop": "Stop all calls at once: each gets 429.",
        "resume": "Let calls in again: set the limits of the settings.",
        "json": "Print the result as JSON.",
    }
)
def concurrency(c: Context, stop: bool = False, resume: bool = False, json: bool = False) -> Result | None:
    """Show the concurrency limits of the function, stop all calls, or resume.

    --stop removes provisioned concurrency and reserves 0. --resume sets
    fn.reserved and fn.provisioned. Neither deploys code or moves the alias.

    Example: invoke lambda.concurrency --stop
    """
    from ops.core.aws.account import Account
    from ops.function import kill_switch, plan
    from ops.function.status import describe_concurrency, read_concurrency

    if stop and resume:
        raise OpsError("--stop and --resume contradict each other. Give one: invoke lambda.concurrency --stop")
    account = Account.from_context(c)
    changes = 0
    if stop or resume:
        have = plan.require_function(account)
        account.guard()
        done = run_plan(
            c, account, kill_switch.stop_steps if stop else kill_switch.resume_steps, have, account.settings
        )
        if c.config.run.dry:
            return None
        changes = done.changes
    found = read_concurrency(account)
    return Result(asdict(found), describe_concurrency(account, found), changes=changes)


@task(help={"json": "Print the result as JSON."})
def preflight(c: Context, json: bool = False) -> Result:
    """Check the function's package: its size, imports and import time.

    Imports it in a clean interpreter, without AWS. Exit code 7 with findings.

    Example: invoke lambda.preflight
    """
    from ops.core import settings
    from ops.function import plan, preflight

    report = preflight.check_package(plan.package_function(), settings.load(c.config))
    return Result(asdict(report), preflight.describe_report(report), code=FINDINGS if report.findings else 0)


@task(
    help={
        "minutes": "Minutes of the log to print (default: 15).",
        "errors": "Only lines about errors, exceptions and time-outs.",
        "follow": "Go on with new lines until Ctrl-C.",
    }
)
def logs(c: Context, minutes: int = 15, errors: bool = False, follow: bool = False) -> None:
    """Print the log of the function.

    Each line begins with the environment that wrote it; [3] is version 3.

    Example: invoke lambda.logs --minutes 60 --errors
    """
    from ops.core.aws.account import Account
    from ops.function.logs import read_log

    account = Account.from_context(c)
    again = "Follow it again: invoke lambda.logs --follow"
    with end_on_interrupt(f"Stopped following the log of {account.settings.function_name}; it goes on. {again}"):
        for environment, line in read_log(account, minutes, errors, follow):
            print(escape_control_characters(f"{environment}  {line}"), flush=follow)


@task(help={"minutes": "Minutes to show (default: 15).", "json": "Print the result as JSON."})
def metrics(c: Context, minutes: int = 15, json: bool = False) -> Result:
    """Show calls, errors, throttles, duration and concurrency by minute.

    Exit code 7 if a call was throttled or ended in a function error.

    Example: invoke lambda.metrics --minutes 60
    """
    from ops.core.aws.account import Account
    from ops.function.metrics import describe_metrics, read_metrics

    account = Account.from_context(c)
    points, failed = read_metrics(account, minutes)
    data = {"points": points, "failed": failed}
    if not points:
        return Result(data, f"No calls in the last {minutes} minutes.")
    return Result(data, describe_metrics(points), code=FINDINGS if failed else 0)


@task(
    positional=["picture"],
    help={
        "picture": "JPEG or PNG file to send.",
        "sample": "Number of test pictures to send, in place of --picture.",
        "seed": "Random seed for the choice of test pictures (default: 0).",
        "json": "Print the result as JSON.",
    },
)
def invoke(c: Context, picture: str = "", sample: int = 0, seed: int = 0, json: bool = False) -> Result | None:
    """Invoke the function with a picture file, or with test pictures.

    Test pictures are uploaded and passed as s3_uri events; the answers are
    compared with their classes. Exit code 1 if an answer is an error.

    Example: invoke lambda.invoke --sample 5
    """
    from ops.core.aws.account import Account
    from ops.datasets import samples
    from ops.function import invocation
    from ops.releases import release_samples

    if bool(picture) == bool(sample) or sample < 0:
        raise OpsError(
            "Give either a picture (--picture FILE) or a number of test pictures, such as: invoke lambda.invoke --sample 5"
        )
    account = Account.from_context(c)
    if picture:
        answer = invocation.ask_about_file(account, picture)
        return Result(answer, invocation.format_answer(answer), code=FAILED if invocation.has_failed(answer) else 0)
    account.guard()
    drawn = release_samples.draw_live_samples(account, sample, seed)
    sent = samples.send_samples(account, drawn, dry=c.config.run.dry)
    if c.config.run.dry:
        say(f"would upload {sent} pictures and invoke the function with {len(drawn)}")
        return None
    answers = invocation.ask_about_samples(account, drawn)
    right = sum(one.truth == one.answer for one in answers)
    text = f"{right} of {len(answers)} answers right, by release {answers[0].release[:12]}."
    return Result([asdict(one) for one in answers], text, changes=sent)


@task(
    help={
        "remove": "Delete the URL; callers of it fail.",
        "yes": "Skip the confirmation prompt.",
        "json": "Print the result as JSON.",
    }
)
def url(c: Context, remove: bool = False, yes: bool = False, json: bool = False) -> Result | None:
    """Give the function an HTTPS address, for callers with IAM credentials.

    A caller needs lambda:InvokeFunctionUrl and lambda:InvokeFunction on the alias
    live, and signs its requests. No one else gets an answer.

    Example: invoke lambda.url
    """
    from ops.core.aws.account import Account
    from ops.function import plan
    from ops.function import url as function_url

    account = Account.from_context(c)
    have, found = plan.require_function(account), function_url.read_url(account)
    account.guard()
    if remove:
        if found:
            request_confirmation(c, account, f"This deletes {found['FunctionUrl']}; callers of it will fail.", yes=yes)
        done = run_plan(c, account, function_url.remove_steps, found, account.settings)
        text = f"{account.settings.function_name} has no function URL. {done.text}."
        return None if c.config.run.dry else Result({"url": None}, text, changes=done.changes)
    done = run_plan(c, account, function_url.steps, have, found, account.settings)
    if c.config.run.dry:
        return None
    address = function_url.require_url(account)
    text = f"{address}\n{done.text}. A page for people: invoke lambda.page --open"
    return Result({"url": address, **done.data}, text, changes=done.changes)


@task(help={"open": "Open the page in the browser.", "json": "Print the result as JSON."})
def page(c: Context, open: bool = False, json: bool = False) -> Result:
    """Write an HTML page: drop a picture, see its classes as bars.

    The page calls the function URL with credentials that are pasted into it, and
    holds none itself. It is one file, which needs no web server.

    Example: invoke lambda.page --open
    """
    from ops.core.aws.account import Account
    from ops.function.page import write_page

    path = write_page(Account.from_context(c))
    if open:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
    return Result({"page": path}, str(path))


@task(help={"yes": "Skip the confirmation prompt."})
def down(c: Context, yes: bool = False) -> Result | None:
    """Delete the function with its versions and concurrency settings.

    Example: invoke lambda.down --yes
    """
    from ops.core.aws.account import Account
    from ops.function import plan

    account = Account.from_context(c)
    have = plan.facts(account)
    if have.config is None:
        return Result({"made": 0}, "There is no function.")
    account.guard()
    request_confirmation(c, account, f"This deletes {account.settings.function_name}; callers will fail.", yes=yes)
    done = run_plan(c, account, plan.remove_function_steps, account.settings)
    if c.config.run.dry:
        return None
    return Result(done.data, f"{account.settings.function_name} is deleted. {done.text}", changes=done.changes)
