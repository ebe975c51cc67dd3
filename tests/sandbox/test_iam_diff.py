"""Differences in meaning: another spelling is no difference, and a wildcard is described by what it covers in addition."""

import json

from tests.unit.test_iam_diff import BUCKET, allow, doc


def test_drift_sets_the_exit_code(make_stack):
    cli = make_stack("differing")
    assert "no differences" in cli("iam.diff").out
    name = cli.settings.build_role_name("lambda-invoke")
    iam = cli.account.client("iam")
    iam.put_role_policy(
        RoleName=name, PolicyName="extra", PolicyDocument=json.dumps(doc(allow("s3:Get*", f"{BUCKET}/*")))
    )
    iam.delete_role_permissions_boundary(RoleName=name)
    ran = cli("iam.diff", ok=False)
    assert ran.code == 7
    assert ran.out.splitlines() == [
        name,
        f"  - live allows s3:Get* on {BUCKET}/*; the repository does not",
        f"  + apply would set the permissions boundary {name}-boundary",
        "  - live has the inline policy extra",
    ]
    data = json.loads(cli("iam.diff", "--role", "lambda-invoke", "--json", ok=False).out)
    assert [(one["role"], one["kind"], one["apply"]) for one in data] == [
        (name, "permissions", "takes"),
        (name, "boundary", "gives"),
        (name, "inline", "takes"),
    ]
    assert data[0]["actions"] == ["s3:Get*"]
    assert cli("iam.diff", "--role", "auditor").code == 0
