"""The principals that call, and their rights: users, roles and sessions as moto keeps them, in the evaluator's terms."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from iampolicy.policy.document import Policy, parse_policy
from iampolicy.policy.evaluate import Caller, Request, Rights, decide_request
from sandbox.iam.credentials import Session
from sandbox.state import ACCOUNT, REGION
from sandbox.world import World


@dataclass(frozen=True)
class Identity:
    """The principal that calls, what it may do, and the context keys that come with it."""

    caller: Caller
    rights: Rights
    context: dict[str, str] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        """Return the ARN by which AWS names the caller in a refusal: a session's or a user's."""
        return self.caller.session or self.caller.arn


def find_identity(world: World, key_id: str) -> Identity:
    """Return the identity behind a key that `world.keys` knows."""
    session = world.keys.get_session(key_id)
    if session and not session.user:
        return build_session_identity(world, session)
    users = world.get_global_backend("iam").users.values()
    has_mfa = (
        session is not None or key_id == world.keys.administrator[0]
    )  # the administrator counts as signed in with MFA
    return build_user_identity(
        world,
        next(
            user
            for user in users
            if (session and user.name == session.user) or any(key.access_key_id == key_id for key in user.access_keys)
        ),
        has_mfa,
    )


def build_user_identity(world: World, user: Any, has_mfa: bool) -> Identity:
    context = {"aws:principaltype": "User", "aws:userid": user.id, "aws:username": user.name}
    if has_mfa:
        context["aws:multifactorauthpresent"] = "true"
    return Identity(
        Caller(user.arn),
        build_user_rights(world, user),
        context | derive_principal_context(user.arn, user.tags),
    )


def build_user_rights(world: World, user: Any) -> Rights:
    """Return the user's rights, its groups' included."""
    policies = [*compile_inline_policies(user.policies), *compile_managed_policies(user.managed_policies)]
    for group in world.get_global_backend("iam").get_groups_for_user(user.name):
        policies += [*compile_inline_policies(group.policies), *compile_managed_policies(group.managed_policies)]
    return Rights(tuple(policies), compile_boundary(world, user))


def find_principal_rights(world: World, arn: str) -> tuple[Caller, Rights]:
    """Return a role or user as a caller, with its rights. Raises KeyError for another ARN."""
    if find_role(world, arn) is not None:
        found = build_role_identity(world, arn, "simulation")
        return found.caller, found.rights
    iam = world.get_global_backend("iam")
    user = next((one for one in iam.users.values() if one.arn == arn), None)
    if user is None:
        raise KeyError(arn)
    return Caller(arn), build_user_rights(world, user)


def build_session_identity(world: World, session: Session) -> Identity:
    """Return the role's identity, narrowed by the session policy; the session's tags override the role's."""
    found = build_role_identity(world, session.role_arn, session.name, session.issued)
    context = found.context | {f"aws:principaltag/{key.lower()}": value for key, value in session.tags.items()}
    if session.source_identity:
        context["aws:sourceidentity"] = session.source_identity
    narrowed = (compile_policy("the session's policy", session.policy),) if session.policy else None
    return replace(found, rights=replace(found.rights, session=narrowed), context=context)


def build_role_identity(world: World, arn: str, session: str, issued: datetime | None = None) -> Identity:
    """Return the identity of a session of the role, started now or when `issued`. Raises KeyError without such a role."""
    role = find_role(world, arn)
    if role is None:
        raise KeyError(arn)
    policies = (*compile_inline_policies(role.policies), *compile_managed_policies(role.managed_policies))
    issued_at = (issued or datetime.now(UTC)).isoformat(timespec="seconds")  # AWS gives whole seconds too
    context = {
        "aws:principaltype": "AssumedRole",
        "aws:userid": f"{role.id}:{session}",
        "aws:tokenissuetime": issued_at,
    }
    caller = Caller(role.arn, f"arn:aws:sts::{ACCOUNT}:assumed-role/{role.name}/{session}")
    return Identity(
        caller, Rights(policies, compile_boundary(world, role)), context | derive_principal_context(role.arn, role.tags)
    )


def find_role(world: World, arn: str) -> Any:
    """Return moto's record of a role, or None."""
    return next((role for role in world.get_global_backend("iam").roles.values() if role.arn == arn), None)


def compile_inline_policies(inline: dict[str, str]) -> list[Policy]:
    return [compile_policy(name, text) for name, text in inline.items()]


def compile_managed_policies(managed: dict[str, Any]) -> list[Policy]:
    return [compile_policy(found.arn, read_default_version(found)) for found in managed.values()]


def read_default_version(managed: Any) -> str:
    return next((version.document for version in managed.versions if version.is_default), "{}")


def compile_boundary(world: World, holder: Any) -> Policy | None:
    """Return the boundary of a role or user, or None. A boundary whose policy is deleted allows nothing."""
    arn = getattr(holder, "permissions_boundary_arn", None)  # a user has the field once it has a boundary
    if not arn:
        return None
    found = world.get_global_backend("iam").managed_policies.get(arn)
    return compile_policy(arn, read_default_version(found) if found else "{}")


def derive_principal_context(arn: str, raw: list[dict[str, str]] | None) -> dict[str, str]:
    found = {f"aws:principaltag/{pair['Key'].lower()}": pair["Value"] for pair in raw or []}
    return {"aws:principalarn": arn, "aws:principalaccount": ACCOUNT} | found


@lru_cache(10_000)
def compile_policy(name: str, text: str | None) -> Policy:
    try:
        return parse_policy(name, json.loads(text if text and text.lstrip().startswith("{") else unquote(text or "{}")))
    except ValueError:
        return Policy(name)


def build_request_context(agent: str = "") -> dict[str, str]:
    now = datetime.now(UTC)
    return {
        "aws:currenttime": now.isoformat(timespec="seconds"),
        "aws:epochtime": str(int(now.timestamp())),
        "aws:requestedregion": REGION,
        "aws:securetransport": "true",  # on AWS these calls come over TLS
        "aws:sourceip": "127.0.0.1",
        "aws:useragent": agent,
        "aws:viaawsservice": "false",
        "aws:resourceaccount": ACCOUNT,
    }


def is_service_trusted(world: World, service: str, role_arn: str, source_arn: str = "") -> bool:
    """Return whether the role's trust policy lets a service assume it; False if there is no such role."""
    role = find_role(world, role_arn)
    if role is None:
        return False
    context = build_request_context() | {"aws:sourceaccount": ACCOUNT}
    if source_arn:
        context["aws:sourcearn"] = source_arn
    request = Request(Caller(service=service), "sts:AssumeRole", role_arn, context)
    return decide_request(
        request, Rights(), compile_policy("trust", role.assume_role_policy_document), required=True
    ).allowed
