"""Somebody cut off at once: a user's access keys made inactive, and a deny on all sessions from before a moment.

The deny is the one that IAM's console writes. It says nothing to calls by a key, nor to sessions that are taken later.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from iampolicy.account.snapshot import Principal, Snapshot
from iampolicy.revoked_sessions import POLICY_NAME, deny_document, revoked_before, standing_revocations
from ops.core.errors import AwsError
from ops.core.plan import Change, Steps
from ops.iam.roles import dumped


@dataclass(frozen=True)
class Held:
    """Somebody to be cut off; of a user the active keys, as ListAccessKeys has them, and whether it has a password."""

    principal: Principal
    active: tuple[dict[str, Any], ...] = ()
    password: bool = False


def aside(have: Snapshot, now: datetime | None = None) -> Snapshot:
    """The account without these denies: they are nobody's drift while they stand, and no change of roles lifts them."""
    found = standing_revocations(have, now)
    if not found:
        return have
    bare = {name: {k: v for k, v in have.roles[name].inline.items() if k != POLICY_NAME} for name in found}
    return replace(have, roles=have.roles | {name: replace(have.roles[name], inline=bare[name]) for name in found})


def steps(who: Held, moment: datetime) -> Steps:
    """Of a user who is cut off, and can take no new session, nothing is left to do."""
    p = who.principal
    for key in who.active:
        args = {"UserName": p.name, "AccessKeyId": key["AccessKeyId"], "Status": "Inactive"}
        why = f"{p.name}: its key of {key['CreateDate']:%Y-%m-%d} is active"
        try:
            yield Change("iam", "update_access_key", args, why, danger="what signs with it fails")
        except AwsError as error:  # deleted meanwhile: as good. The message has the key's id
            if not error.says("NoSuchEntity"):
                raise
    if p.trust is None and not who.active and not who.password and revoked_before(p):
        return
    kind, call = ("RoleName", "put_role_policy") if p.trust is not None else ("UserName", "put_user_policy")
    args = {kind: p.name, "PolicyName": POLICY_NAME, "PolicyDocument": dumped(deny_document(moment))}
    why = f"{p.name}: sessions from before {moment:%Y-%m-%d %H:%M:%S} UTC are to be cut off"
    yield Change("iam", call, args, why, danger="what runs in them fails")


def state(who: Held) -> str:
    """In a line: whether it is cut off, and what still lives."""
    p, active = who.principal, len(who.active)
    cut, role = revoked_before(p), p.trust is not None
    if cut and not active:
        said = f"no session from before {cut:%Y-%m-%d %H:%M:%S} UTC{', but a password' if who.password else ''}"
        return f"{p.name} is cut off: {'' if role else 'no active key, '}{said}"
    keys = f"a user with {active or 'no'} active {'keys' if active > 1 else 'key'}"
    keys += " and a password" if who.password else ""
    return f"{p.name} is not cut off: {'a role' if role else keys}, whose sessions go on until they end"
