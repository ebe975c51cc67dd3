"""iam.explain compares a denial with the account, and names the smallest change of iam_policies/ and the commands to run."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from iampolicy.account import snapshot
from iampolicy.errors import InputError
from iampolicy.explain import diagnosis, report, simulation
from iampolicy.explain.diagnosis import Evidence, Explanation, Fix
from iampolicy.explain.error_parser import LONGEST, Denial, Question
from iampolicy.explain.simulation import DecisionInput
from iampolicy.key_patterns import KEY_ID
from iampolicy.policy.document import CURRENT, parse_policy
from ops.core.aws.account import Account
from ops.core.errors import DENIED, AwsError, OpsError
from ops.core.output import say
from ops.core.settings import ROLES, Settings
from ops.iam import expectations, roles
from ops.iam.roles import Wanted, build_placeholders, derive_policy_arn
from ops.iam.simulate import fetch_bucket_policy

LINES = 24  # of a screen


@dataclass(frozen=True)
class RoleFolders:
    """The part of iam_policies/ that an explanation needs: which folder and file a fix belongs to, and what its expect.toml forbids."""

    wanted: Sequence[Wanted]
    settings: Settings

    def role(self, arn: str) -> str:
        """Return the folder of the role, or ""."""
        return next((w.role for w in self.wanted if self.settings.role_arn(w.role) == arn), "")

    def find(self, fix: Fix) -> Wanted | None:
        role = self.role(fix.holder)
        return next((w for w in self.wanted if w.role == role), None)

    def shorten(self, text: str) -> str:
        return report.shorten_line(text, self.settings.aws.account)

    def file(self, fix: Fix, asked: DecisionInput) -> str:
        """Return the file in iam_policies/ that the edit belongs to; "" for a role without a folder and for a bucket policy."""
        want = self.find(fix)
        if not want:
            return ""
        if fix.layer in ("resource", "boundary"):
            return f"{ROLES}/{want.role}/{'trust' if fix.layer == 'resource' else 'boundary'}.json"
        stems = {derive_policy_arn(want.role, stem, self.settings): stem for stem in want.permissions}
        near = [one.policy for one in simulation.find_near_misses(asked) if one.layer == "identity"]
        named = next((stems[arn] for arn in (fix.policy, *near) if arn in stems), "")
        prefix = f'"{asked.request.action.partition(":")[0]}:'
        likely = max(
            want.permissions, key=lambda stem: str(want.permissions[stem].document).replace("'", '"').count(prefix)
        )
        return f"{ROLES}/{want.role}/{named or likely}.json"

    def find_broken_entries(self, fix: Fix) -> list[str]:
        """Return the entries of the role's expect.toml that the edit would break: those that forbid this."""
        want = self.find(fix)
        if not want or not fix.statement or fix.layer not in ("identity", "boundary"):
            return []
        old = want.boundary if fix.layer == "boundary" else None
        document = {"Version": CURRENT, "Statement": [*(old.raw_statements if old else []), fix.statement]}
        changed = parse_policy("", document)
        grown = (
            replace(want, boundary=changed)
            if fix.layer == "boundary"
            else replace(want, permissions=want.permissions | {"permissions-explained": changed})
        )
        try:
            already = {one.expected.label for one in expectations.find_violations(want, self.settings)}
            then = [one.expected.label for one in expectations.find_violations(grown, self.settings)]
        except InputError:  # a missing or invalid expect.toml must not stop the explanation
            return []
        return [one for one in then if one not in already]


def gather_evidence(account: Account, settings: Settings) -> tuple[Evidence, RoleFolders]:
    """Read the account; if the caller may not, use iam_policies/ as if it were applied."""
    wanted = roles.read_roles(settings)
    files = roles.build_applied_snapshot(wanted, settings)
    about = (files, settings.aws.account, settings.aws.region, settings.build_role_name(""))
    try:
        pages = account.iterate_pages("iam", "get_account_authorization_details", Filter=snapshot.KINDS)
        have = snapshot.parse_snapshot(pages)
    except AwsError as error:
        if error.code != DENIED:
            raise
        role = settings.build_role_name("auditor")
        why = f"role {role} cannot be assumed" if error.call == "AssumeRole" else str(error)
        say(f"Cannot read the account's IAM: {why}. This goes by {ROLES}/ as if it were applied.")
        return Evidence(files, *about, by_files=True), RoleFolders(wanted, settings)
    read_bucket_policy = cache(lambda arn: fetch_bucket_policy(account, arn)[0])
    return Evidence(have, *about, read_bucket_policy), RoleFolders(wanted, settings)


def add_flags(
    denial: Denial, evidence: Evidence, principal: str, action: str, resource: str, own: Mapping[str, Any]
) -> Denial:
    """Return the denial completed by the flags: --action replaces the action of hop 1, an ARN in the text is kept, names become ARNs."""

    def arn(name: str) -> str:
        return simulation.resolve_principal(evidence.have, name, evidence.prefix)[0].arn if name else ""

    def complete(q: Question) -> Question:
        resource_arn = arn(resource) if q.hop == 3 else resource
        full_action = simulation.resolve_action(action) if action and q.hop == 1 else q.action
        keys = (*q.context, *own.items())
        caller = arn(principal) if principal and q.hop != 3 and not q.who.startswith("arn:") else q.who
        return Question(q.hop, full_action, q.resource or resource_arn, caller, keys)

    return replace(denial, questions=tuple(complete(q) for q in denial.questions))


def read_error_text(text: str) -> str:
    """Return the argument, the file it names or standard input. Raises OpsError for a text that is unreadable or longer than LONGEST."""
    if text != "-" and not text.startswith("@"):
        found = text
    elif text == "-":
        found = sys.stdin.buffer.read(LONGEST + 1).decode(errors="replace")
    else:
        try:
            with Path(text[1:]).open("rb") as file:
                found = file.read(LONGEST + 1).decode(errors="replace")
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise OpsError(f"{text[1:200]}: {why}. Save the message to a file: invoke iam.explain @FILE") from error
    if len(found) > LONGEST:
        raise OpsError(f"The text is longer than {LONGEST} characters: paste only the error message.")
    return found


def format_explanation(found: Explanation, evidence: Evidence, folders: RoleFolders) -> str:
    lines = [
        *report.format_heading(found, evidence),
        *report.describe_current_decision(found, evidence),
        *describe_able_roles(found, evidence, folders),
        *describe_changes(found, folders),
        *format_next_commands(found, folders, evidence.by_files),
    ]
    return "\n".join(lines[:LINES])


def list_able_roles(found: Explanation, evidence: Evidence, folders: RoleFolders) -> list[str]:
    """Return the folders of the roles that people may assume and that may make the denied call already."""
    if found.question.hop != 1 or not found.asked or not found.decision or found.decision.allowed or found.drift:
        return []
    able = []
    for want in folders.wanted:
        arn = folders.settings.role_arn(want.role)
        people = any(kind == "AWS" for one in want.trust.statements for kind, _ in one.principals or ())
        asked = people and diagnosis.prepare_decision(replace(found.question, who=arn), evidence.have, evidence)
        if asked and asked.request.caller.arn != found.asked.request.caller.arn and asked.decide().allowed:
            able.append(want.role)
    return sorted(able, key=lambda role: (not role.startswith("operator"), role))


def describe_able_roles(found: Explanation, evidence: Evidence, folders: RoleFolders) -> list[str]:
    able = list_able_roles(found, evidence, folders)
    return [f"The role {' or '.join(able[:2])} may do this already: take that role instead."] if able else []


def describe_changes(found: Explanation, folders: RoleFolders) -> list[str]:
    asked, decision = found.asked, found.decision
    if not asked or not decision or decision.allowed:
        return []
    if found.drift:
        role = folders.role(found.fixes[0].holder) if found.fixes else ""
        return [f"Smallest change: none to iam_policies/{role}/, which allows it already; the account differs."]
    misses = [
        one for one in simulation.find_near_misses(asked) if one.lacks == "condition" and one.layer == decision.layer
    ]
    lines = []
    if misses and decision.effect == "implicitDeny":
        lines.append("Smallest change: meet that condition: log in accordingly, or pass the value.")
    for number, fix in enumerate(found.fixes[:3]):
        lead = "And" if number else "Otherwise" if lines else "Smallest change"
        forbidden = folders.find_broken_entries(fix)
        lines += [folders.shorten(f"Careful: expect.toml forbids this: {one}") for one in forbidden[:2]]
        before = found.fixes[number - 1].statement if number else None
        lines += describe_fix(fix, found, folders, lead, again=fix.statement == before)
    return lines or ["No change of a policy that can be read here would allow it."]


def describe_fix(fix: Fix, found: Explanation, folders: RoleFolders, lead: str, again: bool) -> list[str]:
    assert found.asked
    path = folders.file(fix, found.asked)
    owner = fix.holder.rsplit("/", 1)[-1].rsplit(":", 1)[-1]
    kinds = {"identity": "a policy of", "boundary": "the permissions boundary of", "session": "the session policy of"}
    trust = "the trust policy of" if found.asked.required else "the bucket policy of"
    where = path or f"{kinds.get(fix.layer, trust)} {owner}"
    if fix.verb == "remove":
        text = f"{lead}: remove or narrow {fix.name} in {where} ({simulation.extract_policy_name(fix.policy)}); this Deny may be intended"
        return [folders.shorten(text)]
    meant = ", if its permissions boundary should allow this at all" if fix.layer == "boundary" else ""
    if again and fix.statement:
        return [folders.shorten(f"{lead}: add the same to {where}{meant}")]
    return [
        folders.shorten(f"{lead}: add to {where}{meant}"),
        *("  " + one for one in format_statement(fix, path, folders)),
    ]


def format_statement(fix: Fix, path: str, folders: RoleFolders) -> list[str]:
    """Return the lines of the statement as they belong in the file: with placeholders if that file is in iam_policies/."""
    text = KEY_ID.sub(r"\1*", json.dumps(fix.statement))
    if path:
        text = insert_placeholders(text, folders.settings)
    parts = [f'"{key}": {json.dumps(value)}' for key, value in json.loads(text).items()]
    return ["{", *(f"  {part}{',' if part is not parts[-1] else ''}" for part in parts), "}"]


def insert_placeholders(text: str, settings: Settings) -> str:
    """Return the text with ${account} ${region} ${stack} ${bucket}, such that expanding them gives the text again."""
    found = text.replace("$", "$$").replace(settings.bucket, "${bucket}").replace(settings.aws.account, "${account}")
    found = found.replace(f":{settings.aws.region}:", ":${region}:").replace(settings.role_path, "/kennel/${stack}/")
    found = re.sub(rf"\bkennel-{re.escape(settings.stack.name)}(?=[-\"/:*])", "kennel-${stack}", found)
    filled = Template(found).safe_substitute(build_placeholders(settings))
    return found if filled == text else text.replace("$", "$$")


def format_next_commands(found: Explanation, folders: RoleFolders, by_files: bool) -> list[str]:
    commands = list_next_commands(found, folders, by_files)
    lines = [f"Next: {' ; '.join(commands)}"] if commands else []
    if found.denial.encoded:
        lines.append("EC2 encodes the rest; on AWS: aws sts decode-authorization-message --encoded-message MESSAGE")
    return lines


def list_next_commands(found: Explanation, folders: RoleFolders, by_files: bool) -> list[str]:
    """Return the commands to run next, for roles of iam_policies/; `by_files` means that the account was not read."""
    if found.meant:
        return []
    if by_files and found.decision:
        return ["invoke iam.apply (the roles of the account may be missing or differ)"]
    if not found.decision:
        lost = found.question.resource if found.question.hop == 3 else found.question.who
        name = lost.split("/")[1] if ":assumed-role/" in lost else lost.rsplit("/", 1)[-1]
        ours = [w.role for w in folders.wanted if folders.settings.build_role_name(w.role) == name]
        return [f"invoke iam.apply --role {role}" for role in ours]
    named = list(dict.fromkeys(role for one in found.fixes if (role := folders.role(one.holder))))
    if found.drift:
        return [f"invoke iam.{verb} --role {role}" for role in named for verb in ("diff", "apply")]
    lines = [f"invoke iam.apply --role {role}" for role in named]
    return lines + [f"it worked before the last change? invoke iam.rollback --role {role}" for role in named]


def build_explanation_data(found: Explanation, evidence: Evidence, folders: RoleFolders) -> dict[str, Any]:
    """Return the explanation as --json prints it."""
    asked = found.asked
    body = report.describe_explanation(found, evidence.by_files) | {
        "able_roles": list_able_roles(found, evidence, folders),
        "next": list_next_commands(found, folders, evidence.by_files),
    }
    shown: dict[str, Any] = json.loads(report.mask_identifiers(json.dumps(body), folders.settings.aws.account))
    shown["changes"] = [
        {
            "verb": fix.verb,
            "layer": fix.layer,
            "file": folders.file(fix, asked) if asked else "",
            "statement": json.loads("\n".join(format_statement(fix, folders.file(fix, asked), folders)))
            if fix.statement and asked
            else fix.name,
        }
        for fix in found.fixes
    ]
    return shown
