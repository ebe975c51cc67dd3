"""iam.audit --sarif: a log that has what the schema of SARIF 2.1.0 requires, and points at the lines of the files."""

import json

import pytest

from ops.iam import roles, waivers
from ops.iam.audit import audit_with_waivers, read_folder
from ops.iam.sarif import build_sarif
from tests.conftest import ROOT, Cli, settings_of, write_settings
from tests.unit.test_audit import EVERYTHING, account, audited, role

SETTINGS = settings_of()
# The required properties of each object that the log has, and its other properties in use.
# docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json
REQUIRED = {
    "": ({"version", "runs"}, {"$schema"}),
    "runs": ({"tool"}, {"results"}),
    "tool": ({"driver"}, set()),
    "driver": ({"name"}, {"rules"}),
    "rules": ({"id"}, {"shortDescription", "properties"}),
    "shortDescription": ({"text"}, set()),
    "results": (
        {"message"},
        {"ruleId", "ruleIndex", "level", "locations", "partialFingerprints", "properties", "suppressions"},
    ),
    "message": ({"text"}, set()),
    "locations": (set(), {"physicalLocation", "logicalLocations"}),
    "logicalLocations": (set(), {"name", "fullyQualifiedName", "kind"}),
    "physicalLocation": (set(), {"artifactLocation", "region"}),
    "artifactLocation": (set(), {"uri", "uriBaseId"}),
    "region": (set(), {"startLine"}),
    "suppressions": ({"kind"}, {"justification"}),
}


def check_schema(value, name=""):
    """Fail for an object that lacks a required property, or has one that the schema does not name (it allows no others)."""
    if isinstance(value, list):
        for one in value:
            check_schema(one, name)
    elif isinstance(value, dict) and name not in ("properties", "partialFingerprints"):
        needed, known = REQUIRED[name]
        assert needed <= value.keys() <= needed | known, name
        for key, one in value.items():
            check_schema(one, key)


def list_results(log):
    (run,) = log["runs"]
    return run["tool"]["driver"]["rules"], run["results"]


@pytest.fixture(scope="module")
def of_files():
    """The findings of iam_policies/ without waivers, and the log of them."""
    source = read_folder(SETTINGS)
    found = audit_with_waivers(source.snapshot, SETTINGS)
    return found, build_sarif(found, source.snapshot)


def test_log_has_what_the_schema_requires(of_files):
    found, log = of_files
    check_schema(log)
    rules, results = list_results(log)
    assert (log["version"], len(results)) == ("2.1.0", len(found))
    assert [rules[one["ruleIndex"]]["id"] for one in results] == [f.rule for f in found]
    assert {one["level"] for one in results} <= {"none", "note", "warning", "error"}
    assert len({rule["id"] for rule in rules}) == len(rules)


def test_finding_of_a_file_points_at_its_line(of_files):
    found, log = of_files
    _, results = list_results(log)
    for finding, one in zip(found, results, strict=True):
        place = one["locations"][0]["physicalLocation"]
        path = ROOT / place["artifactLocation"]["uri"]
        lines = path.read_text().splitlines()
        start = place["region"]["startLine"]
        assert 1 <= start <= len(lines)
        if not finding.statement.startswith("statement "):
            written = [number for number, line in enumerate(lines, 1) if f'"Sid": "{finding.statement}"' in line]
            assert abs(start - written[0]) <= 1, finding.statement  # the line of the statement's brace, or of its Sid


def test_waived_finding_is_suppressed_with_its_reason():
    source = read_folder(SETTINGS)
    found = audit_with_waivers(source.snapshot, SETTINGS, waivers=waivers.read_waivers(SETTINGS))
    _, results = list_results(build_sarif(found, source.snapshot))
    reasons = [[one["justification"] for one in result["suppressions"]] for result in results]
    assert reasons == [[f.waived] if f.waived else [] for f in found]
    assert any(reasons)


def test_finding_of_an_account_names_its_principal():
    """Its policies have no lines: code scanning gets the principal's ARN."""
    have = account(role("r", EVERYTHING))
    log = build_sarif(audited(have), have)
    check_schema(log)
    rules, results = list_results(log)
    assert [rule["properties"]["security-severity"] for rule in rules if rule["id"] == "IAM-ADMIN-001"] == ["9.5"]
    (location,) = next(one["locations"] for one in results if one["ruleId"] == "IAM-ADMIN-001")
    assert location["logicalLocations"][0]["fullyQualifiedName"] == have.roles["r"].arn
    assert "physicalLocation" not in location


def test_fingerprint_outlives_moved_lines(of_files):
    _, log = of_files
    _, results = list_results(log)
    marks = [one["partialFingerprints"]["kennelFinding/v1"] for one in results]
    assert len(set(marks)) == len(marks)
    moved = roles.build_applied_snapshot(roles.read_roles(SETTINGS), SETTINGS)  # as parsed from files with other lines
    again = build_sarif(audit_with_waivers(moved, SETTINGS), account(role("r")))
    assert [one["partialFingerprints"]["kennelFinding/v1"] for one in list_results(again)[1]] == marks


def test_audit_writes_the_log(tmp_path):
    cli = Cli(write_settings(tmp_path / "x.yaml", tmp_path, "demo"))
    file = tmp_path / "new" / "audit.sarif"
    done = cli("iam.audit", "--files", "--sarif", str(file))
    assert f"findings written to {file}" in done.err
    check_schema(json.loads(file.read_text()))
