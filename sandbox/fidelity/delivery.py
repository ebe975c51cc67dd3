"""The answers of Application Auto Scaling, CodeBuild and ECR."""

from __future__ import annotations

from sandbox.fidelity.case import Case, prepare, refused

SOURCE = "words of public issues and repositories; API references of the services"
TARGET = {
    "ServiceNamespace": "sagemaker", "ResourceId": "endpoint/none/variant/AllTraffic",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}  # fmt: skip
TRACKING = {
    "TargetValue": 1.0,
    "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
}
POLICY = {
    "PolicyName": "p",
    "PolicyType": "TargetTrackingScaling",
    "TargetTrackingScalingPolicyConfiguration": TRACKING,
}
PROJECT = {
    "name": "score", "source": {"type": "NO_SOURCE", "buildspec": "version: 0.2"}, "artifacts": {"type": "NO_ARTIFACTS"},
    "environment": {
        "type": "LINUX_CONTAINER", "image": "aws/codebuild/amazonlinux-x86_64-standard:5.0", "computeType": "BUILD_GENERAL1_SMALL",
    },
    "serviceRole": "arn:aws:iam::123456789012:role/none",
}  # fmt: skip
NAMESPACE = "for service namespace: sagemaker, resource ID"

CASES: list[Case] = [
    refused("application-autoscaling.register_scalable_target", "a missing endpoint", {**TARGET, "MinCapacity": 1, "MaxCapacity": 2}, "ValidationException"),
    refused("application-autoscaling.put_scaling_policy", "a policy without a target", {**TARGET, **POLICY}, "ObjectNotFoundException", f"^No scalable target registered {NAMESPACE}"),
    refused("application-autoscaling.deregister_scalable_target", "a missing target", TARGET, "ObjectNotFoundException", f"^No scalable target found {NAMESPACE}"),
    refused("codebuild.create_project", "a role that is not there", PROJECT, "InvalidInputException", "^CodeBuild is not authorized to perform: sts:AssumeRole on"),
    refused("codebuild.start_build", "a missing project", {"projectName": "none"}, "ResourceNotFoundException", "^Project cannot be found"),
    refused("ecr.describe_images", "a missing repository", {"repositoryName": "none", "imageIds": [{"imageTag": "x"}]}, "RepositoryNotFoundException", r"^The repository with name 'none' does not exist in the registry with id '\d+'"),
    prepare("ecr.create_repository", {"repositoryName": "score"}),
    refused("ecr.create_repository", "a name that is taken", {"repositoryName": "score"}, "RepositoryAlreadyExistsException", r"^The repository with name 'score' already exists in the registry with id '\d+'"),
    refused("ecr.describe_images", "a missing image", {"repositoryName": "score", "imageIds": [{"imageTag": "x"}]}, "ImageNotFoundException", "^The image with imageId .* does not exist within the repository with name 'score'"),
]  # fmt: skip
