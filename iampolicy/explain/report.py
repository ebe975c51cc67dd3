"""What iam.explain says: one screen, the account's number as ${account}, other accounts' and key ids not at all."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from string import Template
from typing import Any

from iampolicy.account.snapshot_file import KEY_ID
from iampolicy.explain import simulation
from iampolicy.explain.diagnosis import Explained, Mend, World, denied_by, file
from iampolicy.revoked_sessions import standing_revocations
from ops.core.settings import Settings
from ops.iam.roles import placeholders

HOPS = {
    1: "the caller's own action",
    2: "iam:PassRole",
    3: "the trust of the passed role",
    4: "the execution role at work",
}
WIDEST = 400  # characters of a line; an S3 key alone may have 1024
LONGEST = 24  # lines: what fits on a screen
FRESH = 120  # seconds in which a change may not have reached all of AWS


def masked(text: str, settings: Settings) -> str:
    """Without account numbers and what looks like an access key's id."""
    own = text.replace(settings.aws.account, "${account}")
    return KEY_ID.sub(r"\1*", re.sub(r":\d{12}(?=[:/])", ":<account>", own))


def telling(found: Explained, world: World) -> str:
    lines = [line for part in (heading, deciding, changes, next_commands) for line in part(found, world)]
    return "\n".join(lines[:LONGEST])


def line(text: str, world: World) -> str:
    short = masked(text, world.settings)
    return short if len(short) <= WIDEST else short[:WIDEST] + " ..."


def heading(found: Explained, world: World) -> list[str]:
    q = found.question
    name = simulation.last(q.who) if ":assumed-role/" not in q.who else q.who.split("/")[1]
    first = f"Hop {q.hop} of 4, {HOPS[q.hop]}: {name} asks {q.action} of {q.resource}"
    return [line(one, world) for one in (first, *found.notes)]


def deciding(found: Explained, world: World) -> list[str]:
    """Today's decision, and where it is another than the one in the message."""
    denial, decision = found.denial, found.decision
    if not decision or not found.asked:
        lost = found.question.resource if found.question.hop == 3 else found.question.who
        return [line(f"Still denied: there is no {lost} in this account.", world)]
    if decision.allowed and found.unseen:
        policy = f" ({denial.policy})" if denial.policy else ""
        where = denial.layer if " " in denial.layer else f"{denial.layer} policy"
        return [
            line(
                f"Still denied, as far as one can tell: AWS blames a {where}{policy}, which IAM's lists do not show.",
                world,
            )
        ]
    if decision.allowed:
        return [f"Allowed today: {line(simulation.verdict(decision), world)}", *spreading(found, world)]
    misses = [one for one in simulation.near(found.asked) if one.layer == decision.layer]
    lines = [f"Still denied: {simulation.verdict(decision).removeprefix('implicitDeny: ')}"]
    if denial.layer and denial.layer not in (decision.layer, "trust"):
        lines.append(f"The message blames another layer, {denial.layer}: it may be next.")
    lines += [f"Near: {one.text}" for one in misses[:2] if decision.effect == "implicitDeny"]
    return [line(one, world) for one in lines]


def spreading(found: Explained, world: World) -> list[str]:
    """Why it may have been denied a moment ago."""
    if "s3://" in found.denial.kind:
        return ["So IAM lets it: look whether anything lies there, and whether the bucket is in the job's region."]
    role = world.have.roles.get(found.question.who.split("/")[1]) if ":assumed-role/" in found.question.who else None
    if role and (cut := standing_revocations(world.have).get(role.name)):
        return [f"Its sessions from before {cut:%Y-%m-%d %H:%M:%S} UTC are cut off (iam.revoke): take the role anew."]
    role = role or next((r for r in world.have.roles.values() if found.question.resource == r.arn), None)
    held = [world.have.policies[arn] for arn in (role.attached if role else ()) if arn in world.have.policies]
    made = [when for p in held for _, default, when in p.versions if default and when]
    made += [role.created] if role and role.created else []
    age = (datetime.now(UTC) - max(made)).total_seconds() if made else FRESH
    if 0 <= age < FRESH:
        return [
            f"The role or its policy is {age:.0f} seconds old, and AWS takes some to know it everywhere: try again."
        ]
    return ["It was mended since, or the role was too new: try again. If it stays, see what the message leaves out."]


def changes(found: Explained, world: World) -> list[str]:
    asked, decision = found.asked, found.decision
    if not asked or not decision or decision.allowed:
        return []
    if found.drift:
        role = world.role(found.mends[0].holder) if found.mends else ""
        return [f"Smallest change: none to iam_policies/{role}/, which allows it already; the account differs."]
    misses = [one for one in simulation.near(asked) if one.lacks == "condition" and one.layer == decision.layer]
    lines = []
    if misses and decision.effect == "implicitDeny":
        lines.append("Smallest change: meet that condition: log in so, pass the value.")
    for number, mend in enumerate(found.mends[:3]):
        lead = "And" if number else "Otherwise" if lines else "Smallest change"
        forbidden = denied_by(mend, world)
        lines += [line(f"Not without thought: expect.toml says {one}", world) for one in forbidden[:2]]
        before = found.mends[number - 1].statement if number else None
        lines += one_change(mend, found, world, lead, again=mend.statement == before)
    return lines or ["No change of a policy that is known here would let it through."]


def one_change(mend: Mend, found: Explained, world: World, lead: str, again: bool) -> list[str]:
    assert found.asked
    path = file(mend, found.asked, world)
    owner = mend.holder.rsplit("/", 1)[-1].rsplit(":", 1)[-1]
    kinds = {"identity": "a policy of", "boundary": "the permissions boundary of", "session": "the session policy of"}
    trust = "the trust of" if found.asked.required else "the policy of the bucket of"
    where = path or f"{kinds.get(mend.layer, trust)} {owner}"
    if mend.verb == "remove":
        text = f"{lead}: remove or narrow {mend.name} in {where} ({simulation.last(mend.policy)}); a Deny may be meant"
        return [line(text, world)]
    meant = ", if this is to be within its bounds at all" if mend.layer == "boundary" else ""
    if again and mend.statement:
        return [line(f"{lead}: the same to {where}{meant}", world)]
    return [line(f"{lead}: add to {where}{meant}", world), *("  " + one for one in written(mend, path, world))]


def written(mend: Mend, path: str, world: World) -> list[str]:
    """The statement as it goes into the file: with placeholders for a role of ours."""
    text = KEY_ID.sub(r"\1*", json.dumps(mend.statement))
    if path:
        text = templated(text, world.settings)
    parts = [f'"{key}": {json.dumps(value)}' for key, value in json.loads(text).items()]
    return ["{", *(f"  {part}{',' if part is not parts[-1] else ''}" for part in parts), "}"]


def templated(text: str, settings: Settings) -> str:
    """With ${account} ${region} ${stack} ${bucket}, such that filling them in gives the text again."""
    found = text.replace("$", "$$").replace(settings.bucket, "${bucket}").replace(settings.aws.account, "${account}")
    found = found.replace(f":{settings.aws.region}:", ":${region}:").replace(settings.role_path, "/kennel/${stack}/")
    found = re.sub(rf"\bkennel-{re.escape(settings.stack.name)}(?=[-\"/:*])", "kennel-${stack}", found)
    filled = Template(found).safe_substitute(placeholders(settings))
    return found if filled == text else text.replace("$", "$$")


def next_commands(found: Explained, world: World) -> list[str]:
    lines = [f"Next: {' ; '.join(commands(found, world))}"] if commands(found, world) else []
    if found.denial.encoded:
        lines.append("EC2 hides the rest; on AWS: aws sts decode-authorization-message --encoded-message MESSAGE")
    return lines


def commands(found: Explained, world: World) -> list[str]:
    """What to type, for roles of iam_policies/."""
    if not found.decision:
        lost = found.question.resource if found.question.hop == 3 else found.question.who
        name = lost.split("/")[1] if ":assumed-role/" in lost else lost.rsplit("/", 1)[-1]
        ours = [w.role for w in world.wanted if world.settings.role_name(w.role) == name]
        return [f"invoke iam.apply --role {role}" for role in ours]
    roles = list(dict.fromkeys(role for m in found.mends if (role := world.role(m.holder))))
    if found.drift:
        return [f"invoke iam.{verb} --role {role}" for role in roles for verb in ("diff", "apply")]
    lines = [f"invoke iam.apply --role {role}" for role in roles]
    return lines + [f"it worked before the last change? invoke iam.rollback --role {role}" for role in roles]


def data(found: Explained, world: World) -> dict[str, Any]:
    """For --json."""
    decision, asked = found.decision, found.asked
    body = {
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
        "next": commands(found, world),
    }
    shown: dict[str, Any] = json.loads(masked(json.dumps(body), world.settings))
    shown["changes"] = [
        {
            "verb": m.verb,
            "layer": m.layer,
            "file": file(m, asked, world) if asked else "",
            "statement": json.loads("\n".join(written(m, file(m, asked, world), world)))
            if m.statement and asked
            else m.name,
        }
        for m in found.mends
    ]
    return shown
