"""The audit's benchmark: the accounts that it draws, what counts as missed, and its verdict with a stand-in for cloudsplaining."""

import json
import sys
from collections import Counter

import pytest

from bench import accounts, cloudsplaining_run, opponents
from bench import iam as bench
from iampolicy.account import snapshot_file
from iampolicy.account.snapshot import parse_snapshot
from iampolicy.audit import engine
from iampolicy.lint import linter
from iampolicy.policy.document import parse_policy
from ops.core.errors import FINDINGS, OpsError


@pytest.fixture(scope="module")
def account_details():
    return accounts.draw_account(200, seed=1)


def test_same_seed_draws_the_same_account(account_details):
    assert accounts.draw_account(200, seed=1) == account_details
    assert accounts.draw_account(200, seed=2) != account_details


def test_distinct_account_repeats_no_policy_text(account_details):
    """In a distinct account no two roles have the same text, and no text is faulty."""
    details = accounts.draw_account(200, seed=1, distinct=True)
    texts = [json.dumps(r["AssumeRolePolicyDocument"]) for r in details["RoleDetailList"]]
    texts += [json.dumps(p["PolicyDocument"]) for r in details["RoleDetailList"] for p in r["RolePolicyList"]]
    texts += [json.dumps(p["PolicyVersionList"][0]["Document"]) for p in details["Policies"]]
    assert len(set(texts)) == len(texts) == 400
    assert [
        f
        for text in texts[200:]
        for f in linter.findings(parse_policy("p", json.loads(text)), "identity")
        if f.severity == "high"
    ] == []
    rest = [[role[key] for key in ("RoleName", "CreateDate", "RoleLastUsed")] for role in details["RoleDetailList"]]
    assert rest == [
        [role[key] for key in ("RoleName", "CreateDate", "RoleLastUsed")] for role in account_details["RoleDetailList"]
    ]


def test_roles_have_ten_policies_and_five_trusts(account_details):
    """Roles are of ten kinds and five trusts, half of them with inline policies."""
    roles = account_details["RoleDetailList"]
    inline = [r["RolePolicyList"][0]["PolicyName"] for r in roles if r["RolePolicyList"]]
    managed = [
        r["AttachedManagedPolicies"][0]["PolicyName"].rpartition("-")[0] for r in roles if not r["RolePolicyList"]
    ]
    assert len(inline) + len(managed) == len(roles) == 200
    assert 70 < len(inline) < 130
    assert Counter(inline + managed) == dict.fromkeys(accounts.build_policies("x"), 20)
    trusts = [r["AssumeRolePolicyDocument"]["Statement"][0] for r in roles]
    kinds = Counter(
        json.dumps([sorted(t["Principal"]), "Condition" in t, "2222" in str(t), "lambda" in str(t)]) for t in trusts
    )
    assert list(kinds.values()) == [40] * 5


def test_attached_policies_exist_and_are_counted(account_details):
    there = {p["Arn"]: p["AttachmentCount"] for p in account_details["Policies"]}
    assert (
        Counter(p["PolicyArn"] for r in account_details["RoleDetailList"] for p in r["AttachedManagedPolicies"])
        == there
    )
    assert all(p["PolicyName"] and p["PolicyId"] for p in account_details["Policies"])
    assert any(count > 1 for count in there.values())


def found(*rules):
    return [{"rule": rule, "severity": "high"} for rule in rules]


@pytest.mark.parametrize(
    ("ours", "missing"),
    [
        (found(), True),
        (found("IAM-PRIVESC-lambda-001"), False),
        (found("IAM-PRIVESC-lambda-002"), True),
        (found("IAM-PRIVESC-iam-001"), True),
        (found("IAM-ADMIN-001"), False),
        (found("IAM-WILD-001"), True),
    ],
)
def test_missed_finding_has_neither_id_nor_actions_of_ours(ours, missing):
    """Missed is what we report neither so nor in fewer actions."""
    actions = ["iam:passrole", "lambda:createfunction", "lambda:invokefunction"]
    theirs = {"r": [{"type": "PassToLambda", "id": "", "actions": actions}]}
    assert bench.find_missed({"r": ours}, theirs) == ([("r", "PassToLambda")] if missing else [])


def test_catalog_id_matches_a_finding():
    theirs = {
        "r": [
            {
                "type": "DataPipeline",
                "id": "datapipeline-001",
                "actions": ["iam:passrole", "datapipeline:createpipeline"],
            }
        ]
    }
    assert bench.find_missed({"r": found("IAM-PRIVESC-datapipeline-001")}, theirs) == []
    assert bench.find_missed({}, theirs) == [("r", "DataPipeline")]


def test_their_finding_on_denied_actions_is_false(account_details):
    have = parse_snapshot([account_details])
    kinds = list(accounts.build_policies("x"))
    denied, deployer = (f"r{kinds.index(kind)}" for kind in ("denied", "deployer"))
    assert bench.is_false_positive(have, denied, ["iam:putrolepolicy"])
    assert not bench.is_false_positive(have, denied, ["ec2:runinstances"])
    assert not bench.is_false_positive(have, deployer, ["lambda:createfunction", "iam:passrole"])
    assert bench.is_false_positive(have, deployer, ["lambda:createfunction", "iam:putrolepolicy"])


def test_their_findings_are_grouped_by_role():
    said = {
        "PrivilegeEscalation": {
            "findings": [{"type": "Way", "actions": ["a:b"]}, {"type": "Other", "actions": ["c:d"]}]
        }
    }
    role = {
        "name": "r",
        "inline_policies": {"i1": "own"},
        "customer_managed_policies": {},
        "aws_managed_policies": {"m1": "theirs"},
    }
    none = {"PrivilegeEscalation": {"findings": []}}
    results = {"inline_policies": {"i1": said}, "customer_managed_policies": {}, "aws_managed_policies": {"m1": none}}
    pages = {"Way": "https://pathfinding.cloud/paths/iam-001", "Other": None}
    assert cloudsplaining_run.collect_escalations(results | {"roles": {"AROA": role}}, pages) == {
        "r": [{"type": "Way", "actions": ["a:b"], "id": "iam-001"}, {"type": "Other", "actions": ["c:d"], "id": ""}]
    }


THEIRS = "python-of-cloudsplaining"


@pytest.fixture
def run_benchmark(monkeypatch):
    """Both sides without a process of their own: ours finds what it finds, in `ours`; theirs is as given."""
    monkeypatch.setattr(bench, "find_oracle", lambda named: named)

    def audit(ours, **theirs):
        def run(argv, file):
            if argv[0] == THEIRS:
                return bench.Run(**{"seconds": 1000.0, "cpu": 1000.0, "wall": 1000.0, "mb": 1.0, "found": {}} | theirs)
            have, _ = snapshot_file.load_snapshot(file)
            return bench.Run(**ours, found=bench.group_by_principal(engine.run_audit(have)))

        monkeypatch.setattr(bench, "run", run)
        return bench.measure_audit(rounds=1, pairs=1, roles=200, seed=0, oracle=THEIRS)

    return audit


QUICK = {"seconds": 0.1, "cpu": 0.1, "wall": 0.5, "mb": 90.0}


def escalating(role):
    return {role: [{"type": "CreateNewPolicyVersion", "id": "iam-001", "actions": ["iam:createpolicyversion"]}]}


@pytest.mark.parametrize(
    ("results", "code", "failed"),
    [
        ({}, 0, []),
        ({"found": escalating("r6")}, 0, []),  # a keeper: so do we
        ({"found": escalating("r0")}, 0, []),  # a reader: wrong
        (
            {"found": {"r0": [{"type": "Reading", "id": "", "actions": ["s3:getobject"]}]}},
            FINDINGS,
            ["correct findings"],
        ),
        ({"seconds": 0.001}, FINDINGS, ["cloudsplaining / ours"]),
    ],
)
def test_benchmark_verdict_follows_its_checks(run_benchmark, results, code, failed):
    answer = run_benchmark(QUICK, **results)
    assert answer.code == code
    broken = [check["name"] for check in answer.data["checks"] if not check["ok"]]
    assert len(broken) == len(failed)
    assert all(part in name for part, name in zip(failed, broken, strict=True))
    assert [row["who"] for row in answer.data["rows"]] == ["kennel", "kennel", "cloudsplaining"]


def test_slow_or_large_audit_fails_its_checks(run_benchmark):
    answer = run_benchmark({"seconds": 1.1, "cpu": 0.1, "wall": 0.5, "mb": 160.0})
    assert answer.code == FINDINGS
    assert sum(not check["ok"] for check in answer.data["checks"]) == 2


def test_missing_cloudsplaining_names_the_command(monkeypatch, tmp_path):
    with pytest.raises(OpsError, match=r"no cloudsplaining.*make \.venv-bench/\.ready"):
        bench.find_oracle("/bin/false")
    monkeypatch.setattr(opponents, "VENV", tmp_path)
    with pytest.raises(OpsError, match=r"^bench\.iam needs cloudsplaining\. Install it: make \.venv-bench/\.ready$"):
        bench.find_oracle("")


def test_failed_run_is_reported(tmp_path):
    (tmp_path / "no.json").write_text("{")
    with pytest.raises(OpsError, match="failed"):
        bench.run([sys.executable, "-m", "bench.iam"], tmp_path / "no.json")
