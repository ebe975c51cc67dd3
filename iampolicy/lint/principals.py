"""Check the principals of trust and resource policies: principals that cannot exist, and trust actions that do not fit them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from iampolicy.finding import Finding
from iampolicy.lint.arns import check_placeholders
from iampolicy.lint.issue import FORM, MISFIT, find_closest_word, make_issue, quote_text, suggest_fix
from iampolicy.policy.document import as_list

KINDS = ("AWS", "Service", "Federated", "CanonicalUser")
ARN = re.compile(r"arn:aws[a-z-]*:(iam|sts)::(\d{12}|cloudfront):(root|(user|role|assumed-role|federated-user)/[^*?]+)")
ACCOUNT = re.compile(r"\d{12}")
IDENTITY = re.compile(r"A[A-Z]{2}[A-Z0-9]{10,}")  # the id that remains where a principal was deleted
SERVICE = re.compile(r"[a-z0-9.-]+\.(amazonaws\.com(\.cn)?|aws\.internal)|[a-z0-9-]+\.aws\.com")
PROVIDER = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:(saml-provider|oidc-provider)/.+")
PROVIDERS = ("accounts.google.com", "cognito-identity.amazonaws.com", "graph.facebook.com", "www.amazon.com")
ENTRIES = {"saml-provider": "sts:AssumeRoleWithSAML", "oidc-provider": "sts:AssumeRoleWithWebIdentity"}
TRUSTED = re.compile(r"sts:(\*|(AssumeRole|TagSession|Set|Get).*)", re.IGNORECASE)


def check_principals(element: str, raw: Any, trust: bool) -> Iterator[Finding]:
    """Check one Principal or NotPrincipal."""
    if raw == "*":
        return
    if not isinstance(raw, dict):
        yield make_issue(
            FORM, "high", f"{element} {quote_text(raw)} is neither * nor an object", 'write {"AWS": ...}', element
        )
        return
    if not raw:
        yield make_issue(FORM, "high", f"{element} is empty", "name a principal", element)
    for kind, values in raw.items():
        if kind not in KINDS:
            yield make_issue(
                FORM,
                "high",
                f"unknown principal type {quote_text(kind)}",
                suggest_fix(find_closest_word(kind, KINDS), f"write one of {', '.join(KINDS)}"),
                element,
            )
            continue
        if not as_list(values):
            yield make_issue(FORM, "high", f"{element} {kind} is empty", "name a principal", element)
        for value in as_list(values):
            yield from check_principal(element, kind, value, trust)


def check_not_principal(allow: bool, trust: bool) -> Iterator[Finding]:
    """Report NotPrincipal: high in a trust policy or an Allow, low in a Deny.

    docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_notprincipal.html
    """
    fix = "name principals, or write Principal * with ArnNotEquals aws:PrincipalArn"
    if trust:
        yield make_issue(FORM, "high", "a trust policy must not have NotPrincipal", fix, "NotPrincipal")
    elif allow:
        yield make_issue(FORM, "high", "NotPrincipal in an Allow allows everyone else", fix, "NotPrincipal")
    else:
        message = "NotPrincipal denies every principal with a permissions boundary, even those it names"
        yield make_issue(FORM, "low", message, fix, "NotPrincipal")


def check_principal(element: str, kind: str, value: Any, trust: bool) -> Iterator[Finding]:
    if not isinstance(value, str):
        yield make_issue(FORM, "high", f"{element} {kind}: values must be strings", "write strings", element)
        return
    yield from check_placeholders(element, value)
    if "$" in value or "<" in value or not value.isascii():
        return  # other checks report these
    if wrong := explain_refusal(kind, value, trust):
        yield make_issue(
            MISFIT, "high", f"{element} {kind} {quote_text(value)} {wrong}", "use AWS's form of a principal", element
        )


def explain_refusal(kind: str, value: str, trust: bool) -> str:
    """Return why AWS refuses the principal, or ""."""
    if kind == "AWS":
        if value == "*" or ARN.fullmatch(value) or ACCOUNT.fullmatch(value) or IDENTITY.fullmatch(value):
            return ""
        if value.startswith("arn:") and ("*" in value or "?" in value):
            return (
                "has a wildcard, which AWS refuses: name the account, and the role in a condition on aws:PrincipalArn"
            )
        return "is neither an account of 12 digits nor the ARN of a user, role or session"
    if kind == "Service":
        return "" if SERVICE.fullmatch(value) or value == "*" else "is not a service, such as lambda.amazonaws.com"
    if kind == "Federated":
        return "" if value == "*" or PROVIDER.fullmatch(value) or value in PROVIDERS else "is not an identity provider"
    return "is not supported in a trust policy" if trust else ""


def check_trust_actions(statement: dict[str, Any], patterns: Sequence[str]) -> Iterator[Finding]:
    """Report actions that a trust policy cannot have, and a federated principal without the action that it needs."""
    for action in patterns:
        if not TRUSTED.fullmatch(action):
            yield make_issue(
                MISFIT,
                "high",
                f"a trust policy allows sts:AssumeRole and similar actions, not {quote_text(action)}",
                "write sts:AssumeRole",
                "Action",
            )
    principal = statement.get("Principal")
    federated = [str(one) for one in as_list(principal.get("Federated", []))] if isinstance(principal, dict) else []
    lower = {action.lower() for action in patterns}
    for one in federated:
        entry = next((entry for kind, entry in ENTRIES.items() if f":{kind}/" in one), "sts:AssumeRoleWithWebIdentity")
        if not {entry.lower(), "sts:*", "sts:assumerole*"} & lower:
            yield make_issue(
                MISFIT,
                "high",
                f"{quote_text(one)} assumes the role by {entry}, which is not among the actions",
                f"write {entry}",
                "Action",
            )
