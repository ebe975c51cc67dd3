"""Commands for the Lambda function in front of the endpoint."""

from __future__ import annotations

from dataclasses import asdict

from invoke import Context

from ops.core.errors import FAILED, FINDINGS, OpsError
from ops.core.output import format_table, say
from ops.core.task import Result, request_confirmation, run_plan, task


@task()
def deploy(c: Context) -> Result | None:
    """Deploy lambda/ as a new function version behind the alias live.

    The new version is called before the alias moves to it; if it fails, callers
    keep the version that is live. Sets reserved and provisioned concurrency too.

    Example: invoke lambda.deploy
    """
    from ops.core.aws.account import Account
    from ops.function import plan

    account = Account.from_context(c)
    code = plan.package_function()
    account.guard()
    done = run_plan(c, account, plan.steps, plan.facts(account), code, account.settings)
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


@task(help={"json": "Print the result as JSON."})
def concurrency(c: Context, json: bool = False) -> Result:
    """Show the concurrency limits of the function and of the account.

    Example: invoke lambda.concurrency
    """
    from ops.core.aws.account import Account
    from ops.function.status import describe_concurrency, read_concurrency

    account = Account.from_context(c)
    found = read_concurrency(account)
    return Result(asdict(found), describe_concurrency(account, found))


@task(
    positional=["picture"],
    help={
        "picture": "JPEG or PNG file to send.",
        "sample": "Number of test pictures to send, in place of --picture.",
        "seed": "Random seed for the choice of test pictures (default: 0).",
        "json": "Print the result as JSON.",
    }
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
