"""The schema of a snapshot file: GetAccountAuthorizationDetails as AWS returns it, and the extras that Kennel adds.

A list's validation stops at the first fault, so that the cost of a hostile file is bounded by its length. null means absent.
"""

from __future__ import annotations

from typing import Annotated, Any, Required, TypeVar

from pydantic import AfterValidator, ConfigDict, FailFast, PlainValidator, TypeAdapter
from typing_extensions import TypedDict

from iampolicy.account import snapshot
from iampolicy.validation import DROP_NULLS

T = TypeVar("T")
Listed = Annotated[list[Annotated[T, DROP_NULLS]], FailFast()]


def check_arn(value: str) -> str:
    if value.count(":") < 5:
        raise ValueError("must be an ARN")
    return value


def check_date(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("must be a string")
    try:
        snapshot.parse_datetime(value)
    except ValueError:
        raise ValueError("must be a date") from None
    return value


def parse_document(value: Any) -> dict[str, Any]:
    """Return the policy's document from an object or from JSON text."""
    try:
        found = snapshot.decode_document(value)
    except (ValueError, RecursionError):
        raise ValueError("must be JSON") from None
    if not isinstance(value, str | dict) or (isinstance(value, str) and not found):
        raise ValueError("must be a policy")
    return found


def check_dates(row: dict[str, str]) -> dict[str, str]:
    """Check the dates of a row of the credential report; it has values like N/A where a date is unknown."""
    for key, one in row.items():
        if key.endswith(("_rotated", "_date")) and one[:1].isdigit():
            try:
                check_date(one)
            except ValueError as error:
                raise ValueError(f"has {key}, which {error}") from None
    return row


Arn = Annotated[str, AfterValidator(check_arn)]
Date = Annotated[Any, PlainValidator(check_date)]
Document = Annotated[Any, PlainValidator(parse_document)]


class Tag(TypedDict):
    Key: str
    Value: str


class Attached(TypedDict):
    PolicyArn: Arn


class Inline(TypedDict):
    PolicyName: str
    PolicyDocument: Document


class Boundary(TypedDict, total=False):
    PermissionsBoundaryArn: str


class Holder(TypedDict, total=False):
    Arn: Required[Arn]
    AttachedManagedPolicies: Listed[Attached]


class User(Holder, total=False):
    UserName: Required[str]
    CreateDate: Date
    UserPolicyList: Listed[Inline]
    GroupList: Listed[str]
    PermissionsBoundary: Annotated[Boundary, DROP_NULLS]
    Tags: Listed[Tag]


class Group(Holder, total=False):
    GroupName: Required[str]
    GroupPolicyList: Listed[Inline]


class Profile(TypedDict):
    InstanceProfileName: str


class LastUsed(TypedDict, total=False):
    LastUsedDate: Date
    Region: str


class Role(Holder, total=False):
    RoleName: Required[str]
    CreateDate: Date
    AssumeRolePolicyDocument: Document
    RolePolicyList: Listed[Inline]
    PermissionsBoundary: Annotated[Boundary, DROP_NULLS]
    MaxSessionDuration: int
    Tags: Listed[Tag]
    InstanceProfileList: Listed[Profile]
    RoleLastUsed: Annotated[LastUsed, DROP_NULLS]


class Version(TypedDict, total=False):
    VersionId: Required[str]
    IsDefaultVersion: bool
    CreateDate: Date
    Document: Document


class ManagedPolicy(TypedDict, total=False):
    Arn: Required[Arn]
    CreateDate: Date
    AttachmentCount: int
    PermissionsBoundaryUsageCount: int
    Tags: Listed[Tag]
    PolicyVersionList: Listed[Version]


class Details(TypedDict, total=False):
    UserDetailList: Listed[User]
    GroupDetailList: Listed[Group]
    RoleDetailList: Listed[Role]
    Policies: Listed[ManagedPolicy]


class AsKept(TypedDict, total=False):
    """The base of records that keep unknown fields, since AWS may add some."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]


class IpRange(AsKept, total=False):
    CidrIp: str


class Ipv6Range(AsKept, total=False):
    CidrIpv6: str


class Rule(AsKept, total=False):
    IpProtocol: str
    FromPort: int
    ToPort: int
    IpRanges: Listed[IpRange]
    Ipv6Ranges: Listed[Ipv6Range]


class SecurityGroup(AsKept, total=False):
    GroupId: str
    GroupName: str
    VpcId: str
    IpPermissions: Listed[Rule]


class Ports(AsKept, total=False):
    From: Required[int]
    To: Required[int]


class Entry(AsKept, total=False):
    RuleNumber: int
    Protocol: str
    RuleAction: str
    Egress: bool
    CidrBlock: str
    Ipv6CidrBlock: str
    PortRange: Annotated[Ports, DROP_NULLS]


class Acl(AsKept, total=False):
    NetworkAclId: str
    VpcId: str
    Entries: Listed[Entry]


class Bucket(AsKept, total=False):
    blocks: dict[str, Any]
    policy: dict[str, Any]
    grants: Listed[str]


class Function(AsKept, total=False):
    policies: Listed[dict[str, Any]]
    urls: Listed[str]


class RawExtras(AsKept, total=False):
    credentials: Annotated[list[Annotated[dict[str, str], AfterValidator(check_dates)]], FailFast()]
    summary: dict[str, int]
    carriers: dict[str, Arn]
    usage: dict[str, dict[str, Date]]
    buckets: dict[str, Annotated[Bucket, DROP_NULLS]]
    functions: dict[str, Annotated[Function, DROP_NULLS]]
    groups: Listed[SecurityGroup]
    acls: Listed[Acl]


class File(TypedDict, total=False):
    extras: Annotated[RawExtras, DROP_NULLS]


DETAILS = TypeAdapter(Annotated[Details, DROP_NULLS])
EXTRAS = TypeAdapter(Annotated[File, DROP_NULLS])
