"""The audit: each rule finds what was planted and leaves its harmless twin alone; and files, calls, waivers and output around it."""

import io
import json
import stat
import zipfile

from iampolicy.account import snapshot_file
from iampolicy.account.snapshot import Snapshot
from iampolicy.audit import account_facts
from ops.iam import collect
from tests.unit.test_audit import EVERYTHING, LAMBDA, account, allow, audited, doc, role, trusting


def test_audit_without_roles_uses_the_profile(make_stack):
    ran = make_stack("auditfirst", roles=False)("iam.audit", "--no-exposure", ok=False)
    assert ran.code != 4, ran.said
    assert "yet; continuing with the profile's own credentials" in ran.err


def test_audit_makes_few_calls_and_repeats_from_a_snapshot(make_stack, tmp_path):
    """An account is audited in few calls, and again, without any, from what was saved."""
    cli, file = make_stack("audited"), tmp_path / "kept.json"
    cli("iam.apply")
    ran = cli("iam.audit", "--json", "--save", str(file))
    live = json.loads(ran.out)
    assert live["calls"] <= 9
    alone = json.loads(cli("iam.audit", "--json", "--no-exposure").out)
    assert alone["calls"] <= 4  # whatever the number of roles: see test_audit_reads_300_roles_in_one_call
    again = json.loads(cli("iam.audit", "--json", "--snapshot", str(file)).out)
    assert again["calls"] == 0
    ours = [f for f in live["findings"] if "kennel-audited" in f["principal"]]
    assert [f for f in again["findings"] if "kennel-audited" in f["principal"]] == ours
    assert ours
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not snapshot_file.KEY_ID.search(file.read_text())


def test_audit_reads_300_roles_in_one_call(make_stack):
    """Three hundred roles are one call, and the planted faults are found."""
    from ops.core.aws.account import Account

    cli = make_stack("planted")
    cli("iam.apply")
    iam, name = cli.account.client("iam"), cli.settings.build_role_name("lambda-invoke")
    trust = doc(trusting({"Service": "ec2.amazonaws.com"}))
    crowd = [f"crowd-{n}" for n in range(300)]
    for one in crowd:
        iam.create_role(RoleName=one, AssumeRolePolicyDocument=json.dumps(trust))
    iam.put_role_policy(RoleName=crowd[7], PolicyName="wide", PolicyDocument=json.dumps(doc(EVERYTHING)))
    iam.put_role_policy(
        RoleName=name,
        PolicyName="more",
        PolicyDocument=json.dumps(doc(allow("sqs:SendMessage", "arn:aws:sqs:us-east-1:1:q"))),
    )
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(doc(trusting("*"))))
    try:
        ran = cli("iam.audit", "--json", "--no-exposure", ok=False)
    finally:
        iam.delete_role_policy(RoleName=crowd[7], PolicyName="wide")
        for one in crowd:
            iam.delete_role(RoleName=one)
    report = json.loads(ran.out)
    assert (ran.code, report["calls"] <= 4) == (7, True)
    seen = {(f["severity"], f["rule"], f["principal"]) for f in report["findings"]}
    assert seen >= {
        ("critical", "IAM-ADMIN-001", crowd[7]), ("critical", "IAM-TRUST-001", name), ("high", "IAM-DRIFT-001", name),
        ("medium", "IAM-DRIFT-002", name), ("low", "IAM-INLINE-001", name),
    }  # fmt: skip
    cli("iam.apply")
    repaired = json.loads(cli("iam.audit", "--json").out)["findings"]
    assert not [f for f in repaired if f["principal"] == name and f["severity"] in ("critical", "high")]
    before = Account.sent
    account = cli.account
    list(collect.collect_iam_facts(account, Snapshot(), usage=False))
    assert Account.sent - before <= 3


def test_audit_finds_what_the_world_can_reach(make_stack):
    cli = make_stack("reached")
    account, bucket = cli.account, cli.settings.bucket
    assert collect.collect_exposure(account)["buckets"] == {}
    s3 = account.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.delete_public_access_block(Bucket=account.settings.bucket)  # a new bucket has it
    s3.put_bucket_policy(
        Bucket=bucket, Policy=json.dumps(doc(trusting("*", "s3:GetObject", Resource=f"arn:aws:s3:::{bucket}/*")))
    )
    report = audited(Snapshot(roles={"r": role("r")[0]}), facts=account_facts.parse(collect.collect_exposure(account)))
    assert [f.message for f in report if f.rule == "IAM-EXPO-001"] == [
        "Block Public Access is off: BlockPublicAcls, IgnorePublicAcls, BlockPublicPolicy, RestrictPublicBuckets",
        "its policy allows everyone",
    ]
    s3.delete_bucket_policy(Bucket=bucket)
    cli("data.up")
    report = audited(Snapshot(roles={"r": role("r")[0]}), facts=account_facts.parse(collect.collect_exposure(account)))
    assert [f.message for f in report if f.rule == "IAM-EXPO-001"] == []


def test_audit_knows_the_roles_of_functions(make_stack, tmp_path):
    cli = make_stack("carried")
    live, lambdas = cli.account, cli.account.client("lambda")
    name = cli.settings.function_name
    trusted = live.client("iam").create_role(RoleName="carrier", AssumeRolePolicyDocument=json.dumps(LAMBDA))["Role"][
        "Arn"
    ]
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    code = {"ZipFile": empty.getvalue()}
    made = lambdas.create_function(FunctionName=name, Runtime="python3.11", Role=trusted, Handler="h.h", Code=code)[
        "FunctionArn"
    ]
    try:
        have = account(role("carrier", trust=LAMBDA))
        asked = account_facts.parse(collect.collect_iam_facts(live, have, usage=False))
    finally:
        lambdas.delete_function(FunctionName=name)
        live.client("iam").delete_role(RoleName="carrier")
    assert asked.carriers[made] == trusted
    assert name in (asked.function_names or ())
    assert collect.collect_iam_facts(live, Snapshot(roles={"r": role("r")[0]}), usage=False).get("carriers") is None
