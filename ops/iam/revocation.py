"""iam.revoke cuts a principal off at once: it makes a user's access keys inactive, and denies all sessions from before a moment.

The deny is the one that IAM's console writes (iampolicy.revoked_sessions).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from iampolicy.account import snapshot
from iampolicy.account.snapshot import Principal, Snapshot
from iampolicy.explain.diagnosis import list_trusted_services
from iampolicy.explain.simulation import resolve_principal
from iampolicy.revoked_sessions import POLICY_NAME, build_deny_document, find_revocation_time, list_active_revocations
from ops.core.aws.account import Account
from ops.core.errors import AwsError
from ops.core.output import say
from ops.core.plan import Change, Step, Steps, Wait
from ops.core.settings import Settings
from ops.iam import backups
from ops.iam.roles import dump_document

SPREADING_S = 45.0  # IAM mostly reads back a change at once; AWS promises no more than "eventually"


@dataclass(frozen=True)
class RevocationTarget:
    """A principal to cut off; for a user also the active keys, as ListAccessKeys returns them, and whether it has a password."""

    principal: Principal
    active: tuple[dict[str, Any], ...] = ()
    password: bool = False


def drop_revocations(have: Snapshot, now: datetime | None = None) -> Snapshot:
    """Return the account without these denies: while they are active they are not drift, and no change of roles lifts them."""
    found = list_active_revocations(have, now)
    if not found:
        return have
    bare = {name: {k: v for k, v in have.roles[name].inline.items() if k != POLICY_NAME} for name in found}
    return replace(have, roles=have.roles | {name: replace(have.roles[name], inline=bare[name]) for name in found})


def steps(who: RevocationTarget, moment: datetime) -> Steps:
    """Yield the changes that cut the principal off; none for a user who is cut off and cannot start a new session."""
    p = who.principal
    for key in who.active:
        args = {"UserName": p.name, "AccessKeyId": key["AccessKeyId"], "Status": "Inactive"}
        why = f"{p.name}: its key of {key['CreateDate']:%Y-%m-%d} is active"
        try:
            yield Change("iam", "update_access_key", args, why, danger="what signs with it fails")
        except AwsError as error:  # deleted meanwhile, which is as good. The message has the key's id
            if not error.says("NoSuchEntity"):
                raise
    if p.trust is None and not who.active and not who.password and find_revocation_time(p):
        return
    kind, call = ("RoleName", "put_role_policy") if p.trust is not None else ("UserName", "put_user_policy")
    args = {kind: p.name, "PolicyName": POLICY_NAME, "PolicyDocument": dump_document(build_deny_document(moment))}
    why = f"{p.name}: sessions from before {moment:%Y-%m-%d %H:%M:%S} UTC are to be cut off"
    yield Change("iam", call, args, why, danger="what runs in them fails")


def describe_revocation(who: RevocationTarget) -> str:
    """Return one line that says whether the principal is cut off, and what still works."""
    p, active = who.principal, len(who.active)
    cut, role = find_revocation_time(p), p.trust is not None
    if cut and not active:
        said = f"no session from before {cut:%Y-%m-%d %H:%M:%S} UTC{', but a password' if who.password else ''}"
        return f"{p.name} is cut off: {'' if role else 'no active key, '}{said}"
    keys = f"a user with {active or 'no'} active {'keys' if active > 1 else 'key'}"
    keys += " and a password" if who.password else ""
    return f"{p.name} is not cut off: {'a role' if role else keys}, whose sessions go on until they end"


def read_principal(account: Account, name: str) -> RevocationTarget:
    """Read the principal; for a user also its active access keys and whether it has a password."""
    p = resolve_principal(snapshot.read(account), name, account.settings.build_role_name(""))[0]
    if p.trust is not None:
        return RevocationTarget(p)
    keys = account.list_all("iam", "list_access_keys", "AccessKeyMetadata", UserName=p.name)
    password = account.call_or_none("iam", "get_login_profile", "NoSuchEntity", UserName=p.name)
    return RevocationTarget(p, tuple(key for key in keys if key["Status"] == "Active"), password is not None)


def read_caller_and_time(account: Account) -> tuple[str, datetime]:
    """Return (the caller's ARN, the next second by AWS's clock): this machine's may be minutes off, and AWS gives whole seconds."""
    answer = account.call("sts", "get_caller_identity")
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    then = parsedate_to_datetime(date).astimezone(UTC) if date else datetime.now(UTC).replace(microsecond=0)
    return answer["Arn"], then + timedelta(seconds=1)


def explain_revoke_refusal(p: Principal, caller: str) -> str:
    """Return why this principal must not be cut off here, or ""."""
    if "/aws-service-role/" in p.arn or "/aws-reserved/" in p.arn:
        return "is kept by AWS, which lets nobody write its policies; end its sessions at that service, or in IAM Identity Center"
    if p.arn == caller or (":assumed-role/" in caller and p.trust is not None and caller.split("/")[1] == p.name):
        return "is whom you call as, and you would cut yourself off; log in as somebody else"
    return ""


def describe_consequences(p: Principal) -> str:
    """Return a sentence on what fails once the principal is cut off."""
    if p.trust is None:
        return f"{p.name}: whatever signs with its keys, and every session made with them, fails from now on."
    running = ", ".join(list_trusted_services(p.trust_policy))
    held = f" What {running} runs in its name fails too, until it is started anew." if running else ""
    return f"{p.name}: every session that is under way fails from now on; who may take the role takes it again.{held}"


def save_overwritten_policy(who: RevocationTarget, planned: Iterable[Step], settings: Settings) -> None:
    """Write the principal's own policy of that name to disk before it is overwritten."""
    p = who.principal
    if find_revocation_time(p):
        return
    for kept in backups.list_lost_documents(
        Snapshot({p.name: p}) if p.trust is not None else Snapshot(users={p.name: p}), planned
    ):
        say(f"{p.name}: its own policy {POLICY_NAME} stays only in {backups.save_backup(settings, kept)}")


def wait_until_revoked(account: Account, arn: str, moment: datetime) -> RevocationTarget:
    """Wait until IAM reads back the revocation, and return the principal as it then is. Raises OpsError when it does not."""

    def seen(account: Account) -> RevocationTarget | str:
        who = read_principal(account, arn)
        cut = find_revocation_time(who.principal)
        return who if cut and cut >= moment and not who.active else describe_revocation(who)

    found: RevocationTarget = account.wait(
        Wait("what IAM reads back", seen, why="IAM spreads what it is told", timeout_s=SPREADING_S)
    )
    return found


def describe_next_step(who: RevocationTarget) -> str:
    if who.password:
        return f"Next: its password still lets it in: aws iam delete-login-profile --user-name {who.principal.name} ; then invoke iam.revoke again"
    if who.principal.trust is None:
        return "Next: invoke iam.audit. What it was for needs a role, or a new key; delete the old key when nobody misses it."
    return "Next: invoke iam.audit: whoever may still take the role has it again. invoke iam.apply leaves this deny for 12 hours."
