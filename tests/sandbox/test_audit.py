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


def test_an_account_without_roles_is_audited_as_the_profile_is(stacks):
    ran = stacks("auditfirst", roles=False)("iam.audit", "--no-exposure", ok=False)
    assert ran.code != 4, ran.said
    assert "cannot be taken yet: going on as the profile is" in ran.err


def test_an_account_is_audited_in_few_calls_and_again_from_what_was_kept(stacks, tmp_path):
    cli, file = stacks("audited"), tmp_path / "kept.json"
    cli("iam.apply")
    ran = cli("iam.audit", "--json", "--save", str(file))
    live = json.loads(ran.out)
    assert live["calls"] <= 9
    alone = json.loads(cli("iam.audit", "--json", "--no-exposure").out)
    assert alone["calls"] <= 4  # whatever the number of roles: see test_three_hundred_roles
    again = json.loads(cli("iam.audit", "--json", "--snapshot", str(file)).out)
    assert again["calls"] == 0
    ours = [f for f in live["findings"] if "kennel-audited" in f["principal"]]
    assert [f for f in again["findings"] if "kennel-audited" in f["principal"]] == ours
    assert ours
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not snapshot_file.KEY_ID.search(file.read_text())


def test_three_hundred_roles_are_one_call_and_what_was_planted_is_found(stacks):
    from ops.core.aws.account import Account

    cli = stacks("planted")
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
    told = json.loads(ran.out)
    assert (ran.code, told["calls"] <= 4) == (7, True)
    seen = {(f["severity"], f["rule"], f["principal"]) for f in told["findings"]}
    assert seen >= {
        ("critical", "IAM-ADMIN-001", crowd[7]), ("critical", "IAM-TRUST-001", name), ("high", "IAM-DRIFT-001", name),
        ("medium", "IAM-DRIFT-002", name), ("low", "IAM-INLINE-001", name),
    }  # fmt: skip
    cli("iam.apply")
    mended = json.loads(cli("iam.audit", "--json").out)["findings"]
    assert not [f for f in mended if f["principal"] == name and f["severity"] in ("critical", "high")]
    before = Account.sent
    account = cli.account
    list(collect.collect_iam_facts(account, Snapshot(), usage=False))
    assert Account.sent - before <= 3


def test_what_of_the_stack_the_world_can_reach_is_found(stacks):
    cli = stacks("reached")
    account, bucket = cli.account, cli.settings.bucket
    assert collect.collect_exposure(account)["buckets"] == {}
    s3 = account.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_policy(
        Bucket=bucket, Policy=json.dumps(doc(trusting("*", "s3:GetObject", Resource=f"arn:aws:s3:::{bucket}/*")))
    )
    told = audited(Snapshot(roles={"r": role("r")[0]}), facts=account_facts.parse(collect.collect_exposure(account)))
    assert [f.message for f in told if f.rule == "IAM-EXPO-001"] == [
        "Block Public Access is off: BlockPublicAcls, IgnorePublicAcls, BlockPublicPolicy, RestrictPublicBuckets",
        "its policy allows everyone",
    ]
    s3.delete_bucket_policy(Bucket=bucket)
    cli("data.up")
    told = audited(Snapshot(roles={"r": role("r")[0]}), facts=account_facts.parse(collect.collect_exposure(account)))
    assert [f.message for f in told if f.rule == "IAM-EXPO-001"] == []


def test_of_functions_it_is_known_which_role_they_run_with(stacks, tmp_path):
    cli = stacks("carried")
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
