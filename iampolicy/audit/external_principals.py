"""Who comes from outside: people with keys and without, over the internet or from a network of their own, and services that
somebody else has set to work.

A guest shows for each condition key what is his to show: patterns, and None where his request lacks the key. What a policy asks for
is met with these, so that `arn:aws:iam::*:role/ci` becomes the role of that name in his own account. Whether that lets him in is the
evaluator's answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_network
from itertools import islice, product

from iampolicy.audit.context import NOBODY
from iampolicy.escalation.missing_keys import without
from iampolicy.escalation.permission_set import meet, meet_arn
from iampolicy.policy.document import VARIABLE, Policy
from iampolicy.policy.evaluate import Caller

STRANGER = "000000000000"  # no account has this number
MOST = 256  # requests that are tried for one guest
Shows = dict[str, tuple[str | None, ...]]
Asked = Mapping[str, tuple[str, ...]]  # the values that a policy asks of each key
# By AWS's word a policy is public that lets in addresses "broader than /8 for IPv4 and /32 for IPv6 (excluding RFC1918 private
# ranges)": docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html. A whole /8 counts here too.
WORLD = {4: 8, 6: 31}
ORG, ORG_PATHS = (None, f"o-{NOBODY}"), (None, f"o-{NOBODY}/r-{NOBODY}/")  # not every account is in an organisation
OF_NETWORK: Shows = {
    "aws:sourceip": (None,), "aws:sourcevpc": (f"vpc-{NOBODY}",), "aws:sourcevpce": (f"vpce-{NOBODY}",), "aws:vpcsourceip": ("10.0.0.7",),
    "aws:sourcevpcarn": (f"arn:aws:ec2:us-east-1:{STRANGER}:vpc/vpc-{NOBODY}",), "aws:vpceaccount": (STRANGER,),
    "aws:vpceorgid": ORG, "aws:vpceorgpaths": ORG_PATHS,
}  # fmt: skip
INTERNET: Shows = {**dict.fromkeys(OF_NETWORK, (None,)), "aws:sourceip": ("198.51.100.7", "2001:db8::7")}
BY_SERVICES = ("aws:sourceaccount", "aws:sourcearn", "aws:sourceorgid", "aws:sourceorgpaths", "aws:sourceowner")
# Access points of his own account are all that he can come by.
OF_ALL: Shows = {
    "aws:securetransport": ("true",), "s3:dataaccesspointaccount": (None, STRANGER),
    "s3:dataaccesspointarn": (None, f"arn:aws:s3:us-east-1:{STRANGER}:accesspoint/*"),
}  # fmt: skip
OF_PEOPLE: Shows = OF_ALL | {
    **dict.fromkeys(BY_SERVICES, (None,)),  # AWS sets them where a service itself asks
    "aws:principalorgid": ORG, "aws:principalorgpaths": ORG_PATHS, "sts:externalid": (None, NOBODY),
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
class Guest:
    """A caller, what he shows, and the start of keys that his requests lack unless he shows them. Any other key is unknown."""

    caller: Caller
    shows: Shows
    lacks: tuple[str, ...] = ()
    travels: bool = False  # whether it matters from where he comes


def role_of(account: str, arn: str = "", session: str = "") -> Guest:
    arns = (arn or f"arn:aws:iam::{account}:role/*",)
    own: Shows = {
        "aws:principalarn": arns, "aws:principalaccount": (account,), "aws:principaltype": ("AssumedRole",), "aws:userid": ("AROAANY0Q7Z:*",),
        "aws:username": (None,),
    }  # fmt: skip
    return Guest(Caller(arn or f"arn:aws:iam::{account}:role/{NOBODY}", session), OF_PEOPLE | own, travels=True)


def user_of(account: str, arn: str = "") -> Guest:
    arns = (arn,) if arn else (f"arn:aws:iam::{account}:user/*", f"arn:aws:iam::{account}:root")
    own: Shows = {
        "aws:principalarn": arns, "aws:principalaccount": (account,), "aws:principaltype": ("User", "Account"), "aws:userid": ("AIDAANY0Q7Z",),
        "aws:username": (arn.rsplit("/", 1)[-1] or "*",),
    }  # fmt: skip
    return Guest(Caller(arn or f"arn:aws:iam::{account}:user/{NOBODY}"), OF_PEOPLE | own, travels=True)


def service(name: str = "") -> Guest:
    """One that acts on behalf of an account of which nobody here knows. Buckets have no account in their ARN: only a name that a
    pattern leaves open can be a stranger's."""
    own: Shows = dict.fromkeys(OF_NETWORK, (None,)) | {
        "aws:sourceaccount": (STRANGER,), "aws:sourceowner": (STRANGER,), "aws:sourceorgid": ORG,
        "aws:sourceorgpaths": ORG_PATHS,
        "aws:sourcearn": (f"arn:aws:*:*:{STRANGER}:*", f"arn:aws:s3:::*{NOBODY}*"), "aws:principalisawsservice": ("true",),
        "sts:externalid": (None,), "aws:principalservicename": (name or f"{NOBODY}.amazonaws.com",),
    }  # fmt: skip
    return Guest(Caller(service=name), OF_ALL | own, OF_A_PRINCIPAL)


NO_KEYS: Shows = dict.fromkeys(
    ("aws:principalorgid", "aws:principalorgpaths", "aws:principalisawsservice", "sts:externalid"), (None,)
)
ANONYMOUS = Guest(Caller(), OF_PEOPLE | NO_KEYS | {"aws:principaltype": ("Anonymous",)}, OF_A_PRINCIPAL, travels=True)
WITH_KEYS = (role_of(STRANGER), user_of(STRANGER), service())
STRANGERS = (ANONYMOUS, *WITH_KEYS)


def visitors(value: str, account: str) -> tuple[Guest, ...]:
    """Those whom the naming of another account, or of somebody there, may mean."""
    if value.endswith(":root") or value.isdigit():
        return role_of(account), user_of(account)
    if ":user/" in value:
        return (user_of(account, value),)
    if ":assumed-role/" in value:
        return (role_of(account, f"arn:aws:iam::{account}:role/{value.split('/')[1]}", value),)
    return (role_of(account, value),)


def asked_of(policy: Policy) -> Asked:
    """The keys that decide, in conditions and as variables, with what conditions compare them with."""
    found: dict[str, tuple[str, ...]] = {}
    for one in policy.statements:
        for _, key, values in one.conditions:
            found[key] = found.get(key, ()) + values
        for text in (*one.resources, *(value for _, _, values in one.conditions for value in values)):
            for variable in VARIABLE.findall(text) if "${" in text else ():
                found.setdefault(variable.partition(",")[0].strip().lower(), ())
    return found


def requests(guest: Guest, policy: Policy, asked: Asked) -> Iterator[tuple[Policy, dict[str, str]]]:
    """The policy as it meets a request of the guest, and the keys that he shows; for each way in which he may come."""
    origins = (INTERNET, OF_NETWORK) if guest.travels and not asked.keys().isdisjoint(INTERNET) else ({},)
    for origin in origins:
        shows = {key: values for key, values in {**guest.shows, **origin}.items() if key in asked}
        lacking = {key for key in asked if key.startswith(guest.lacks) and key not in shows} if guest.lacks else set()
        ways = [[(key, value) for value in offered(key, shown, asked[key])] for key, shown in shows.items()]
        for chosen in islice(product(*ways), MOST):
            absent = lacking.union(key for key, value in chosen if value is None)
            known = {key: value for key, value in chosen if value is not None}
            yield without(policy, absent.__contains__) if absent else policy, known


def offered(key: str, shown: tuple[str | None, ...], wanted: tuple[str, ...]) -> list[str | None]:
    """What the guest may show for a key: something of his own, and what also fits the policy's own patterns."""
    found: list[str | None] = []
    for one in shown:
        found.append(one.replace("*", NOBODY) if one else one)
        if one and "*" in one:
            found += [met for value in wanted if (met := meeting(VARIABLE.sub("*", value), one)) is not None]
    if key == "aws:sourceip" and shown != (None,):
        found += [somebody(value) for value in wanted if worldwide(value)]
    return list(dict.fromkeys(found))


def meeting(wanted: str, shown: str) -> str | None:
    return meet_arn(wanted, shown) if shown.startswith("arn:") else meet(wanted, shown)


def somebody(network: str) -> str:
    return str(ip_network(network, strict=False).network_address + 7)


@lru_cache(10_000)
def worldwide(text: str) -> bool:
    """Whether a network is so large that it is no single party's."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return False
    return network.prefixlen <= WORLD[network.version] and not text.startswith(("fc", "fd", "10."))
