"""Callers from outside the account: anonymous ones, principals of other accounts, over the internet or from their own network, and
services that act for another account.

An external caller has, for each condition key, the values that it may choose: patterns, and None where its request lacks the key.
These are intersected with what a policy requires, so that `arn:aws:iam::*:role/ci` becomes the role of that name in its own
account. The evaluator then decides whether the caller is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_network
from itertools import islice, product

from iampolicy.audit.context import UNUSED_NAME
from iampolicy.escalation.missing_keys import drop_absent_keys
from iampolicy.escalation.permission_set import find_common_arn, find_common_text
from iampolicy.policy.document import CURRENT, VARIABLE, Policy, parse_policy
from iampolicy.policy.evaluate import Caller, Rights

UNKNOWN_ACCOUNT = "000000000000"  # no account has this number
MOST = 256  # requests that are tried for one external caller
# The permissions that a caller has in its own account are unknown, and so count as unlimited.
UNLIMITED = Rights(
    (
        parse_policy(
            "everything", {"Version": CURRENT, "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
        ),
    )
)
KnownKeys = dict[str, tuple[str | None, ...]]
RequiredValues = Mapping[str, tuple[str, ...]]  # the values that a policy compares each condition key with
# AWS calls a policy public if it allows addresses "broader than /8 for IPv4 and /32 for IPv6 (excluding RFC1918 private
# ranges)": docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html. A whole /8 counts here too.
WORLD = {4: 8, 6: 31}
ORG, ORG_PATHS = (
    (None, f"o-{UNUSED_NAME}"),
    (None, f"o-{UNUSED_NAME}/r-{UNUSED_NAME}/"),
)  # not every account is in an organisation
OF_NETWORK: KnownKeys = {
    "aws:sourceip": (None,), "aws:sourcevpc": (f"vpc-{UNUSED_NAME}",), "aws:sourcevpce": (f"vpce-{UNUSED_NAME}",), "aws:vpcsourceip": ("10.0.0.7",),
    "aws:sourcevpcarn": (f"arn:aws:ec2:us-east-1:{UNKNOWN_ACCOUNT}:vpc/vpc-{UNUSED_NAME}",), "aws:vpceaccount": (UNKNOWN_ACCOUNT,),
    "aws:vpceorgid": ORG, "aws:vpceorgpaths": ORG_PATHS,
}  # fmt: skip
INTERNET: KnownKeys = {**dict.fromkeys(OF_NETWORK, (None,)), "aws:sourceip": ("198.51.100.7", "2001:db8::7")}
BY_SERVICES = ("aws:sourceaccount", "aws:sourcearn", "aws:sourceorgid", "aws:sourceorgpaths", "aws:sourceowner")
# An external caller can use only the access points of its own account.
OF_ALL: KnownKeys = {
    "aws:securetransport": ("true",), "s3:dataaccesspointaccount": (None, UNKNOWN_ACCOUNT),
    "s3:dataaccesspointarn": (None, f"arn:aws:s3:us-east-1:{UNKNOWN_ACCOUNT}:accesspoint/*"),
}  # fmt: skip
OF_PEOPLE: KnownKeys = OF_ALL | {
    **dict.fromkeys(BY_SERVICES, (None,)),  # AWS sets them where a service itself calls
    "aws:principalorgid": ORG, "aws:principalorgpaths": ORG_PATHS, "sts:externalid": (None, UNUSED_NAME),
    "aws:principalisawsservice": ("false",),
}  # fmt: skip
OF_A_PRINCIPAL = (
    "aws:principal",
    "aws:userid",
    "aws:username",
    "aws:multifactorauth",
    "aws:tokenissuetime",
    "aws:federatedprovider",
)


@dataclass(frozen=True)
class ExternalCaller:
    """A caller, the condition keys that it chooses, and the prefixes of keys that its requests lack. Any other key is unknown."""

    caller: Caller
    keys: KnownKeys
    absent: tuple[str, ...] = ()
    origin_matters: bool = False  # whether its network of origin matters


def build_external_role(account: str, arn: str = "", session: str = "") -> ExternalCaller:
    arns = (arn or f"arn:aws:iam::{account}:role/*",)
    own: KnownKeys = {
        "aws:principalarn": arns, "aws:principalaccount": (account,), "aws:principaltype": ("AssumedRole",), "aws:userid": ("AROAANY0Q7Z:*",),
        "aws:username": (None,),
    }  # fmt: skip
    return ExternalCaller(
        Caller(arn or f"arn:aws:iam::{account}:role/{UNUSED_NAME}", session), OF_PEOPLE | own, origin_matters=True
    )


def build_external_user(account: str, arn: str = "") -> ExternalCaller:
    arns = (arn,) if arn else (f"arn:aws:iam::{account}:user/*", f"arn:aws:iam::{account}:root")
    own: KnownKeys = {
        "aws:principalarn": arns, "aws:principalaccount": (account,), "aws:principaltype": ("User", "Account"), "aws:userid": ("AIDAANY0Q7Z",),
        "aws:username": (arn.rsplit("/", 1)[-1] or "*",),
    }  # fmt: skip
    return ExternalCaller(
        Caller(arn or f"arn:aws:iam::{account}:user/{UNUSED_NAME}"), OF_PEOPLE | own, origin_matters=True
    )


def build_foreign_service(name: str = "") -> ExternalCaller:
    """Return a service that acts on behalf of an unknown account.

    Buckets have no account in their ARN: only a name that a pattern leaves open can be an outsider's.
    """
    own: KnownKeys = dict.fromkeys(OF_NETWORK, (None,)) | {
        "aws:sourceaccount": (UNKNOWN_ACCOUNT,), "aws:sourceowner": (UNKNOWN_ACCOUNT,), "aws:sourceorgid": ORG,
        "aws:sourceorgpaths": ORG_PATHS,
        "aws:sourcearn": (f"arn:aws:*:*:{UNKNOWN_ACCOUNT}:*", f"arn:aws:s3:::*{UNUSED_NAME}*"), "aws:principalisawsservice": ("true",),
        "sts:externalid": (None,), "aws:principalservicename": (name or f"{UNUSED_NAME}.amazonaws.com",),
    }  # fmt: skip
    return ExternalCaller(Caller(service=name), OF_ALL | own, OF_A_PRINCIPAL)


NO_KEYS: KnownKeys = dict.fromkeys(
    ("aws:principalorgid", "aws:principalorgpaths", "aws:principalisawsservice", "sts:externalid"), (None,)
)
ANONYMOUS = ExternalCaller(
    Caller(), OF_PEOPLE | NO_KEYS | {"aws:principaltype": ("Anonymous",)}, OF_A_PRINCIPAL, origin_matters=True
)
WITH_KEYS = (build_external_role(UNKNOWN_ACCOUNT), build_external_user(UNKNOWN_ACCOUNT), build_foreign_service())
EXTERNAL_CALLERS = (ANONYMOUS, *WITH_KEYS)


def list_named_callers(value: str, account: str) -> tuple[ExternalCaller, ...]:
    """Return the callers that another account, or a principal of it, may mean when a policy names it."""
    if value.endswith(":root") or value.isdigit():
        return build_external_role(account), build_external_user(account)
    if ":user/" in value:
        return (build_external_user(account, value),)
    if ":assumed-role/" in value:
        return (build_external_role(account, f"arn:aws:iam::{account}:role/{value.split('/')[1]}", value),)
    return (build_external_role(account, value),)


def collect_condition_keys(policy: Policy) -> RequiredValues:
    """Return the condition keys and variables of a policy, with the values that conditions compare them with."""
    found: dict[str, tuple[str, ...]] = {}
    for one in policy.statements:
        for _, key, values in one.conditions:
            found[key] = found.get(key, ()) + values
        for text in (*one.resources, *(value for _, _, values in one.conditions for value in values)):
            for variable in VARIABLE.findall(text) if "${" in text else ():
                found.setdefault(variable.partition(",")[0].strip().lower(), ())
    return found


def iterate_caller_requests(
    external: ExternalCaller, policy: Policy, asked: RequiredValues
) -> Iterator[tuple[Policy, dict[str, str]]]:
    """Yield (policy, condition keys) for each request that the caller may make; the policy is reduced to the keys that it has."""
    origins = (INTERNET, OF_NETWORK) if external.origin_matters and not asked.keys().isdisjoint(INTERNET) else ({},)
    for origin in origins:
        chosen_keys = {key: values for key, values in {**external.keys, **origin}.items() if key in asked}
        lacking = (
            {key for key in asked if key.startswith(external.absent) and key not in chosen_keys}
            if external.absent
            else set()
        )
        choices = [
            [(key, value) for value in list_possible_values(key, shown, asked[key])]
            for key, shown in chosen_keys.items()
        ]
        for chosen in islice(product(*choices), MOST):
            absent = lacking.union(key for key, value in chosen if value is None)
            known = {key: value for key, value in chosen if value is not None}
            yield drop_absent_keys(policy, absent.__contains__) if absent else policy, known


def list_possible_values(key: str, shown: tuple[str | None, ...], wanted: tuple[str, ...]) -> list[str | None]:
    """Return the values that the caller may have for a key: one of its own, and those that also match the policy's patterns."""
    found: list[str | None] = []
    for one in shown:
        found.append(one.replace("*", UNUSED_NAME) if one else one)
        if one and "*" in one:
            found += [met for value in wanted if (met := meet_value(VARIABLE.sub("*", value), one)) is not None]
    if key == "aws:sourceip" and shown != (None,):
        found += [pick_address(value) for value in wanted if is_worldwide(value)]
    return list(dict.fromkeys(found))


def meet_value(wanted: str, shown: str) -> str | None:
    return find_common_arn(wanted, shown) if shown.startswith("arn:") else find_common_text(wanted, shown)


def pick_address(network: str) -> str:
    return str(ip_network(network, strict=False).network_address + 7)


@lru_cache(10_000)
def is_worldwide(text: str) -> bool:
    """Return whether a network is so large that it belongs to no single party."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return False
    return network.prefixlen <= WORLD[network.version] and not text.startswith(("fc", "fd", "10."))
