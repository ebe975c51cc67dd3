"""The Lambda function in front of the endpoint: deployed by version behind the alias `live`, with real limits."""

from __future__ import annotations

import base64
from pathlib import Path

from ops.core.aws.account import Account
from ops.core.errors import FINDINGS, OpsError
from ops.core.output import say, table
from ops.core.task import Result, carry_out, confirm, task


@task()
def deploy(c):
    """Package lambda/, publish a version, move the alias, set the limits."""
    from ops.function import plan

    account = Account.from_context(c)
    code = plan.package()
    account.guard()
    done = carry_out(c, account, plan.steps(plan.facts(account), code, account.settings))
    if c.config.run.dry:
        return None
    have = plan.facts(account)
    text = f"{account.settings.function_name}:{plan.ALIAS} is version {have.alias}. {done.text}. Next: invoke lambda.invoke --sample 5"
    return Result(
        {"function": account.settings.function_name, "version": have.alias, **done.data}, text, changes=done.changes
    )


@task(help={"json": "Print it as JSON."})
def status(c, json=False):
    """Show the function, its live version and its limits; exit 7 when its environments failed."""
    from ops.function import plan

    account = Account.from_context(c)
    have = plan.existing(account)
    assert have.config is not None
    data = {
        "function": have.config["FunctionName"], "state": have.config["State"], "live": have.alias, "memory_mb": have.config["MemorySize"],
        "timeout_s": have.config["Timeout"], "reserved": have.reserved, "provisioned": have.provisioned, "provisioned_state": have.provisioned_state,
    }  # fmt: skip
    return Result(
        data, table(list(data), [list(data.values())]), code=FINDINGS if have.provisioned_state == "FAILED" else 0
    )


@task(help={"json": "Print it as JSON."})
def concurrency(c, json=False):
    """Show what the limits let through, and what the account has left."""
    from ops.function import plan

    account = Account.from_context(c)
    have = plan.existing(account)
    data = {
        "reserved": have.reserved,
        "provisioned": have.provisioned,
        "provisioned_state": have.provisioned_state,
        "unreserved_of_account": have.unreserved,
    }
    text = (
        f"At most {have.reserved} calls of {account.settings.function_name} run at once; the next is refused with 429. "
        f"{have.provisioned or 0} environments are started ahead for the alias {plan.ALIAS} ({have.provisioned_state or 'none'}); "
        f"$LATEST never uses them. The account has {have.unreserved} unreserved."
    )
    return Result(data, text)


@task(
    help={
        "picture": "A JPEG or PNG file.",
        "sample": "Instead: this many pictures of the test split.",
        "seed": "Which ones.",
        "json": "Print the answers as JSON.",
    }
)
def invoke(c, picture="", sample=0, seed=0, json=False):
    """Ask through the function, as callers do: about a file, or about test pictures as s3_uri events."""
    from ops.datasets import samples
    from ops.function import invocation

    if bool(picture) == bool(sample):
        raise OpsError("Give a picture or a number of test pictures: --picture FILE, or --sample 5")
    account = Account.from_context(c)
    if picture:
        if not Path(picture).is_file():
            raise OpsError(f"There is no file {picture}.")
        answer = invocation.ask(account, {"image": base64.b64encode(Path(picture).read_bytes()).decode()})
        return Result(answer, invocation.plain_text(answer))
    account.guard()
    drawn = samples.draw(account, sample, seed)
    sent = samples.send(account, drawn, dry=c.config.run.dry)
    if c.config.run.dry:
        say(f"would send {sent} pictures and ask about {len(drawn)}")
        return None
    answers = []
    for one in drawn:
        found = invocation.ask(account, {"s3_uri": one.uri(account.settings)})
        if "best" not in found:
            raise OpsError(f"{one.name}: the function answers {found}. Look: invoke sm.status")
        answers.append({"picture": one.name, "truth": one.label, "answer": found["best"], "release": found["release"]})
    right = sum(a["truth"] == a["answer"] for a in answers)
    return Result(answers, f"{right} of {len(answers)} right, by release {answers[0]['release'][:12]}.", changes=sent)


@task(help={"yes": "Do not ask."})
def down(c, yes=False):
    """Delete the function with its versions and limits."""
    from ops.function import plan

    account = Account.from_context(c)
    have = plan.facts(account)
    if have.config is None:
        return Result({"made": 0}, "There is no function.")
    account.guard()
    confirm(c, f"This deletes {account.settings.function_name}; callers will fail.", yes=yes)
    done = carry_out(c, account, plan.removal(account.settings))
    if c.config.run.dry:
        return None
    return Result(done.data, f"{account.settings.function_name} is deleted. {done.text}", changes=done.changes)
