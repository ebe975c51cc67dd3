"""Calls that are carried out, and whose answer is lost: the SDK's second attempt is refused, and the command goes on."""

import gzip
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ops.core.aws import lost_answers
from ops.core.errors import AwsError
from ops.core.plan import Change
from ops.function import plan
from ops.iam.roles import derive_policy_arn
from sandbox.codebuild import docker
from tests.sandbox.test_function import GOOD


def make_public_key() -> bytes:
    return Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


@pytest.fixture
def lose(inject_fault):
    """Lose the answer to the next call of each of these operations; a second one would be refused as a fault that is left."""

    def inject(*operations):
        for operation in operations:
            inject_fault("fault", operation=operation, do="lost")

    return inject


def test_roles_are_made_although_answers_are_lost(make_stack, lose):
    cli = make_stack("lostroles", roles=False)
    lose("CreatePolicy", "CreateRole", "AttachRolePolicy", "CreateInstanceProfile", "AddRoleToInstanceProfile")
    cli("iam.apply")
    assert cli("iam.apply").out.endswith(": 0 made\n")


def test_bucket_is_made_although_answers_are_lost(make_stack, lose):
    cli = make_stack("lostbucket")
    lose("CreateBucket", "PutBucketPolicy", "PutPublicAccessBlock", "PutBucketEncryption", "PutBucketTagging")
    cli("data.up")
    assert cli("data.up").out.endswith("0 made\n")


def test_function_is_made_and_deleted_although_answers_are_lost(make_stack, lose, monkeypatch):
    cli = make_stack("lostfunction", "fn: {provisioned: 1, reserved: 5}")
    monkeypatch.setattr(plan, "package_function", lambda: GOOD)
    lose("CreateFunction", "CreateLogGroup", "CreateAlias", "PutFunctionConcurrency", "PutProvisionedConcurrencyConfig")
    cli("lambda.deploy")
    assert " 0 made." in cli("lambda.deploy").out
    lose("DeleteFunction")
    cli("lambda.down", "--yes")
    assert "no function" in cli("lambda.down", "--yes").out


def test_models_and_configs_settle_after_lost_answers(make_stack, lose, sandbox):
    """Creates and deletes of SageMaker and CloudWatch Logs, by the role that sm.deploy and sm.delete take."""
    cli = make_stack("lostmodel")
    settings = cli.settings
    account = type(cli.account)(settings, "operator")
    name, tags = f"{settings.prefix}-{'a' * 12}-{'b' * 6}", settings.tags("lost")
    image = f"{settings.aws.account}.dkr.ecr.us-east-1.amazonaws.com/{settings.prefix}:1"
    folder = sandbox / "images" / "lostmodel"
    (folder / "environment" / "bin").mkdir(parents=True)
    (folder / "image.json").write_text(json.dumps({"workdir": "/", "entrypoint": ["true"]}))
    layer = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 1, "digest": "sha256:lostmodel"}
    manifest = {"schemaVersion": 2, "mediaType": docker.MANIFEST, "config": layer, "layers": [layer]}
    cli("data.up")
    stored = {"Bucket": settings.bucket, "Key": "releases/lost/model.tar.gz"}
    cli.account.call("s3", "put_object", Body=gzip.compress(bytes(10240)), **stored)
    cli.account.call("ecr", "create_repository", repositoryName=settings.prefix)
    cli.account.call(
        "ecr", "put_image", repositoryName=settings.prefix, imageManifest=json.dumps(manifest), imageTag="1"
    )
    role = settings.role_arn("sagemaker-execution")
    container = {"Image": image, "ModelDataUrl": "s3://{Bucket}/{Key}".format(**stored)}
    model = {"ModelName": name, "ExecutionRoleArn": role, "PrimaryContainer": container, "Tags": tags}
    variant = {"VariantName": "all", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    config = {"EndpointConfigName": name, "ProductionVariants": [variant], "Tags": tags}
    for operation, call, args in (
        ("CreateModel", "create_model", model),
        ("CreateEndpointConfig", "create_endpoint_config", config),
        ("DeleteEndpointConfig", "delete_endpoint_config", {"EndpointConfigName": name}),
        ("DeleteModel", "delete_model", {"ModelName": name}),
    ):
        lose(operation)
        account.make_change(Change("sagemaker", call, args, why="lost"))
        if call.startswith("create"):
            with pytest.raises(AwsError):  # the same refusal without a lost answer is an error
                account.make_change(Change("sagemaker", call, args, why="again"))


def test_key_pair_and_url_are_there_although_answers_are_lost(make_stack, lose, monkeypatch):
    """Neither call repeats well: DescribeKeyPairs has no pages, and a second URL is refused in words of its own."""
    cli = make_stack("lostkey", "fn: {provisioned: 0, reserved: 5}")
    account, key = type(cli.account)(cli.settings, "operator-infra"), {"KeyName": f"{cli.settings.prefix}-box"}
    tags = [{"ResourceType": "key-pair", "Tags": cli.settings.tags("box")}]
    public = {"PublicKeyMaterial": make_public_key(), "TagSpecifications": tags}
    lose("ImportKeyPair")
    answer = account.make_change(Change("ec2", "import_key_pair", key | public, why="lost"))
    assert answer["KeyName"] == key["KeyName"]
    monkeypatch.setattr(plan, "package_function", lambda: GOOD)
    cli("lambda.deploy")
    lose("UpdateFunctionConfiguration")
    cli("lambda.deploy", env={"INVOKE_FN_MEMORY_MB": "512"})
    lose("CreateFunctionUrlConfig")
    cli("lambda.url")
    assert "0 made" in cli("lambda.url").out
    cli("lambda.down", "--yes")


def test_repeated_calls_are_answered_as_on_aws(make_stack):
    """The default version set again stays the default; a role that is not in the instance profile is not found."""
    cli = make_stack("repeated")
    iam, arn = cli.account.client("iam"), derive_policy_arn("auditor", "permissions", cli.settings)
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v1")
    assert [one["IsDefaultVersion"] for one in iam.list_policy_versions(PolicyArn=arn)["Versions"]] == [True]
    name = cli.settings.build_role_name("ec2-box")
    (profile,) = iam.list_instance_profiles_for_role(RoleName=name)["InstanceProfiles"]
    named = {"InstanceProfileName": profile["InstanceProfileName"], "RoleName": name}
    iam.remove_role_from_instance_profile(**named)
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.remove_role_from_instance_profile(**named)


def test_throttled_launch_is_tried_again(make_stack, inject_fault, monkeypatch):
    """A refused launch has started nothing, and the SDK tries launches twice only."""
    account = make_stack("throttledlaunch").account
    monkeypatch.setattr("ops.core.aws.account.PAUSES_S", (0.01, 0.01))
    inject_fault("fault", operation="StartInstances", do="error", times=4, code="RequestLimitExceeded", status=503)
    with pytest.raises(AwsError, match="InvalidInstanceID"):
        account.call("ec2", "start_instances", "launch", InstanceIds=["i-0123456789abcdef0"])


def test_words_of_another_owner_do_not_settle():
    taken = AwsError("CreateBucket", "BucketAlreadyExists", "The requested bucket name is not available.")
    ours = AwsError("CreateBucket", "BucketAlreadyOwnedByYou", "You already own it.")
    change = Change("s3", "create_bucket", {}, why="")
    assert lost_answers.find_outcome(None, change, taken) is None
    assert lost_answers.find_outcome(None, change, ours) == {}
