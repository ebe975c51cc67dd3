"""The IAM snapshot: what one GetAccountAuthorizationDetails call returns, read from AWS or from a saved file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import unquote

from iampolicy.policy.document import Policy, as_policy
from iampolicy.policy.evaluate import Caller, Rights

KINDS = ["Role", "User", "Group", "LocalManagedPolicy", "AWSManagedPolicy"]


@dataclass(frozen=True)
class Principal:
    """A role or a user. `inline` maps names to policies, `attached` lists ARNs; a user's include those of its groups.

    `trust` is None for users. Policies may be given as JSON documents, which are parsed here.
    """

    name: str
    arn: str
    trust: Policy | None = None
    inline: dict[str, Policy] = field(default_factory=dict)
    attached: tuple[str, ...] = ()
    boundary: str = ""
    instance_profiles: tuple[str, ...] = ()
    created: datetime | None = None
    last_used: datetime | None = None
    session_s: int = 3600
    tags: dict[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    last_region: str = ""  # where it was last used

    def __post_init__(self) -> None:
        if self.trust is not None:
            object.__setattr__(self, "trust", as_policy("trust", self.trust))
        object.__setattr__(self, "inline", parse_inline(self.inline))

    @property
    def trust_policy(self) -> Policy:
        """Return the trust policy; for a user, one that allows no principal."""
        return self.trust or Policy("trust")

    @cached_property
    def caller(self) -> Caller:
        return Caller(self.arn)

    @property
    def path(self) -> str:
        """Return the IAM path: /a/b/ for arn:aws:iam::1:role/a/b/name."""
        return "/" + self.arn.split(":", 5)[5].partition("/")[2].removesuffix(self.name)


@dataclass(frozen=True)
class Managed:
    """A managed policy. `versions` are (id, is default, created), `policy` is the default version's.

    `policy` may be given as a JSON document, which is parsed here. `raw` has the documents of the other versions, not yet decoded:
    they are read only before they are lost.
    """

    arn: str
    policy: Policy
    versions: tuple[tuple[str, bool, datetime | None], ...] = ()
    attachments: int | None = None
    tags: dict[str, str] = field(default_factory=dict)
    boundaries: int = 0
    raw: dict[str, Any] = field(default_factory=dict, repr=False)
    created: datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "policy", as_policy(self.arn, self.policy))

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = self.policy.document
        return found

    @property
    def name(self) -> str:
        return self.arn.rsplit("/", 1)[-1]

    @property
    def default(self) -> str:
        return next((version for version, default, _ in self.versions if default), "")

    def version(self, ident: str) -> dict[str, Any]:
        """Return the document of an existing version."""
        return decode_document(self.raw[ident]) if ident in self.raw else self.document


@dataclass(frozen=True)
class Group:
    name: str
    arn: str
    inline: dict[str, Policy] = field(default_factory=dict)
    attached: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "inline", parse_inline(self.inline))


def parse_inline(documents: Mapping[str, Any]) -> dict[str, Policy]:
    return {name: as_policy(name, one) for name, one in documents.items()}


@dataclass(frozen=True)
class Snapshot:
    """An account's IAM. `policies` are by ARN, everything else is by name."""

    roles: dict[str, Principal] = field(default_factory=dict)
    users: dict[str, Principal] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    policies: dict[str, Managed] = field(default_factory=dict)

    def principals(self) -> Iterator[Principal]:
        yield from self.roles.values()
        yield from self.users.values()

    def list_policies(self, p: Principal) -> tuple[Policy, ...]:
        """Return all policies of the principal: its inline policies, and the attached ones whose text is in the snapshot."""
        return (*p.inline.values(), *(self.policies[arn].policy for arn in p.attached if arn in self.policies))

    def list_missing_policies(self, p: Principal) -> list[str]:
        """Return the ARNs of the principal's attached policies and boundary whose text is not in the snapshot."""
        held = (*p.attached, p.boundary) if p.boundary else p.attached
        return [arn for arn in dict.fromkeys(held) if arn not in self.policies]

    def rights(self, p: Principal) -> Rights:
        return Rights(self.list_policies(p), self.find_policy(p.boundary) if p.boundary else None)

    def find_policy(self, arn: str) -> Policy:
        """Return the policy with this ARN; one whose text is not in the snapshot (`list_missing_policies`) allows nothing."""
        return self.policies[arn].policy if arn in self.policies else Policy(arn)


class Account(Protocol):
    """The part of an account that is needed here: anything that returns boto3 clients."""

    def client(self, service: str) -> Any: ...


def read(account: Account) -> Snapshot:
    return parse_snapshot(read_detail_pages(account))


def read_detail_pages(account: Account) -> Iterator[dict[str, Any]]:
    """Yield the unchanged pages of GetAccountAuthorizationDetails."""
    paginator = account.client("iam").get_paginator("get_account_authorization_details")
    yield from paginator.paginate(Filter=KINDS, PaginationConfig={"PageSize": 1000})


def parse_snapshot(pages: Iterable[Mapping[str, Any]]) -> Snapshot:
    """Return the snapshot from the pages of GetAccountAuthorizationDetails, which may come from an SDK or from JSON."""
    roles: dict[str, Principal] = {}
    policies: dict[str, Managed] = {}
    groups: dict[str, Group] = {}
    users: list[Mapping[str, Any]] = []
    for page in pages:
        groups |= {g["GroupName"]: parse_group(g) for g in page.get("GroupDetailList", [])}
        users += page.get("UserDetailList", [])
        roles |= {r["RoleName"]: parse_role(r) for r in page.get("RoleDetailList", [])}
        policies |= {p["Arn"]: parse_managed_policy(p) for p in page.get("Policies", []) if p.get("PolicyVersionList")}
    # A user's groups may be on another page than the user.
    return Snapshot(roles, {u["UserName"]: parse_user(u, groups) for u in users}, groups, policies)


def parse_role(r: Mapping[str, Any]) -> Principal:
    return Principal(
        r["RoleName"],
        r["Arn"],
        as_policy("trust", decode_document(r.get("AssumeRolePolicyDocument") or {})),
        parse_policy_list(r.get("RolePolicyList", [])),
        parse_attached_arns(r),
        parse_boundary_arn(r),
        tuple(p["InstanceProfileName"] for p in r.get("InstanceProfileList", [])),
        parse_datetime(r.get("CreateDate")),
        parse_datetime((r.get("RoleLastUsed") or {}).get("LastUsedDate")),
        r.get("MaxSessionDuration") or 3600,
        parse_tags(r),
        last_region=(r.get("RoleLastUsed") or {}).get("Region") or "",
    )


def parse_user(u: Mapping[str, Any], groups: dict[str, Group]) -> Principal:
    """Return the user, with the policies of its groups."""
    own = [groups[name] for name in u.get("GroupList", []) if name in groups]
    held = {f"{g.name}/{name}": one for g in own for name, one in g.inline.items()}
    attached = parse_attached_arns(u) + tuple(arn for g in own for arn in g.attached)
    return Principal(
        u["UserName"],
        u["Arn"],
        None,
        parse_policy_list(u.get("UserPolicyList", [])) | held,
        attached,
        parse_boundary_arn(u),
        created=parse_datetime(u.get("CreateDate")),
        tags=parse_tags(u),
        groups=tuple(u.get("GroupList", [])),
    )


def parse_group(g: Mapping[str, Any]) -> Group:
    return Group(g["GroupName"], g["Arn"], parse_policy_list(g.get("GroupPolicyList", [])), parse_attached_arns(g))


def parse_managed_policy(p: Mapping[str, Any]) -> Managed:
    versions = p["PolicyVersionList"]
    default = next((v for v in versions if v.get("IsDefaultVersion")), versions[0])
    return Managed(
        p["Arn"],
        as_policy(p["Arn"], decode_document(default.get("Document") or {})),
        tuple((v["VersionId"], bool(v.get("IsDefaultVersion")), parse_datetime(v.get("CreateDate"))) for v in versions),
        p.get("AttachmentCount"),
        parse_tags(p),
        p.get("PermissionsBoundaryUsageCount") or 0,
        {v["VersionId"]: v.get("Document") for v in versions if not v.get("IsDefaultVersion")},
        parse_datetime(p.get("CreateDate")),
    )


def parse_policy_list(policies: Iterable[Mapping[str, Any]]) -> dict[str, Policy]:
    return parse_inline({p["PolicyName"]: decode_document(p["PolicyDocument"]) for p in policies})


def parse_attached_arns(holder: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(p["PolicyArn"] for p in holder.get("AttachedManagedPolicies", []))


def parse_boundary_arn(holder: Mapping[str, Any]) -> str:
    found: str = (holder.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn") or ""
    return found


def parse_tags(holder: Mapping[str, Any]) -> dict[str, str]:
    return {t["Key"]: t["Value"] for t in holder.get("Tags") or []}


def decode_document(value: Any) -> dict[str, Any]:
    """Return a policy's JSON document: botocore gives it parsed, the AWS CLI and the raw API URL-encoded."""
    if isinstance(value, str):
        value = json.loads(unquote(value) if value.lstrip()[:1] != "{" else value)
    return value if isinstance(value, dict) else {}


def parse_datetime(value: Any) -> datetime | None:
    """Return the time with a time zone, from an SDK's datetime or a snapshot's text."""
    if value is None or isinstance(value, datetime):
        return value
    found = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    return found if found.tzinfo else found.replace(tzinfo=UTC)
