"""Rules about who may take a role: each is asked of the trust as a stranger, a neighbour, a service or a pipeline would ask."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ops.iam.finding import Finding
from ops.iam.language.document import Policy, Statement
from ops.iam.language.evaluate import Caller, Request, Rights, decide
from ops.iam.needs.expecting import EVERYTHING
from ops.iam.review.effective import NOBODY, Scene, acts
from ops.iam.snapshot import Principal

STRANGER = "000000000000"  # no account has this number
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
# A stranger's own values of what a condition may ask of who he is and where he comes from. What is not here stays unknown.
WHO = {
    "aws:principalarn": f"arn:aws:iam::{STRANGER}:role/{NOBODY}", "aws:principalaccount": STRANGER, "aws:principalorgid": f"o-{NOBODY}",
    "aws:principalorgpaths": f"o-{NOBODY}/r-{NOBODY}/", "aws:sourceaccount": STRANGER, "aws:sourceorgid": f"o-{NOBODY}",
    "aws:sourcearn": f"arn:aws:{NOBODY}:us-east-1:{STRANGER}:{NOBODY}", "aws:sourceorgpaths": f"o-{NOBODY}/r-{NOBODY}/",
    "aws:sourcevpc": f"vpc-{NOBODY}", "aws:sourcevpce": f"vpce-{NOBODY}", "aws:vpceaccount": STRANGER, "aws:vpceorgid": f"o-{NOBODY}",
    "aws:sourceip": "198.51.100.7", "aws:userid": f"AROA{NOBODY}:{NOBODY}", "sts:externalid": NOBODY, "aws:principaltype": "AssumedRole",
    "aws:principalisawsservice": "false", "aws:securetransport": "true",
}  # fmt: skip
WITHOUT_MFA = {"aws:multifactorauthpresent": "false", "aws:multifactorauthage": "999999999"}
SUBJECTS = (
    f"repo:{NOBODY}/{NOBODY}:ref:refs/heads/main",
    f"system:serviceaccount:{NOBODY}:{NOBODY}",
    f"{NOBODY}/{NOBODY}",
    NOBODY,
)
WHOLE_ORGANISATION = re.compile(r"repo:[^/*?]*[*?].*|repo:[^/*?]+/\*.*|system:serviceaccount:\*.*")
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

    def opens(self, caller: Caller, context: Mapping[str, str] | None = None) -> bool:
        """Whether some request of the caller gets through this statement; what is not in the context is not known."""
        for action in ACTIONS:
            if not acts(self.statement, action.lower()):
                continue
            request = Request(caller, action, self.role, {**self.moment, **(context or {})})
            decision = decide(request, Rights((EVERYTHING,)), self.trust, self.account, required=True, possible=True)
            if decision.allowed and any(d.statement is self.statement for d in decision.deciding):
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
    if door.opens(stranger(), WHO):
        yield "IAM-TRUST-001", "critical", "anyone may take it", "name the principals that may"
    elif "*" in named and door.opens(neighbour(door), own(door)):
        fix = "name the principals that may; a condition is easily lost"
        yield "IAM-TRUST-001", "medium", "names anyone, and only its conditions hold them back", fix


def stranger() -> Caller:
    return Caller(WHO["aws:principalarn"])


def neighbour(door: Door) -> Caller:
    """A role of the same account that nobody has named."""
    return Caller(f"arn:aws:iam::{door.account}:role/{NOBODY}")


def own(door: Door) -> dict[str, str]:
    return {"aws:principalarn": neighbour(door).arn, "aws:principalaccount": door.account}


def accounts(door: Door) -> Found:
    one = door.statement
    if "principal" in one.negated:
        return
    for value in dict.fromkeys(value for kind, value in one.principals or () if kind == "AWS"):
        account = account_of(value)
        if not account:
            continue
        if account == door.account:
            if whole_account(value) and door.opens(neighbour(door), own(door)):
                fix = "name the roles or users that may"
                yield "IAM-TRUST-003", "low", "whoever the account's IAM lets may take it: it trusts root", fix
        elif door.opens(visitor(value, account), visiting(value, account)):
            message = f"{value} of another account may take it without an external id"
            yield "IAM-TRUST-002", "high", message, "ask for sts:ExternalId, or take the account out"


def account_of(value: str) -> str:
    return value if re.fullmatch(r"\d{12}", value) else value.split(":")[4] if value.count(":") >= 5 else ""


def whole_account(value: str) -> bool:
    return value.endswith(":root") or value.isdigit()


def visitor(value: str, account: str) -> Caller:
    if whole_account(value):
        return Caller(f"arn:aws:iam::{account}:role/{NOBODY}")
    return Caller(value, value if ":assumed-role/" in value else "")


def visiting(value: str, account: str) -> dict[str, str]:
    return WHO | {"aws:principalarn": visitor(value, account).arn, "aws:principalaccount": account}


def deleted(door: Door) -> Found:
    for _, value in door.statement.principals or ():
        if DELETED.fullmatch(value):
            yield "IAM-TRUST-006", "medium", f"names {value[:4]}..., who was deleted", "take the id out"


def services(door: Door) -> Found:
    for kind, value in door.statement.principals or ():
        service = re.sub(r"\.[a-z]{2}(-[a-z]+)+-\d\.", ".", value)
        if kind == "Service" and service in SENDERS and door.opens(Caller(service=value), WHO):
            fix = "ask for aws:SourceAccount, or aws:SourceArn"
            yield "IAM-TRUST-004", "medium", f"{value} may take it on behalf of any account", fix


def providers(door: Door) -> Found:
    """Web identities: what a pipeline or a pod shows is its subject and for whom its token is meant."""
    for kind, value in door.statement.principals or ():
        if kind != "Federated" or ":saml-provider/" in value:
            continue
        host = value.partition(":oidc-provider/")[2] or value
        caller, sub, aud = Caller(federated=value), f"{host}:sub".lower(), f"{host}:aud".lower()
        anyones = [text for text in SUBJECTS if door.opens(caller, {sub: text})]
        if anyones and host != "cognito-identity.amazonaws.com":  # whose pool is the audience
            message = f"whatever {host} vouches for may take it: {sub} is not held to a value"
            yield "IAM-TRUST-005", "critical", message, f"ask for {sub} with StringEquals"
        wide = [text for text in values(door.statement, sub) if WHOLE_ORGANISATION.fullmatch(text)]
        if wide and not anyones and door.opens(caller):
            message = f"a whole organisation may take it: {sub} is {wide[0]}"
            yield "IAM-TRUST-005", "high", message, "name the repository, and its branch or environment"
        if door.opens(caller, {aud: NOBODY}):
            message = f"a token that {host} gave out for anybody may take it: {aud} is not held to a value"
            yield "IAM-TRUST-005", "critical", message, f"ask for {aud} with StringEquals"


def values(one: Statement, key: str) -> list[str]:
    return [text for _, asked, found in one.conditions if asked == key for text in found]


def humans(door: Door) -> Found:
    """Users, and whoever an account lets in, bring a second factor; a role cannot."""
    if "principal" in door.statement.negated:
        return
    for kind, value in door.statement.principals or ():
        if kind != "AWS" or account_of(value) != door.account or not (whole_account(value) or ":user/" in value):
            continue
        caller = neighbour(door) if whole_account(value) else Caller(value)
        if door.opens(caller, {"aws:principalarn": caller.arn, "aws:principalaccount": door.account} | WITHOUT_MFA):
            yield "IAM-TRUST-007", "low", "a person may take it without a second factor", "ask for aws:MultiFactorAuthPresent"  # fmt: skip
            return


def long_sessions(role: Principal) -> Iterator[Finding]:
    """Of a role that may do everything."""
    if role.trust is not None and role.session_s > 3600:
        message = f"may do everything, for {role.session_s / 3600:.1f} h at a time"
        yield Finding("IAM-TRUST-007", "low", role.name, message, "let its sessions last an hour", "trust")
