"""Waivers of findings: in iam_policies/waivers.toml, and in a file of that name beside the profile's config file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, PlainValidator, StrictStr, TypeAdapter, ValidationError

from iampolicy.errors import InputError
from iampolicy.finding import Finding
from ops.core.paths import ROOT
from ops.core.settings import ROLES, Settings

LONGEST = timedelta(days=180)
SHORTEST_REASON = 20  # characters
# A principal that may do everything may do each of these: a waiver of IAM-ADMIN-001 covers them too.
FOLLOWS = ("IAM-ADMIN-", "IAM-WILD-", "IAM-PASS-", "IAM-PRIVESC-", "IAM-EXPO-002", "IAM-EXFIL-", "IAM-CRED-", "IAM-NOT-", "IAM-BOUND-")  # fmt: skip


def check_day(value: Any) -> date:
    if type(value) is not date:  # a datetime is a date too
        raise ValueError("must be a date")
    return value


Day = Annotated[date, PlainValidator(check_day)]


@dataclass(frozen=True)
class Waiver:
    """A waiver of a rule. `principal` is a glob over names, or with arn: over ARNs; `policy` is a glob over policies, "" for all."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    rule: StrictStr
    principal: StrictStr
    reason: StrictStr
    owner: StrictStr
    expires: Day
    policy: StrictStr = ""
    created: Day | None = None
    ticket: StrictStr = ""

    def fault(self, today: date) -> str:
        """Return why the waiver is not in force, or ""."""
        if self.expires < today:
            return f"expired on {self.expires}"
        if len(self.reason.strip()) < SHORTEST_REASON:
            return f"has no reason of {SHORTEST_REASON} characters or more"
        if not self.owner.strip():
            return "has no owner"
        since = self.created or today
        if since > today + timedelta(days=1):  # two time zones may differ by a day
            return f"was created on {self.created}, which is in the future"
        if self.expires - since > LONGEST:
            return f"lasts {(self.expires - since).days} days; {LONGEST.days} is the maximum"
        return ""

    def covers(self, finding: Finding, arn: str) -> bool:
        same = self.rule == finding.rule or (self.rule == "IAM-ADMIN-001" and finding.rule.startswith(FOLLOWS))
        who = arn if self.principal.startswith("arn:") else finding.principal
        by_policy = not self.policy or any(
            fnmatchcase(name, self.policy) for name in (finding.policy, finding.policy.rsplit("/", 1)[-1])
        )
        return same and fnmatchcase(who, self.principal) and by_policy

    def is_for_another_account(self, account: str) -> bool:
        """Return whether the waiver is about another account than this one."""
        parts = self.principal.split(":")
        return len(parts) > 4 and account != "" and not fnmatchcase(account, parts[4])


def read_waivers(settings: Settings) -> list[Waiver]:
    """Return the repository's waivers, and those of one account, whose file is beside the config file with its profile."""
    own = [ROOT / Path(settings.aws.config_file).parent / "waivers.toml"] if settings.aws.config_file else []
    return [waiver for path in (ROOT / ROLES / "waivers.toml", *own) for waiver in read_waiver_file(path)]


def read_waiver_file(path: Path) -> list[Waiver]:
    """Return the waivers of a file. Raises InputError if it is not a list of waivers; a waiver that is not in force becomes a finding."""
    try:
        found = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path.name}: {error}. Waivers are written as [[waiver]] tables.") from error
    entries = found.get("waiver", [])
    if set(found) - {"waiver"} or not isinstance(entries, list):
        raise InputError(f"{path.name}: waivers are written as [[waiver]] tables; the file must contain nothing else.")
    return [parse_waiver(entry, f"{path.name}: waiver {number}") for number, entry in enumerate(entries, 1)]


def parse_waiver(entry: Any, where: str) -> Waiver:
    if not isinstance(entry, dict):
        raise InputError(f"{where} is not a table. Write [[waiver]].")
    try:
        return WAIVER.validate_python({"reason": "", "owner": ""} | entry)
    except ValidationError as error:
        raise InputError(f"{where}{explain_waiver(error)}") from None


def explain_waiver(error: ValidationError) -> str:
    faults = {one["type"]: one for one in reversed(error.errors(include_url=False))}  # the first of each type
    if unknown := faults.get("unexpected_keyword_argument"):
        return f": unknown field {unknown['loc'][0]!r}; known: {', '.join(one.name for one in fields(Waiver))}."
    if missing := faults.get("missing"):
        return f" has no {missing['loc'][0]}. A waiver has rule, principal, reason, owner and expires."
    wrong = error.errors(include_url=False)[0]
    kind = "a string" if wrong["type"] == "string_type" else "a date, as 2027-01-31"
    return f": {wrong['loc'][0]} must be {kind}, not {wrong['input']!r}."


WAIVER = TypeAdapter(Waiver)


def apply_waivers(
    found: Iterable[Finding],
    waivers: Iterable[Waiver],
    arns: dict[str, str],
    today: date,
    account: str,
    skipped_rules: tuple[str, ...],
) -> list[Finding]:
    """Return the findings, the waived ones with the reason, and one more for each waiver that is not in force or covers no finding.

    `arns` has each principal's ARN by name. A waiver of this account that covers no finding is stale, unless its rule starts with
    one of `skipped_rules`.
    """
    waivers, findings = list(waivers), list(found)
    good = [w for w in waivers if not w.fault(today)]
    used: set[int] = set()
    for at, finding in enumerate(findings):
        for waiver in good:
            if waiver.covers(finding, arns.get(finding.principal, "")):
                used.add(id(waiver))
                findings[at] = replace(finding, waived=f"{waiver.reason} ({waiver.owner}, until {waiver.expires})")
                break
    for waiver in waivers:
        about = f"the waiver of {waiver.rule}"
        if fault := waiver.fault(today):
            fix = "fix the finding that it covers, or renew the waiver: iam_policies/waivers.toml"
            findings.append(Finding("IAM-WAIVER-001", "high", waiver.principal, f"{about} {fault}", fix))
        elif (
            not waiver.rule.startswith(skipped_rules)
            and id(waiver) not in used
            and not waiver.is_for_another_account(account)
        ):
            findings.append(
                Finding("IAM-WAIVER-002", "medium", waiver.principal, f"{about} covers no finding", "delete the waiver")
            )
    return findings
