"""The report on a denial, in lines for people and as data. Other accounts' numbers and key ids are masked; in data, ours is ${account}."""

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
    return mask_others(text.replace(number, "${account}"), number)


def mask_others(text: str, number: str) -> str:
    """Mask the numbers of accounts other than ours, and what looks like an access key's id."""
    return KEY_ID.sub(r"\1*", re.sub(rf":(?!{number})\d{{12}}(?=[:/])", ":<account>", text))


def shorten_line(text: str, number: str) -> str:
    """Return one line of the report for people, with our account's number: a reader pastes its ARNs into commands."""
    short = mask_others(text, number)
    return short if len(short) <= WIDEST else short[:WIDEST] + " ..."


def format_heading(found: Explanation, evidence: Evidence) -> list[str]:
    q = found.question
    name = simulation.extract_policy_name(q.who) if ":assumed-role/" not in q.who else q.who.split("/")[1]
    first = f"Hop {q.hop} of 4, {HOPS[q.hop]}: {name} requests {q.action} on {q.resource}"
    return [shorten_line(one, evidence.number) for one in (first, *found.notes)]


def describe_current_decision(found: Explanation, evidence: Evidence) -> list[str]:
    """Return lines on today's decision, and on where it differs from the one in the message."""
    denial, decision = found.denial, found.decision
    if found.meant:
        wrong, name = found.question.resource, found.meant.rsplit("/", 1)[-1]
        text = f"Still denied: there is no {wrong} in this account; the ARN of {name} is {found.meant}. Name the role by that ARN."
        return [shorten_line(text, evidence.number)]
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
    if decision.allowed and evidence.by_files:
        return [shorten_line(f"Allowed by the files: {simulation.format_verdict(decision)}", evidence.number)]
    if decision.allowed:
        return [
            f"Allowed today: {shorten_line(simulation.format_verdict(decision), evidence.number)}",
            *explain_past_denial(found, evidence),
        ]
    misses = [one for one in simulation.find_near_misses(found.asked) if one.layer == decision.layer]
    lead = "Denied by the files" if evidence.by_files else "Still denied"
    lines = [f"{lead}: {simulation.format_verdict(decision).removeprefix('implicitDeny: ')}"]
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


def describe_explanation(found: Explanation, by_files: bool) -> dict[str, Any]:
    """Return the explanation in JSON's types, not masked. `by_files` means that it is about the files, not the account."""
    decision = found.decision
    return {
        "kind": found.denial.kind,
        "hop": found.question.hop,
        "principal": found.question.who,
        "action": found.question.action,
        "resource": found.question.resource,
        "blamed": found.denial.layer,
        "denied": found.denied,
        "source": "files" if by_files else "account",
        "decision": decision.effect if decision else "absent",
        "layer": decision.layer if decision else "",
        "deciding": [
            {"layer": d.layer, "policy": d.policy, "statement": d.statement.name}
            for d in (decision.deciding if decision else ())
        ],
        "drift": found.drift,
        "notes": list(found.notes),
    }
