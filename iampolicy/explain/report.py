"""The report on a denial, in lines. The account's number becomes ${account}; other accounts' numbers and key ids are masked."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from iampolicy.explain import simulation
from iampolicy.explain.diagnosis import Evidence, Explanation
from iampolicy.key_patterns import KEY_ID
from iampolicy.revoked_sessions import list_active_revocations

HOPS = {
    1: "the caller's own action",
    2: "iam:PassRole",
    3: "the trust policy of the passed role",
    4: "an action of the execution role",
}
WIDEST = 400  # characters of a line; an S3 key alone may have 1024
FRESH = 120  # seconds in which a change may not have reached all of AWS


def mask_identifiers(text: str, number: str) -> str:
    """Replace the account's own number by ${account}, and mask other account numbers and what looks like an access key's id."""
    own = text.replace(number, "${account}")
    return KEY_ID.sub(r"\1*", re.sub(r":\d{12}(?=[:/])", ":<account>", own))


def shorten_line(text: str, number: str) -> str:
    """Return one line of the report, masked and cut after WIDEST characters."""
    short = mask_identifiers(text, number)
    return short if len(short) <= WIDEST else short[:WIDEST] + " ..."


def format_heading(found: Explanation, evidence: Evidence) -> list[str]:
    q = found.question
    name = simulation.extract_policy_name(q.who) if ":assumed-role/" not in q.who else q.who.split("/")[1]
    first = f"Hop {q.hop} of 4, {HOPS[q.hop]}: {name} requests {q.action} on {q.resource}"
    return [shorten_line(one, evidence.number) for one in (first, *found.notes)]


def describe_current_decision(found: Explanation, evidence: Evidence) -> list[str]:
    """Return lines on today's decision, and on where it differs from the one in the message."""
    denial, decision = found.denial, found.decision
    if not decision or not found.asked:
        lost = found.question.resource if found.question.hop == 3 else found.question.who
        return [shorten_line(f"Still denied: there is no {lost} in this account.", evidence.number)]
    if decision.allowed and found.unseen:
        policy = f" ({denial.policy})" if denial.policy else ""
        where = denial.layer if " " in denial.layer else f"{denial.layer} policy"
        return [
            shorten_line(
                f"Probably still denied: AWS blames a {where}{policy}, which IAM's API does not return.",
                evidence.number,
            )
        ]
    if decision.allowed:
        return [
            f"Allowed today: {shorten_line(simulation.format_verdict(decision), evidence.number)}",
            *explain_past_denial(found, evidence),
        ]
    misses = [one for one in simulation.find_near_misses(found.asked) if one.layer == decision.layer]
    lines = [f"Still denied: {simulation.format_verdict(decision).removeprefix('implicitDeny: ')}"]
    if denial.layer and denial.layer not in (decision.layer, "trust"):
        lines.append(f"The message blames another layer, {denial.layer}: it may deny the request next.")
    lines += [f"Near miss: {one.text}" for one in misses[:2] if decision.effect == "implicitDeny"]
    return [shorten_line(one, evidence.number) for one in lines]


def explain_past_denial(found: Explanation, evidence: Evidence) -> list[str]:
    """Return lines on why a request that is allowed now may have been denied before."""
    if "s3://" in found.denial.kind:
        return ["IAM allows it: check that objects exist there, and that the bucket is in the job's region."]
    role = evidence.have.roles.get(found.question.who.split("/")[1]) if ":assumed-role/" in found.question.who else None
    if role and (cut := list_active_revocations(evidence.have).get(role.name)):
        return [
            f"Its sessions from before {cut:%Y-%m-%d %H:%M:%S} UTC are revoked (iam.revoke): assume the role again."
        ]
    role = role or next((r for r in evidence.have.roles.values() if found.question.resource == r.arn), None)
    held = [evidence.have.policies[arn] for arn in (role.attached if role else ()) if arn in evidence.have.policies]
    made = [when for p in held for _, default, when in p.versions if default and when]
    made += [role.created] if role and role.created else []
    age = (datetime.now(UTC) - max(made)).total_seconds() if made else FRESH
    if 0 <= age < FRESH:
        return [f"The role or its policy is {age:.0f} seconds old, and IAM is eventually consistent: try again."]
    return [
        "It was fixed since, or the role was too new: try again. If it fails again, add what the message leaves out."
    ]


def describe_explanation(found: Explanation) -> dict[str, Any]:
    """Return the explanation in JSON's types, not masked."""
    decision = found.decision
    return {
        "kind": found.denial.kind,
        "hop": found.question.hop,
        "principal": found.question.who,
        "action": found.question.action,
        "resource": found.question.resource,
        "blamed": found.denial.layer,
        "denied": found.denied,
        "decision": decision.effect if decision else "absent",
        "layer": decision.layer if decision else "",
        "deciding": [
            {"layer": d.layer, "policy": d.policy, "statement": d.statement.name}
            for d in (decision.deciding if decision else ())
        ],
        "drift": found.drift,
        "notes": list(found.notes),
    }
