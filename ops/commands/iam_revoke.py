"""The command iam.revoke."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import say
from ops.core.task import Result, carry_out, confirm, task

if TYPE_CHECKING:
    from datetime import datetime

    from iampolicy.account.snapshot import Principal
    from ops.core.plan import Step
    from ops.core.settings import Settings
    from ops.iam.revocation import Held


@task(
    help={"name": "A role of iam_policies/ (operator), a role or user of the account, or an ARN.", "yes": "Do not ask."}
)
def revoke(c, name, yes=False):
    """Cut off a user's access keys, or the sessions of a role that are under way."""
    from ops.core import plan
    from ops.iam import revocation

    account = Account.from_context(c, "")  # no role of the stack may do this to another
    account.guard()
    who = now(account, name)
    caller, moment = called(account)
    if why := refusal(who.principal, caller):
        raise OpsError(f"{who.principal.name} {why}. Nothing was touched.")
    if not plan.preview(revocation.steps(who, moment)):
        return Result({"made": 0}, f"{revocation.state(who)}\n0 made")
    say(breaks(who.principal))
    confirm(c, f"{who.principal.name} is to be cut off.", yes=yes)
    _, moment = called(account)  # what was taken while that was asked is cut off too
    if not c.config.run.dry:
        keep_inline(who, plan.preview(revocation.steps(who, moment)), account.settings)
    done = carry_out(c, account, revocation.steps(who, moment))
    if done.changes:
        who = read_back(account, who.principal.arn, moment)
        time.sleep(1)  # the second that is cut off passes, so that whoever takes the role next is not cut off too
    lines = [revocation.state(who), *([done.text, following(who)] if done.text else [])]
    return Result(done.data, "\n".join(lines), changes=done.changes)


def keep_inline(who: Held, planned: list[Step], settings: Settings) -> None:
    """Somebody's own policy of that name is on disk before it is written over."""
    from iampolicy.account.snapshot import Snapshot
    from ops.iam import backups, revocation

    p = who.principal
    if revocation.since(p):
        return
    for kept in backups.lost(Snapshot({p.name: p}) if p.trust is not None else Snapshot(users={p.name: p}), planned):
        say(f"{p.name}: its own policy {revocation.NAME} stays only in {backups.keep(settings, kept)}")


def now(account: Account, name: str) -> Held:
    """Who it is, and how it gets in."""
    from iampolicy.account import snapshot
    from iampolicy.explain import simulation
    from ops.iam.revocation import Held

    p = simulation.find(snapshot.read(account), name, account.settings)[0]
    if p.trust is not None:
        return Held(p)
    keys = account.list_all("iam", "list_access_keys", "AccessKeyMetadata", UserName=p.name)
    password = account.call_or_none("iam", "get_login_profile", "NoSuchEntity", UserName=p.name)
    return Held(p, tuple(key for key in keys if key["Status"] == "Active"), password is not None)


def called(account: Account) -> tuple[str, datetime]:
    """(who calls, the second to come by AWS's own clock: this machine's may be minutes off, and AWS tells whole seconds)."""
    from datetime import UTC, datetime, timedelta
    from email.utils import parsedate_to_datetime

    answer = account.call("sts", "get_caller_identity")
    told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    then = parsedate_to_datetime(told).astimezone(UTC) if told else datetime.now(UTC).replace(microsecond=0)
    return answer["Arn"], then + timedelta(seconds=1)


def refusal(p: Principal, caller: str) -> str:
    """Why this one is not cut off here, or ""."""
    if "/aws-service-role/" in p.arn or "/aws-reserved/" in p.arn:
        return "is kept by AWS, which lets nobody write its policies; end its sessions at that service, or in IAM Identity Center"
    if p.arn == caller or (":assumed-role/" in caller and p.trust is not None and caller.split("/")[1] == p.name):
        return "is whom you call as, and you would cut yourself off; log in as somebody else"
    return ""


def breaks(p: Principal) -> str:
    from iampolicy.explain.diagnosis import services

    if p.trust is None:
        return f"{p.name}: whatever signs with its keys, and every session made with them, fails from now on."
    running = ", ".join(services(p.trust_policy))
    held = f" What {running} runs in its name fails too, until it is started anew." if running else ""
    return f"{p.name}: every session that is under way fails from now on; who may take the role takes it again.{held}"


def read_back(account: Account, arn: str, moment: datetime) -> Held:
    """As IAM has it once it says what it was told. Raises OpsError when it does not."""
    from ops.commands.iam_apply import SPREADING_S
    from ops.core.plan import Wait
    from ops.iam import revocation

    def seen(account: Account) -> Any:
        who = now(account, arn)
        cut = revocation.since(who.principal)
        return who if cut and cut >= moment and not who.active else revocation.state(who)

    found: Held = account.wait(
        Wait("what IAM reads back", seen, why="IAM spreads what it is told", timeout_s=SPREADING_S)
    )
    return found


def following(who: Held) -> str:
    if who.password:
        return f"Next: its password still lets it in: aws iam delete-login-profile --user-name {who.principal.name} ; then invoke iam.revoke again"
    if who.principal.trust is None:
        return "Next: invoke iam.audit. What it was for needs a role, or a new key; delete the old key when nobody misses it."
    return "Next: invoke iam.audit: whoever may still take the role has it again. invoke iam.apply leaves this deny for 12 hours."
