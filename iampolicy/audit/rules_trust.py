"""Rules about who may assume a role: each evaluates the trust policy for callers of other accounts, of this account, services and pipelines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from iampolicy.account.snapshot import Principal
from iampolicy.audit.context import UNUSED_NAME, AuditContext, format_shortlist, has_action
from iampolicy.audit.external_principals import (
    UNLIMITED,
    WITH_KEYS,
    ExternalCaller,
    KnownKeys,
    RequiredValues,
    build_foreign_service,
    collect_condition_keys,
    iterate_caller_requests,
    list_named_callers,
)
from iampolicy.escalation.account_model import strip_region
from iampolicy.escalation.session_times import drop_impossible_sessions
from iampolicy.finding import Finding
from iampolicy.policy.document import Policy, Statement
from iampolicy.policy.evaluate import Caller, Request, decide_request

# Services that send aws:SourceAccount and aws:SourceArn when they assume a role, by their pages on the confused deputy. EC2 and
# Lambda are not among them: they send neither key, and a role cannot be passed to them from another account.
SENDERS = frozenset(
    f"{name}.amazonaws.com"
    for name in (
        "amplify", "appflow", "bedrock", "bedrock-agentcore", "codebuild", "comprehend", "databrew", "datasync", "ecs-tasks",
        "elasticmapreduce", "emr-serverless", "firehose", "forecast", "kinesisanalytics", "lexv2", "logs", "omics", "personalize",
        "pipes", "sagemaker", "scheduler", "ssm", "states", "transcribe", "transfer", "vpc-flow-logs",
    )
)  # fmt: skip
# A request signed with a long-term access key has neither key; a session without MFA has aws:MultiFactorAuthPresent false and no age.
# docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
WITHOUT_MFA: KnownKeys = {"aws:multifactorauthpresent": (None, "false"), "aws:multifactorauthage": (None,)}
# The forms of a token's subject: of GitHub in both spellings, GitLab, Terraform and Buildkite, Vercel, a cluster, and plain names.
SUBJECTS = (
    "repo:{0}/*:*", f"repo:{{0}}@{UNUSED_NAME}/*:*", "project_path:{0}/*:*", "organization:{0}:*", "owner:{0}:*",
    f"system:serviceaccount:{UNUSED_NAME}:{UNUSED_NAME}",
    f"{UNUSED_NAME}/{UNUSED_NAME}", UNUSED_NAME,
)  # fmt: skip
# The same forms of one organisation, for a repository or workspace in it that no policy names; or any namespace of a cluster.
WHOLE = (
    f"repo:{{0}}/{UNUSED_NAME}:*", f"project_path:{{0}}/{UNUSED_NAME}:*", f"organization:{{0}}:project:{UNUSED_NAME}:*",
    f"organization:{{0}}:pipeline:{UNUSED_NAME}:*",
    f"owner:{{0}}:project:{UNUSED_NAME}:*", f"system:serviceaccount:{UNUSED_NAME}:*",
)  # fmt: skip
ORGANISATION = re.compile(r"(?:repo|project_path|organization|owner):([^/:@]+)")
# GitHub's subjects of repositories made since 2026-07-15 have ids: repo:ORGANISATION@ID/REPOSITORY@ID:...
WITH_IDS = re.compile(r"repo:(?P<owner>[^/:@]*@[^/:]*)(?:/[^:]*)?(?P<rest>:.*)?")
# Other claims that identify a token's owner. Those that the owner chooses freely, as branch and environment, stay unknown.
CLAIMS = (
    "actor", "actor_id", "email", "enterprise", "enterprise_id", "hd", "namespace_id", "namespace_path", "organization_id", "project_id",
    "project_path", "repository", "repository_id", "repository_owner", "repository_owner_id", "terraform_organization_id",
    "terraform_organization_name", "user_email", "user_id", "user_login", "workspace_id",
)  # fmt: skip
DELETED = re.compile(r"A(IDA|ROA|GPA|SCA)[A-Z0-9]{10,}")
ACTIONS = ("sts:AssumeRole", "sts:AssumeRoleWithWebIdentity", "sts:AssumeRoleWithSAML")
COGNITO = "cognito-identity.amazonaws.com"
# Providers whose tokens any user of the audience has: an identity pool's, or an app's. The audience's key is aud, or for these app_id.
# docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html#condition-keys-wif
OF_APPS = ("graph.facebook.com", "www.amazon.com")


@dataclass(frozen=True)
class TrustEntry:
    """One Allow statement of a trust policy, with the whole policy, whose Deny statements count."""

    trust: Policy
    statement: Statement
    role: str
    account: str
    moment: Mapping[str, str]

    @cached_property
    def asked(self) -> RequiredValues:
        return collect_condition_keys(self.trust)

    def admits(self, *callers: ExternalCaller) -> bool:
        """Return whether this statement allows some request of one of the callers; keys that a caller does not have are unknown."""
        return any(
            self.passes(trust, external.caller, {**self.moment, **known})
            for external in callers
            for trust, known in iterate_caller_requests(external, self.trust, self.asked)
        )

    def passes(self, trust: Policy, caller: Caller, context: Mapping[str, str]) -> bool:
        for action in ACTIONS:
            if not has_action(self.statement, action.lower()):
                continue
            request = Request(caller, action, self.role, context)
            decision = decide_request(request, UNLIMITED, trust, self.account, required=True, possible=True)
            if decision.allowed and any(
                d.layer == "resource" and d.statement.number == self.statement.number for d in decision.deciding
            ):
                return True
        return False


def findings(context: AuditContext, role: Principal) -> Iterator[Finding]:
    trust = role.trust_policy
    known = context.trust_findings.get(id(trust.statements))
    if known is None:
        moment = {"aws:currenttime": context.now.isoformat(), "aws:epochtime": str(int(context.now.timestamp()))}
        live = drop_impossible_sessions(
            trust, "user", context.now
        )  # a user of another account has no fewer keys than a role
        entries = [TrustEntry(live, one, role.arn, context.account, moment) for one in live.statements if one.allow]
        known = context.trust_findings[id(trust.statements)] = (
            trust,
            [found for entry in entries for found in list_entry_findings(entry)],
        )
    for rule, severity, message, fix, statement in known[1]:
        yield Finding(rule, severity, role.name, message, fix, "trust", statement)


def list_entry_findings(entry: TrustEntry) -> Iterator[tuple[str, str, str, str, str]]:
    one = entry.statement
    for rule in (
        find_open_trust,
        find_trusted_accounts,
        find_deleted_principals,
        find_confused_deputies,
        find_open_providers,
        find_missing_mfa,
    ):
        for found in rule(entry):
            yield *found, one.name


Found = Iterator[tuple[str, str, str, str]]  # rule, severity, message, fix


def find_open_trust(entry: TrustEntry) -> Found:
    one = entry.statement
    named = [value for kind, value in one.principals or () if kind == "AWS"]
    if "principal" in one.negated:
        yield (
            "IAM-TRUST-006",
            "medium",
            "allows everyone except some, with NotPrincipal",
            "name the principals that may assume it",
        )
    elif "*" not in named:
        return
    if entry.admits(*WITH_KEYS):
        yield "IAM-TRUST-001", "critical", "anyone may assume it", "name the principals that may assume it"
    elif "*" in named and entry.admits(build_neighbour_caller(entry)):
        fix = "name the principals that may assume it; a condition is easily lost"
        yield "IAM-TRUST-001", "medium", "its trust policy names Principal *, restricted only by conditions", fix


def build_neighbour_caller(entry: TrustEntry, kind: str = "role") -> ExternalCaller:
    """Return a caller of the same account that no policy names."""
    return build_known_caller(f"arn:aws:iam::{entry.account}:{kind}/{UNUSED_NAME}", entry.account)


def build_known_caller(arn: str, account: str) -> ExternalCaller:
    user: KnownKeys = (
        {"aws:username": (arn.rsplit("/", 1)[-1],), "aws:principaltype": ("User",)} if ":user/" in arn else {}
    )
    return ExternalCaller(Caller(arn), user | {"aws:principalarn": (arn,), "aws:principalaccount": (account,)})


def find_trusted_accounts(entry: TrustEntry) -> Found:
    one = entry.statement
    if "principal" in one.negated:
        return
    for value in dict.fromkeys(value for kind, value in one.principals or () if kind == "AWS"):
        account = extract_account(value)
        if not account:
            continue
        if account == entry.account:
            if is_whole_account(value) and entry.admits(build_neighbour_caller(entry)):
                fix = "name the roles or users that may assume it"
                message = "anyone in the account with sts:AssumeRole may assume it: its trust policy names root"
                yield "IAM-TRUST-003", "low", message, fix
        elif entry.admits(*list_named_callers(value, account)):
            message = f"{value} of another account may assume it without an external id"
            yield "IAM-TRUST-002", "high", message, "require sts:ExternalId, or remove the account"


def extract_account(value: str) -> str:
    return value if re.fullmatch(r"\d{12}", value) else value.split(":")[4] if value.count(":") >= 5 else ""


def is_whole_account(value: str) -> bool:
    return value.endswith(":root") or value.isdigit()


def find_deleted_principals(entry: TrustEntry) -> Found:
    for _, value in entry.statement.principals or ():
        if DELETED.fullmatch(value):
            yield (
                "IAM-TRUST-006",
                "medium",
                f"its trust policy names {value[:4]}..., a deleted principal",
                "remove the id",
            )


def find_confused_deputies(entry: TrustEntry) -> Found:
    for kind, value in entry.statement.principals or ():
        if kind == "Service" and strip_region(value) in SENDERS and entry.admits(build_foreign_service(value)):
            fix = "require aws:SourceAccount or aws:SourceArn"
            yield "IAM-TRUST-004", "medium", f"{value} may assume it on behalf of any account", fix


def find_open_providers(entry: TrustEntry) -> Found:
    """Yield findings about web identities: a pipeline, a pod or a user of an app presents a token with a subject and an audience."""
    for kind, value in entry.statement.principals or ():
        if kind != "Federated" or ":saml-provider/" in value:
            continue
        host = value.partition(":oidc-provider/")[2] or value
        caller, aud = Caller(federated=value), f"{host}:{'app_id' if host in OF_APPS else 'aud'}".lower()
        if host not in (COGNITO, *OF_APPS):
            yield from find_open_subjects(entry, host, caller)
        if entry.admits(ExternalCaller(caller, {aud: (UNUSED_NAME,)})):
            message = f"a token of {host} for any audience may assume it: {aud} has no condition"
            yield "IAM-TRUST-005", "critical", message, f"require {aud} with StringEquals"
        if host == COGNITO:
            yield from find_guests(entry, caller)


def find_open_subjects(entry: TrustEntry, host: str, caller: Caller) -> Found:
    """Yield a finding if subjects of any organisation, or of any repository of one, may assume the role."""
    sub = f"{host}:sub".lower()
    claims: KnownKeys = {f"{host}:{name}".lower(): (UNUSED_NAME, f"{UNUSED_NAME}/*") for name in CLAIMS}
    subjects = list_condition_values(entry.statement, sub)
    if entry.admits(ExternalCaller(caller, claims | {sub: tuple(invent_foreign_subjects(subjects))})):
        condition = f"is {format_shortlist(subjects)}" if subjects else "has no condition"
        message = f"any identity of {host} may assume it: {sub} {condition}"
        yield "IAM-TRUST-005", "critical", message, f"require {sub} with StringEquals"
        return
    for one in subjects:
        if entry.admits(ExternalCaller(caller, claims | {sub: tuple(invent_sibling_subjects(one))})):
            message = f"a whole organisation may assume it: {sub} is {one}"
            yield "IAM-TRUST-005", "high", message, "name the repository, and its branch or environment"
            return


def find_guests(entry: TrustEntry, caller: Caller) -> Found:
    """Yield a finding if guests of an identity pool, who have not logged in, may assume a role that is not named as theirs."""
    amr = f"{COGNITO}:amr"
    wanted = list_condition_values(entry.statement, amr)
    if "unauthenticated" in wanted:
        return
    if entry.admits(ExternalCaller(caller, {amr: ("unauthenticated",), f"{COGNITO}:sub": (UNUSED_NAME,)})):
        condition = f"is {format_shortlist(wanted)}" if wanted else "has no condition"
        message = f"guests of the identity pool, who have not logged in, may assume it: {amr} {condition}"
        yield "IAM-TRUST-005", "high", message, f'require {amr} with ForAnyValue:StringLike, "authenticated"'


def invent_foreign_subjects(subjects: Iterable[str]) -> Iterator[str]:
    """Yield subjects of an unrelated organisation: one of any name, or of a name that matches a pattern."""
    named = [found[1] for one in subjects if (found := ORGANISATION.match(one))]
    organisations = [
        UNUSED_NAME,
        *(one.replace("*", UNUSED_NAME).replace("?", "x") for one in named if {*"*?"} & {*one}),
    ]
    yield from dict.fromkeys(form.format(one) for one in organisations for form in SUBJECTS)


def invent_sibling_subjects(subject: str) -> Iterator[str]:
    """Yield subjects of other repositories or workspaces of the organisation that a subject names."""
    found = ORGANISATION.match(subject)
    yield from (form.format(found[1] if found else UNUSED_NAME) for form in WHOLE)
    if named := WITH_IDS.fullmatch(subject):
        # A wildcard of an id matches an id alone: filled in here, since it would otherwise reach across the slash and the colon.
        owner, rest = (
            text and text.replace("*", UNUSED_NAME).replace("?", "x") for text in named.group("owner", "rest")
        )
        yield f"repo:{owner}/{UNUSED_NAME}@{UNUSED_NAME}{rest or ':*'}"


def list_condition_values(one: Statement, key: str) -> list[str]:
    return [text for _, asked, found in one.conditions if asked == key for text in found]


def find_missing_mfa(entry: TrustEntry) -> Found:
    """Yield a finding if a user, or any user of the account, may assume it without MFA; for a role there is no MFA."""
    if "principal" in entry.statement.negated:
        return
    for kind, value in entry.statement.principals or ():
        if (
            kind != "AWS"
            or extract_account(value) != entry.account
            or not (is_whole_account(value) or ":user/" in value)
        ):
            continue
        person = (
            build_neighbour_caller(entry, "user")
            if is_whole_account(value)
            else build_known_caller(value, entry.account)
        )
        if entry.admits(replace(person, keys=person.keys | WITHOUT_MFA)):
            yield "IAM-TRUST-007", "low", "a user may assume it without MFA", "require aws:MultiFactorAuthPresent"  # fmt: skip
            return


def find_long_sessions(role: Principal) -> Iterator[Finding]:
    """Yield a finding for an administrator role whose sessions may last longer than an hour."""
    if role.trust is not None and role.session_s > 3600:
        message = f"has administrator access, in sessions of up to {role.session_s / 3600:.1f} h"
        yield Finding(
            "IAM-TRUST-007", "low", role.name, message, "set its maximum session duration to one hour", "trust"
        )
