"""Validation of IAM's requests: refuse what AWS refuses, in its words, where moto accepts."""

from __future__ import annotations

import json
import re

from moto.iam.exceptions import IAMException

from iampolicy.policy.document import as_list
from sandbox.state import ACCOUNT
from sandbox.world import get_world

POLICY_CHARACTERS = 6144  # of a managed policy, without white space


def validate_trust(text: str) -> None:
    """Raise IAMException unless the trust policy is JSON whose statements name principals that exist."""
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise IAMException("MalformedPolicyDocument", "This policy contains invalid Json")
    for statement in as_list(document.get("Statement", [])):
        if not isinstance(statement, dict) or not (statement.keys() & {"Principal", "NotPrincipal"}):
            raise IAMException("MalformedPolicyDocument", "Missing required field Principal")
        named = statement.get("Principal", statement.get("NotPrincipal"))
        for arn in as_list(named.get("AWS", [])) if isinstance(named, dict) else []:
            validate_principal(str(arn))


def validate_principal(arn: str) -> None:
    """Raise IAMException for a role or user of this account that does not exist. Other accounts' cannot be looked up here."""
    iam = get_world().get_global_backend("iam")
    if not re.match(rf"arn:aws:iam::{ACCOUNT}:(role|user)/", arn):
        return
    if not any(one.arn == arn for one in (*iam.roles.values(), *iam.users.values())):
        raise IAMException("MalformedPolicyDocument", f'Invalid principal in policy: "AWS":"{arn}"')


def validate_policy_size(text: str) -> None:
    if len(re.sub(r"\s", "", text)) > POLICY_CHARACTERS:
        raise IAMException("LimitExceeded", f"Cannot exceed quota for PolicySize: {POLICY_CHARACTERS}")


def validate_policy_arn(arn: str) -> None:
    if not arn.startswith("arn:"):
        raise IAMException("ValidationError", f"Invalid ARN:  Could not be parsed! ({arn})")


def validate_boundary(arn: str | None) -> None:
    if arn and arn not in get_world().get_global_backend("iam").managed_policies:
        raise IAMException("NoSuchEntity", f"Scope ARN: {arn} does not exist or is not attachable.")


def validate_policy_removal(arn: str) -> None:
    policy = get_world().get_global_backend("iam").managed_policies.get(arn)
    if policy is not None and policy.attachment_count:
        raise IAMException("DeleteConflict", "Cannot delete a policy attached to entities.")
