"""The findings of an audit as SARIF 2.1.0, which code scanning shows beside the line: docs.oasis-open.org/sarif/sarif/v2.1.0."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from iampolicy.account.snapshot import Snapshot
from iampolicy.finding import SEVERITIES, Finding
from ops.core.files import save_json
from ops.core.output import say
from ops.core.settings import ROLES
from ops.iam import source_lines

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "info": "note"}
# GitHub's code scanning calls a rule critical from 9.0, high from 7.0 and medium from 4.0.
SCORES = {"critical": "9.5", "high": "8.0", "medium": "5.0", "low": "2.0", "info": "0.0"}


def write_sarif(file: str, found: list[Finding], have: Snapshot) -> None:
    """Write the log, readable by its owner only."""
    save_json(Path(file).expanduser(), build_sarif(found, have))
    say(f"{len(found)} findings written to {file}.")


def build_sarif(found: list[Finding], have: Snapshot) -> dict[str, Any]:
    """Return the log. A finding of iam_policies/ has its file and line, any other the ARN of its principal; waived ones are suppressed."""
    worst: dict[str, str] = {}
    for one in sorted(found, key=lambda f: SEVERITIES.index(f.severity)):
        worst.setdefault(one.rule, one.severity)
    rules = sorted(worst)
    driver = {"name": "kennel iam.audit", "rules": [describe_rule(rule, worst[rule]) for rule in rules]}
    results = [describe_result(one, rules.index(one.rule), have) for one in found]
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def describe_rule(rule: str, severity: str) -> dict[str, Any]:
    text = f"{rule}: see the table of rules in runbooks/audit.md"
    properties = {"security-severity": SCORES[severity], "tags": ["security", "iam"]}
    return {"id": rule, "shortDescription": {"text": text}, "properties": properties}


def describe_result(finding: Finding, rule: int, have: Snapshot) -> dict[str, Any]:
    result = {
        "ruleId": finding.rule,
        "ruleIndex": rule,
        "level": LEVELS[finding.severity],
        "message": {"text": f"{finding.principal}: {finding.message}. Fix: {finding.fix}"},
        "locations": [describe_location(finding, have)],
        "partialFingerprints": {"kennelFinding/v1": compute_fingerprint(finding)},
        "properties": {"severity": finding.severity, "policy": finding.policy, "statement": finding.statement},
    }
    waived = [{"kind": "external", "justification": finding.waived}] if finding.waived else []
    return result | {"suppressions": waived}


def describe_location(finding: Finding, have: Snapshot) -> dict[str, Any]:
    p = have.roles.get(finding.principal) or have.users.get(finding.principal)
    location: dict[str, Any] = {
        "logicalLocations": [
            {"name": finding.principal, "fullyQualifiedName": p.arn if p else finding.principal, "kind": "resource"}
        ]
    }
    if place := source_lines.locate_finding(finding, have):
        file, _, line = place.rpartition(":")
        artifact = {"uri": f"{ROLES}/{file}", "uriBaseId": "%SRCROOT%"}
        location["physicalLocation"] = {"artifactLocation": artifact, "region": {"startLine": int(line)}}
    return location


def compute_fingerprint(finding: Finding) -> str:
    """Return what stays the same while the lines of a file move, so that code scanning knows the finding again."""
    parts = (finding.rule, finding.principal, finding.policy, finding.statement, finding.message)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
