"""iam.revoke revokes a principal's access: it makes a user's access keys inactive, and denies all sessions from before a moment.

The deny policy is the one that IAM's console writes (iampolicy.revoked_sessions).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from iampolicy.account import snapshot
from iampolicy.account.owners import is_of_identity_center, is_service_linked
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

SPREADING_S = 45.0  # IAM mostly returns a change at once; AWS promises no more than eventual consistency


@dataclass(frozen=True)
class RevocationTarget:
    """A principal to revoke; for a user also the active keys, as ListAccessKeys returns them, and whether it has a password."""

    principal: Principal
    active: tuple[dict[str, Any], ...] = ()
    password: bool = False


def drop_revocations(have: Snapshot, now: datetime | None = None) -> Snapshot:
    """Return the account without the active deny policies of iam.revoke: they are not drift, and no change of roles removes them."""
    found = list_active_revocations(have, now)
    if not found:
        return have
    bare = {name: {k: v for k, v in have.roles[name].inline.items() if k != POLICY_NAME} for name in found}
    return replace(have, roles=have.roles | {name: replace(have.roles[name], inline=bare[name]) for name in found})


def steps(who: RevocationTarget, moment: datetime) -> Steps:
    """Yield the changes that revoke the principal; none for a user who is revoked and cannot start a new session."""
    p = who.principal
    for key in who.active:
        args = {"UserName": p.name, "AccessKeyId": key["AccessKeyId"], "Status": "Inactive"}
        why = f"{p.name}: deactivate its key of {key['CreateDate']:%Y-%m-%d}"
        try:
            yield Change("iam", "update_access_key", args, why, danger="clients that use it fail")
        except (
            AwsError
        ) as error:  # deleted meanwhile, which serves as well; the error is not shown, because it contains the key's id
            if not error.says("NoSuchEntity"):
                raise
    if p.trust is None and not who.active and not who.password and find_revocation_time(p):
        return
    kind, call = ("RoleName", "put_role_policy") if p.trust is not None else ("UserName", "put_user_policy")
    args = {kind: p.name, "PolicyName": POLICY_NAME, "PolicyDocument": dump_document(build_deny_document(moment))}
    why = f"{p.name}: deny sessions from before {moment:%Y-%m-%d %H:%M:%S} UTC"
    yield Change("iam", call, args, why, danger="clients that use them fail")


def describe_revocation(who: RevocationTarget) -> str:
    """Return one line that says whether the principal is revoked, and what still works."""
    p, active = who.principal, len(who.active)
    cut, role = find_revocation_time(p), p.trust is not None
    if cut and not active:
        remains = f"no session from before {cut:%Y-%m-%d %H:%M:%S} UTC{', but a password' if who.password else ''}"
        return f"{p.name} is revoked: {'' if role else 'no active key, '}{remains}"
    keys = f"a user with {active or 'no'} active {'keys' if active > 1 else 'key'}"
    keys += " and a password" if who.password else ""
    return f"{p.name} is not revoked: {'a role' if role else keys}, whose sessions stay valid until they expire"


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
    """Return why this principal must not be revoked here, or ""."""
    if is_service_linked(p.path) or is_of_identity_center(p.name, p.path):
        return "is managed by AWS, and its policies cannot be changed; end its sessions in that service, or in IAM Identity Center"
    if p.arn == caller or (":assumed-role/" in caller and p.trust is not None and caller.split("/")[1] == p.name):
        return "is your own identity, and you would revoke yourself; log in as another principal"
    return ""


def describe_consequences(p: Principal) -> str:
    """Return a sentence on what fails once the principal is revoked."""
    if p.trust is None:
        return f"{p.name}: every client that uses its keys, and every session made with them, fails from now on."
    services = ", ".join(list_trusted_services(p.trust_policy))
    workloads = f" What {services} runs with the role fails too, until it is restarted." if services else ""
    return (
        f"{p.name}: every current session fails from now on; trusted principals can assume the role again.{workloads}"
    )


def save_overwritten_policy(who: RevocationTarget, planned: Iterable[Step], settings: Settings) -> None:
    """Write the principal's own policy of that name to disk before it is overwritten."""
    p = who.principal
    if find_revocation_time(p):
        return
    for kept in backups.list_lost_documents(
        Snapshot({p.name: p}) if p.trust is not None else Snapshot(users={p.name: p}), planned
    ):
        say(f"{p.name}: its inline policy {POLICY_NAME} is overwritten; backup: {backups.save_backup(settings, kept)}")


def wait_until_revoked(account: Account, arn: str, moment: datetime) -> RevocationTarget:
    """Wait until IAM reads back the revocation, and return the principal as it then is. Raises OpsError when it does not."""

    def read_state(account: Account) -> RevocationTarget | str:
        who = read_principal(account, arn)
        cut = find_revocation_time(who.principal)
        return who if cut and cut >= moment and not who.active else describe_revocation(who)

    found: RevocationTarget = account.wait(
        Wait("IAM", read_state, why="until IAM returns what was written", timeout_s=SPREADING_S)
    )
    return found


def describe_next_step(who: RevocationTarget) -> str:
    if who.password:
        return f"Next: its password still works: aws iam delete-login-profile --user-name {who.principal.name} ; then invoke iam.revoke again"
    if who.principal.trust is None:
        return "Next: invoke iam.audit. Its clients need a role, or a new key; delete the old key when nothing needs it any more."
    return "Next: invoke iam.audit: trusted principals can assume the role again. invoke iam.apply keeps this deny for 12 hours."
