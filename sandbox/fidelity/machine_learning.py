"""The answers of SageMaker."""

from __future__ import annotations

from typing import Any

from sandbox.fidelity.case import Case, build_policy, build_trust, prepare, refused

SOURCE = "words of public logs and repositories; SageMaker API reference"
JOB_NAME = "TrainingJobName"
INVALID = "ValidationException"
ARN = r'"arn:aws:sagemaker:us-east-1:\d+'
IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch"
TAG = "2.13-cpu-amzn2023-sagemaker"
JOB: dict[str, Any] = {
    "AlgorithmSpecification": {"TrainingImage": f"{IMAGE}:{TAG}", "TrainingInputMode": "File", "ContainerEntrypoint": ["true"]},
    "RoleArn": "<role>", "OutputDataConfig": {"S3OutputPath": "s3://score-output/x"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
}  # fmt: skip


def job(number: int, **other: Any) -> dict[str, Any]:
    """Return a training job's request with its own name and these parameters in place of the usual ones."""
    return {JOB_NAME: f"score-{number}", **JOB, **other}


def use_image(image: str) -> dict[str, Any]:
    return {"TrainingImage": image, "TrainingInputMode": "File"}


def variant(instance_type: str) -> list[dict[str, Any]]:
    return [{"VariantName": "a", "ModelName": "none", "InstanceType": instance_type, "InitialInstanceCount": 1}]


def model(image: str, role: str = "<role>", name: str = "score") -> dict[str, Any]:
    return {"ModelName": name, "ExecutionRoleArn": role, "PrimaryContainer": {"Image": image}}


CASES: list[Case] = [
    refused("sagemaker.describe_training_job", "a missing job", {JOB_NAME: "none"}, INVALID, r"^Requested resource not found\."),
    refused("sagemaker.describe_endpoint", "a missing endpoint", {"EndpointName": "none"}, INVALID, f'^Could not find endpoint {ARN}:endpoint/none"'),
    refused("sagemaker.describe_endpoint_config", "a missing configuration", {"EndpointConfigName": "none"}, INVALID, f"^Could not find endpoint configuration {ARN}"),
    refused("sagemaker.describe_model", "a missing model", {"ModelName": "none"}, INVALID, f"^Could not find model {ARN}"),
    refused("sagemaker.delete_model", "a missing model", {"ModelName": "none"}, INVALID, f"^Could not find model {ARN}"),
    refused("sagemaker.delete_endpoint_config", "a missing configuration", {"EndpointConfigName": "none"}, INVALID, "^Could not find endpoint configuration"),
    refused("sagemaker.delete_endpoint", "a missing endpoint", {"EndpointName": "none"}, INVALID, f"^Could not find endpoint {ARN}"),
    refused("sagemaker.describe_hyper_parameter_tuning_job", "a missing job", {"HyperParameterTuningJobName": "none"}, "ResourceNotFound"),
    prepare("iam.create_role", {"RoleName": "score-sagemaker", "AssumeRolePolicyDocument": build_trust({"Service": "sagemaker.amazonaws.com"})}, keep={"role": "Role.Arn"}),
    prepare("iam.put_role_policy", {"RoleName": "score-sagemaker", "PolicyName": "all", "PolicyDocument": build_policy("*")}),
    refused("sagemaker.create_model", "a role that is not there", model("x", role="arn:aws:iam::123456789012:role/none"), INVALID, r"^Could not assume role .* Please ensure that the role exists and allows principal 'sagemaker.amazonaws.com' to assume the role"),
    refused("sagemaker.create_model", "an image that is not there", model("123456789012.dkr.ecr.us-east-1.amazonaws.com/x:1"), INVALID, "cannot pull|Requested image .* not found"),
    refused("sagemaker.create_model", "a name with _", model("x", name="bad_name!"), INVALID, "at 'modelName' failed to satisfy constraint"),
    prepare("s3.create_bucket", {"Bucket": "score-output"}),
    refused("sagemaker.create_training_job", "an image whose tag is not there", job(1, AlgorithmSpecification=use_image(f"{IMAGE}:none")), INVALID),
    refused("sagemaker.create_training_job", "an image of another region", job(2, AlgorithmSpecification=use_image(f"{IMAGE}:{TAG}".replace("us-east-1", "eu-west-1"))), INVALID),
    refused("sagemaker.create_training_job", "an unknown instance type", job(3, ResourceConfig={**JOB["ResourceConfig"], "InstanceType": "ml.nonsense"}), INVALID, "instanceType' failed to satisfy constraint: Member must satisfy enum value set"),
    refused("sagemaker.create_training_job", "a missing subnet", job(4, VpcConfig={"Subnets": ["subnet-0123456789abcdef0"], "SecurityGroupIds": ["sg-0123456789abcdef0"]}), INVALID),
    refused("sagemaker.create_training_job", "a missing bucket for the output", job(5, OutputDataConfig={"S3OutputPath": "s3://score-none/x"}), INVALID),
    prepare("sagemaker.create_training_job", job(6)),
    refused("sagemaker.create_training_job", "a name that is taken", job(6), "ResourceInUse", "^Training job names must be unique within an AWS account and region"),
    refused("sagemaker.create_training_job", "101 hyperparameters", job(7, HyperParameters={f"a{number}": "1" for number in range(101)}), INVALID),
    refused("sagemaker.create_endpoint_config", "a missing model", {"EndpointConfigName": "score", "ProductionVariants": variant("ml.m5.large")}, INVALID, "^Could not find model"),
    refused("sagemaker.create_endpoint_config", "an unknown instance type", {"EndpointConfigName": "score", "ProductionVariants": variant("ml.nonsense")}, INVALID, "instanceType' failed"),
    refused("sagemaker-runtime.invoke_endpoint", "a missing endpoint", {"EndpointName": "none", "Body": b"x"}, "ValidationError", r"^Endpoint none of account \d+ not found"),
]  # fmt: skip
