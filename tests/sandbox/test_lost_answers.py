"""Calls that are carried out, and whose answer is lost: the SDK's second attempt is refused, and the command goes on."""

import gzip
import json

import pytest

from ops.core.aws import lost_answers
from ops.core.errors import AwsError
from ops.core.plan import Change
from ops.function import plan
from sandbox.codebuild import docker
from tests.sandbox.test_function import GOOD


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


def test_words_of_another_owner_do_not_settle():
    taken = AwsError("CreateBucket", "BucketAlreadyExists", "The requested bucket name is not available.")
    ours = AwsError("CreateBucket", "BucketAlreadyOwnedByYou", "You already own it.")
    change = Change("s3", "create_bucket", {}, why="")
    assert lost_answers.find_outcome(None, change, taken) is None
    assert lost_answers.find_outcome(None, change, ours) == {}
