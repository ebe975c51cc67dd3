"""Rules about who may take a role: each is asked of the trust as a stranger, a neighbour, a service or a pipeline would ask."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from iampolicy.account.snapshot import Principal
from iampolicy.audit.context import NOBODY, Scene, acts, shortlist
from iampolicy.audit.external_principals import WITH_KEYS, Asked, Guest, Shows, asked_of, requests, service, visitors
from iampolicy.escalation.targets import regionless
from iampolicy.finding import Finding
from iampolicy.policy.document import Policy, Statement
from iampolicy.policy.evaluate import Caller, Request, Rights, decide
from ops.iam.expectations import EVERYTHING

# Services that send aws:SourceAccount and aws:SourceArn when they take a role, by their pages on the confused deputy. EC2 and
# Lambda are not among them: they send neither, and a role cannot be passed to them from another account.
SENDERS = frozenset(
    f"{name}.amazonaws.com"
    for name in (
        "amplify", "appflow", "bedrock", "bedrock-agentcore", "codebuild", "comprehend", "databrew", "datasync", "ecs-tasks",
        "elasticmapreduce", "emr-serverless", "firehose", "forecast", "kinesisanalytics", "lexv2", "logs", "omics", "personalize",
        "pipes", "sagemaker", "scheduler", "ssm", "states", "transcribe", "transfer", "vpc-flow-logs",
    )
)  # fmt: skip
# With a long-term key there is no such key in the request; in a session without a second factor it is false, and has no age.
# docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
WITHOUT_MFA: Shows = {"aws:multifactorauthpresent": (None, "false"), "aws:multifactorauthage": (None,)}
# What a token's subject may be, whosesoever: of GitHub, GitLab, Terraform and Buildkite, Vercel, a cluster, and plain names.
SUBJECTS = (
    "repo:{0}/*:*", "project_path:{0}/*:*", "organization:{0}:*", "owner:{0}:*", f"system:serviceaccount:{NOBODY}:{NOBODY}",
    f"{NOBODY}/{NOBODY}", NOBODY,
)  # fmt: skip
# The same of one organisation, of a repository or workspace in it that nobody has named; or of any namespace of a cluster.
WHOLE = (
    f"repo:{{0}}/{NOBODY}:*", f"project_path:{{0}}/{NOBODY}:*", f"organization:{{0}}:project:{NOBODY}:*", f"organization:{{0}}:pipeline:{NOBODY}:*",
    f"owner:{{0}}:project:{NOBODY}:*", f"system:serviceaccount:{NOBODY}:*",
)  # fmt: skip
ORGANISATION = re.compile(r"(?:repo|project_path|organization|owner):([^/:@]+)")
# Other claims that say whose a token is. Those that its owner is free to choose, as branch and environment, stay unknown.
CLAIMS = (
    "actor", "actor_id", "email", "enterprise", "enterprise_id", "hd", "namespace_id", "namespace_path", "organization_id", "project_id",
    "project_path", "repository", "repository_id", "repository_owner", "repository_owner_id", "terraform_organization_id",
    "terraform_organization_name", "user_email", "user_id", "user_login", "workspace_id",
)  # fmt: skip
DELETED = re.compile(r"A(IDA|ROA|GPA|SCA)[A-Z0-9]{10,}")
ACTIONS = ("sts:AssumeRole", "sts:AssumeRoleWithWebIdentity", "sts:AssumeRoleWithSAML")


@dataclass(frozen=True)
class Door:
    """One statement of a trust that lets somebody in, with the whole trust, whose denies count."""

    trust: Policy
    statement: Statement
    role: str
    account: str
    moment: Mapping[str, str]

    @cached_property
    def asked(self) -> Asked:
        return asked_of(self.trust)

    def opens(self, *guests: Guest) -> bool:
        """Whether some request of one of them gets through this statement; what a guest does not show is not known."""
        return any(
            self.passes(trust, guest.caller, {**self.moment, **known})
            for guest in guests
            for trust, known in requests(guest, self.trust, self.asked)
        )

    def passes(self, trust: Policy, caller: Caller, context: Mapping[str, str]) -> bool:
        for action in ACTIONS:
            if not acts(self.statement, action.lower()):
                continue
            request = Request(caller, action, self.role, context)
            decision = decide(request, Rights((EVERYTHING,)), trust, self.account, required=True, possible=True)
            if decision.allowed and any(
                d.layer == "resource" and d.statement.number == self.statement.number for d in decision.deciding
            ):
                return True
        return False


def findings(scene: Scene, role: Principal) -> Iterator[Finding]:
    trust = role.trust_policy
    known = scene.remembered.get(id(trust.statements))
    if known is None:
        moment = {"aws:currenttime": scene.now.isoformat(), "aws:epochtime": str(int(scene.now.timestamp()))}
        doors = [Door(trust, one, role.arn, scene.account, moment) for one in trust.statements if one.allow]
        known = scene.remembered[id(trust.statements)] = trust, [found for door in doors for found in through(door)]
    for rule, severity, message, fix, statement in known[1]:
        yield Finding(rule, severity, role.name, message, fix, "trust", statement)


def through(door: Door) -> Iterator[tuple[str, str, str, str, str]]:
    one = door.statement
    for rule in (anybody, accounts, deleted, services, providers, humans):
        for found in rule(door):
            yield *found, one.name


Found = Iterator[tuple[str, str, str, str]]  # rule, severity, message, fix


def anybody(door: Door) -> Found:
    one = door.statement
    named = [value for kind, value in one.principals or () if kind == "AWS"]
    if "principal" in one.negated:
        yield "IAM-TRUST-006", "medium", "lets all in but some: NotPrincipal", "name who may take it"
    elif "*" not in named:
        return
    if door.opens(*WITH_KEYS):
        yield "IAM-TRUST-001", "critical", "anyone may take it", "name the principals that may"
    elif "*" in named and door.opens(neighbour(door)):
        fix = "name the principals that may; a condition is easily lost"
        yield "IAM-TRUST-001", "medium", "names anyone, and only its conditions hold them back", fix


def neighbour(door: Door, kind: str = "role") -> Guest:
    """Somebody of the same account whom nobody has named."""
    return known_as(f"arn:aws:iam::{door.account}:{kind}/{NOBODY}", door.account)


def known_as(arn: str, account: str) -> Guest:
    user: Shows = {"aws:username": (arn.rsplit("/", 1)[-1],), "aws:principaltype": ("User",)} if ":user/" in arn else {}
    return Guest(Caller(arn), user | {"aws:principalarn": (arn,), "aws:principalaccount": (account,)})


def accounts(door: Door) -> Found:
    one = door.statement
    if "principal" in one.negated:
        return
    for value in dict.fromkeys(value for kind, value in one.principals or () if kind == "AWS"):
        account = account_of(value)
        if not account:
            continue
        if account == door.account:
            if whole_account(value) and door.opens(neighbour(door)):
                fix = "name the roles or users that may"
                yield "IAM-TRUST-003", "low", "whoever the account's IAM lets may take it: it trusts root", fix
        elif door.opens(*visitors(value, account)):
            message = f"{value} of another account may take it without an external id"
            yield "IAM-TRUST-002", "high", message, "ask for sts:ExternalId, or take the account out"


def account_of(value: str) -> str:
    return value if re.fullmatch(r"\d{12}", value) else value.split(":")[4] if value.count(":") >= 5 else ""


def whole_account(value: str) -> bool:
    return value.endswith(":root") or value.isdigit()


def deleted(door: Door) -> Found:
    for _, value in door.statement.principals or ():
        if DELETED.fullmatch(value):
            yield "IAM-TRUST-006", "medium", f"names {value[:4]}..., who was deleted", "take the id out"


def services(door: Door) -> Found:
    for kind, value in door.statement.principals or ():
        if kind == "Service" and regionless(value) in SENDERS and door.opens(service(value)):
            fix = "ask for aws:SourceAccount, or aws:SourceArn"
            yield "IAM-TRUST-004", "medium", f"{value} may take it on behalf of any account", fix


def providers(door: Door) -> Found:
    """Web identities: what a pipeline or a pod shows is its subject and for whom its token is meant."""
    for kind, value in door.statement.principals or ():
        if kind != "Federated" or ":saml-provider/" in value:
            continue
        host = value.partition(":oidc-provider/")[2] or value
        caller, sub, aud = Caller(federated=value), f"{host}:sub".lower(), f"{host}:aud".lower()
        claims: Shows = {f"{host}:{name}".lower(): (NOBODY, f"{NOBODY}/*") for name in CLAIMS}
        subjects = values(door.statement, sub)
        anyones = door.opens(Guest(caller, claims | {sub: tuple(elsewhere(subjects))}))
        if anyones and host != "cognito-identity.amazonaws.com":  # whose pool is the audience
            held = f"is {shortlist(subjects)}" if subjects else "is not held to a value"
            message = f"anybody whom {host} vouches for may take it: {sub} {held}"
            yield "IAM-TRUST-005", "critical", message, f"ask for {sub} with StringEquals"
        wide = (one for one in subjects if door.opens(Guest(caller, claims | {sub: tuple(within(one))})))
        if not anyones and (one := next(wide, "")):
            message = f"a whole organisation may take it: {sub} is {one}"
            yield "IAM-TRUST-005", "high", message, "name the repository, and its branch or environment"
        if door.opens(Guest(caller, {aud: (NOBODY,)})):
            message = f"a token that {host} gave out for anybody may take it: {aud} is not held to a value"
            yield "IAM-TRUST-005", "critical", message, f"ask for {aud} with StringEquals"


def elsewhere(subjects: Iterable[str]) -> Iterator[str]:
    """Subjects of an organisation that is nobody's here: of any name, or of one that a pattern leaves partly open."""
    named = [found[1] for one in subjects if (found := ORGANISATION.match(one))]
    strangers = [NOBODY, *(one.replace("*", NOBODY).replace("?", "x") for one in named if {*"*?"} & {*one})]
    yield from dict.fromkeys(form.format(one) for one in strangers for form in SUBJECTS)


def within(subject: str) -> Iterator[str]:
    """Subjects of the organisation that a subject names, wherever in it."""
    found = ORGANISATION.match(subject)
    yield from (form.format(found[1] if found else NOBODY) for form in WHOLE)


def values(one: Statement, key: str) -> list[str]:
    return [text for _, asked, found in one.conditions if asked == key for text in found]


def humans(door: Door) -> Found:
    """Users, and whoever an account lets in, bring a second factor; a role cannot."""
    if "principal" in door.statement.negated:
        return
    for kind, value in door.statement.principals or ():
        if kind != "AWS" or account_of(value) != door.account or not (whole_account(value) or ":user/" in value):
            continue
        person = neighbour(door, "user") if whole_account(value) else known_as(value, door.account)
        if door.opens(replace(person, shows=person.shows | WITHOUT_MFA)):
            yield "IAM-TRUST-007", "low", "a person may take it without a second factor", "ask for aws:MultiFactorAuthPresent"  # fmt: skip
            return


def long_sessions(role: Principal) -> Iterator[Finding]:
    """Of a role that may do everything."""
    if role.trust is not None and role.session_s > 3600:
        message = f"may do everything, for {role.session_s / 3600:.1f} h at a time"
        yield Finding("IAM-TRUST-007", "low", role.name, message, "let its sessions last an hour", "trust")
