"""Commands on an AWS that does not know yet what is new: EC2 and IAM are eventually consistent."""

import pytest

from ops.core.aws import account
from ops.core.errors import AwsError
from sandbox.fidelity.case import build_trust
from sandbox.fidelity.machine_learning import JOB


@pytest.fixture
def lag(inject_fault, monkeypatch):
    """Each new resource is unknown to the first two calls that name it; the pauses between attempts are short."""
    monkeypatch.setattr(account, "PAUSES_S", (0.01,) * 7)
    inject_fault("lag", calls=2)


def test_roles_are_applied_although_they_are_unknown(make_stack, lag):
    cli = make_stack("laggingroles", roles=False)
    said = cli("iam.apply").err
    assert "AWS does not know kennel-laggingroles-operator everywhere yet" in said
    assert " 0 made" in f" {cli('iam.apply').out}"


def test_network_and_box_are_made_although_ids_are_unknown(make_stack, lag):
    cli = make_stack("lagging")
    assert "AWS does not know vpc-" in cli("net.up").err
    assert " 0 made" in f" {cli('net.up').out}"
    assert "AWS does not know i-" in cli("ec2.up").err
    cli("ec2.down", "--yes")


def test_job_waits_for_its_new_role(make_stack, lag):
    """Without the second attempt, the refusal would be about the role."""
    admin = make_stack("laggingjob").account
    role = admin.call(
        "iam",
        "create_role",
        RoleName="lagging-job",
        AssumeRolePolicyDocument=build_trust({"Service": "sagemaker.amazonaws.com"}),
    )
    with pytest.raises(AwsError, match="output bucket score-output does not exist"):
        admin.call(
            "sagemaker", "create_training_job", TrainingJobName="lagging", **JOB | {"RoleArn": role["Role"]["Arn"]}
        )


def test_wait_for_an_unknown_id_ends(make_stack, inject_fault, monkeypatch):
    """A resource that stays unknown is awaited no longer than the pauses, and the error is AWS's."""
    monkeypatch.setattr(account, "PAUSES_S", (0.01,))
    inject_fault("lag", seconds=60)
    admin = make_stack("laggingjob").account
    vpc = admin.call("ec2", "create_vpc", CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    with pytest.raises(AwsError, match=r"InvalidVpcID\.NotFound"):
        admin.call("ec2", "create_subnet", VpcId=vpc, CidrBlock="10.9.0.0/24")
    inject_fault("lag", seconds=0)
    admin.call("ec2", "delete_vpc", VpcId=vpc)
