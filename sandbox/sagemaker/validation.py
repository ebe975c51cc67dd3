"""Validation of SageMaker requests: refuse what AWS refuses at once, in its own words where they are known."""

from __future__ import annotations

import re
from typing import Any

from moto.sagemaker.exceptions import SagemakerClientError, ValidationError

from sandbox.codebuild import docker, images
from sandbox.iam import service_calls
from sandbox.iam.enforce import Denied
from sandbox.iam.principals import is_service_trusted
from sandbox.sagemaker import rollout
from sandbox.state import ACCOUNT, REGION
from sandbox.world import get_world

# Options of a tuning job that the sandbox does not support.
UNSUPPORTED = ("TrainingJobDefinitions", "WarmStartConfig", "Autotune")
UNSUPPORTED_CONFIG = ("StrategyConfig", "TuningJobCompletionCriteria")
MOST_PARALLEL, MOST_JOBS = 10, 750  # AWS's own quotas
MOST_INSTANCES = (
    20  # of one training job or endpoint: AWS's default for many instance types; here each is processes of this machine
)


class ResourceLimitExceeded(SagemakerClientError):
    code = "ResourceLimitExceeded"


def validate_instance_count(instance_type: str, use: str, wanted: int) -> None:
    """Raise ResourceLimitExceeded for more instances of an endpoint or training job than the account's quota."""
    if wanted > MOST_INSTANCES:
        raise ResourceLimitExceeded(
            f"The account-level service limit '{instance_type} for {use} usage' is {MOST_INSTANCES} Instances, with current "
            f"utilization of 0 Instances and a request delta of {wanted} Instances. Please use AWS Service Quotas to request "
            "an increase for this quota. If AWS Service Quotas is not available, contact AWS support to request an increase "
            "for this quota."
        )


def validate_role_trust(arn: str) -> None:
    """Raise ValidationError, as AWS does in place of AccessDenied, unless the role exists and trusts SageMaker."""
    if not is_service_trusted(get_world(), "sagemaker.amazonaws.com", arn, f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:*"):
        raise ValidationError(
            f"Could not assume role {arn}. Please ensure that the role exists and allows principal 'sagemaker.amazonaws.com' to assume the role."
        )


def validate_model_data(arn: str, url: str) -> None:
    """Raise ValidationError unless the role can read the model data; every cause has one message, as on AWS."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    try:
        service_calls.authorize_object_read(get_world(), arn, "SageMaker", url)
        if key not in get_world().get_global_backend("s3").buckets[bucket].keys:
            raise KeyError(key)
    except (Denied, KeyError):
        raise ValidationError(
            f'Could not access model data at {url}. Please ensure that the role "{arn}" exists and that its trust relationship '
            'policy allows the action "sts:AssumeRole" for the service principal "sagemaker.amazonaws.com". Also ensure that the '
            f'role has "s3:GetObject" permissions and that the object is located in {REGION}.'
        ) from None


def validate_alarm_access(arn: str, deployment: dict[str, Any]) -> None:
    """Raise ValidationError unless the role can describe the alarms that trigger a roll-back."""
    names = [alarm["AlarmName"] for alarm in deployment.get("AutoRollbackConfiguration", {}).get("Alarms", [])]
    if not names:
        return
    try:
        service_calls.authorize_alarm_read(get_world(), arn, "SageMaker")
    except Denied as denied:
        raise ValidationError(f"Unable to describe the alarms {', '.join(names)} with role {arn}: {denied}") from None


def validate_training_job(request: dict[str, Any]) -> None:
    """Validate a training job, or the training job definition of a tuning job. Raises ValidationError."""
    validate_role_trust(request["RoleArn"])
    specification, limits = request["AlgorithmSpecification"], request["StoppingCondition"]
    validate_training_image(specification.get("TrainingImage", ""))
    validate_output_bucket(request["OutputDataConfig"]["S3OutputPath"])
    validate_vpc(request.get("VpcConfig") or {})
    resources = request["ResourceConfig"]
    validate_instance_count(
        resources.get("InstanceType", "a group of instances"), "training job", resources.get("InstanceCount", 1)
    )
    longest = limits.get("MaxWaitTimeInSeconds")
    if longest and not request.get("EnableManagedSpotTraining"):
        raise ValidationError(
            "Invalid MaxWaitTimeInSeconds. It is only supported when EnableManagedSpotTraining is set to true"
        )
    if request.get("EnableManagedSpotTraining") and (longest or 0) < limits.get("MaxRuntimeInSeconds", 86_400):
        raise ValidationError(
            "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds"
        )
    local = request.get("CheckpointConfig", {}).get("LocalPath", "/opt/ml/checkpoints")
    if not local.startswith("/opt/ml/") or ".." in local:
        raise ValidationError(f"The sandbox keeps checkpoints below /opt/ml only, not in {local} (sandbox/README.md)")
    for metric in specification.get("MetricDefinitions", []):
        validate_metric_regex(metric)


def validate_serving_image(uri: str) -> None:
    """Raise ValidationError unless ECR has the image, with a manifest in Docker's format."""
    image = images.find_image(get_world(), uri)
    if image is None:
        raise ValidationError(f"Requested image {uri} not found.")
    if image.manifest_type != docker.MANIFEST:
        raise ValidationError(
            f"Unsupported manifest media type {image.manifest_type} for image {uri}. "
            "Ensure that valid manifest media type is used for specified image."
        )


def validate_training_image(uri: str) -> None:
    """Raise ValidationError unless AWS has the image in this region's registry. Its tags are listed in images.py."""
    registry, _, tag = uri.partition(":")
    if registry != images.TRAINING or tag not in images.TRAINING_TAGS:
        raise ValidationError(
            f"Cannot find the requested image: {uri}. Please ensure that the image exists in {REGION}."
        )


def validate_output_bucket(url: str) -> None:
    bucket = url.removeprefix("s3://").partition("/")[0]
    if bucket not in get_world().get_global_backend("s3").buckets:
        raise ValidationError(f"The output bucket {bucket} does not exist or is in another region than {REGION}.")


def validate_vpc(config: dict[str, Any]) -> None:
    """Raise ValidationError for a subnet or a security group that does not exist."""
    ec2 = get_world().backend("ec2")
    for subnet in config.get("Subnets", []):
        if not any(subnet in subnets for subnets in ec2.subnets.values()):
            raise ValidationError(f"The subnet ID '{subnet}' does not exist")
    for group in config.get("SecurityGroupIds", []):
        if ec2.get_security_group_from_id(group) is None:
            raise ValidationError(f"The security group '{group}' does not exist")


def validate_metric_regex(metric: dict[str, str]) -> None:
    try:
        re.compile(metric["Regex"])
    except re.error as error:
        raise ValidationError(f"Invalid regular expression of metric {metric['Name']}: {error}") from error


def validate_tuning_job(request: dict[str, Any]) -> None:
    name, config = request["HyperParameterTuningJobName"], request["HyperParameterTuningJobConfig"]
    if not re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,31}", name) or len(name) > 32:
        raise ValidationError(
            f"1 validation error detected: Value '{name}' at 'hyperParameterTuningJobName' failed to satisfy constraint: "
            "Member must have length less than or equal to 32 and satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,31}"
        )
    unsupported = [key for key in UNSUPPORTED if request.get(key)] + [
        key for key in UNSUPPORTED_CONFIG if config.get(key)
    ]
    unsupported += [config["Strategy"]] if config["Strategy"] == "Hyperband" else []
    unsupported += (
        ["TrainingJobEarlyStoppingType"] if config.get("TrainingJobEarlyStoppingType", "Off") != "Off" else []
    )
    if unsupported or "ResourceConfig" not in request.get("TrainingJobDefinition", {}):
        what = ", ".join(unsupported) or "A tuning job without TrainingJobDefinition and its ResourceConfig"
        raise ValidationError(f"{what}: not part of the sandbox (sandbox/README.md)")
    definition = request["TrainingJobDefinition"]
    validate_training_job(definition)
    metrics = [metric["Name"] for metric in definition["AlgorithmSpecification"].get("MetricDefinitions", [])]
    if config.get("HyperParameterTuningJobObjective", {}).get("MetricName") not in metrics:
        raise ValidationError(
            "A metric is required for this hyperparameter tuning job objective. Provide a metric in the metric definitions."
        )
    validate_resource_limits(config)
    validate_parameter_ranges(config, definition)


def validate_resource_limits(config: dict[str, Any]) -> None:
    bounds = config["ResourceLimits"]
    most, parallel = bounds.get("MaxNumberOfTrainingJobs"), bounds["MaxParallelTrainingJobs"]
    if config["Strategy"] != "Grid" and not most:
        raise ValidationError("MaxNumberOfTrainingJobs is required for this strategy.")
    for wanted, allowed, what in (
        (most or 1, MOST_JOBS, "number of training jobs per hyperparameter tuning job"),
        (parallel, MOST_PARALLEL, "parallel training jobs per hyperparameter tuning job"),
    ):
        if wanted > allowed:
            raise ValidationError(f"The maximum {what} is {allowed}, but {wanted} were requested.")


def validate_parameter_ranges(config: dict[str, Any], definition: dict[str, Any]) -> None:
    given = config.get("ParameterRanges", {})
    numeric = [*given.get("ContinuousParameterRanges", []), *given.get("IntegerParameterRanges", [])]
    named = [one["Name"] for one in (*numeric, *given.get("CategoricalParameterRanges", []))]
    if not named or given.get("AutoParameters"):
        raise ValidationError("A tuning job needs parameter ranges; AutoParameters are not part of the sandbox.")
    if twice := sorted({n for n in named if named.count(n) > 1 or n in definition.get("StaticHyperParameters", {})}):
        raise ValidationError(f"Hyperparameters are tuned and static, or tuned twice: {', '.join(twice)}.")
    if config["Strategy"] == "Grid" and numeric:
        raise ValidationError("Grid search takes categorical parameters only.")
    for one in numeric:
        low, high, scale = float(one["MinValue"]), float(one["MaxValue"]), one.get("ScalingType", "Auto")
        if (
            low > high
            or (scale == "Logarithmic" and low <= 0)
            or (scale == "ReverseLogarithmic" and not 0 <= low <= high < 1)
        ):
            raise ValidationError(f"Invalid range of {one['Name']} for scaling {scale}: {low} to {high}.")


def validate_endpoint_size(config: Any) -> None:
    for variant in config.production_variants:
        validate_instance_count(variant["InstanceType"], "endpoint", variant.get("InitialInstanceCount", 1))


def validate_endpoint_update(request: dict[str, Any], config: Any, live: Any, record: Any) -> None:
    """Raise ValidationError for what UpdateEndpoint refuses.

    It refuses an impossible deployment, alarms the role may not describe, and another variant name or instance type
    while the variant is a scalable target.
    """
    validate_endpoint_size(config)
    count = record.production_variants[0]["DesiredInstanceCount"]
    if message := rollout.find_deployment_error(request.get("DeploymentConfig", {}), count):
        raise ValidationError(message)
    model = get_world().backend("sagemaker")._models[config.production_variants[0]["ModelName"]]
    validate_alarm_access(model.execution_role_arn, request.get("DeploymentConfig", {}))
    new, old = config.production_variants[0], live.production_variants[0]
    resource = f"endpoint/{record.endpoint_name}/variant/{old['VariantName']}"
    targets = get_world().backend("applicationautoscaling").targets.get("sagemaker:variant:DesiredInstanceCount", {})
    if resource in targets and (new["VariantName"], new["InstanceType"]) != (old["VariantName"], old["InstanceType"]):
        raise ValidationError(
            f'The variant "{old["VariantName"]}" is registered with Application Auto Scaling: deregister it before you change '
            "its instance type or remove it."
        )
