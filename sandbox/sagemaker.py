"""SageMaker's calls: moto keeps the records, and what they describe really happens (jobs.py, endpoints.py)."""

from __future__ import annotations

import json
from typing import Any

from moto.core.responses import ActionResult
from moto.sagemaker.exceptions import ResourceInUseException, ValidationError
from moto.sagemaker.responses import SageMakerResponse
from moto.sagemakerruntime.responses import SageMakerRuntimeResponse

from sandbox import endpoints, images, jobs
from sandbox.gate import error
from sandbox.world import world

BODY_BYTES = 6_291_456  # InvokeEndpoint's limit, from botocore's service model


class SageMaker(SageMakerResponse):
    @property
    def asked(self) -> dict[str, Any]:
        return json.loads(self.body)

    def create_training_job(self) -> ActionResult:
        name = self.asked["TrainingJobName"]
        if name in self.sagemaker_backend.training_jobs:
            raise ResourceInUseException(
                f"Training job names must be unique within an AWS account and region, but {name} already exists"
            )
        check_role(self.asked["RoleArn"])
        if images.TRAINING not in self.asked["AlgorithmSpecification"].get("TrainingImage", ""):
            raise ValidationError(
                f"Cannot find the requested image: {self.asked['AlgorithmSpecification'].get('TrainingImage')}"
            )
        answer = super().create_training_job()
        jobs.submit(world(), self.asked, self.sagemaker_backend.training_jobs[name])
        return answer

    def stop_training_job(self) -> ActionResult:
        self.sagemaker_backend.describe_training_job(self.asked["TrainingJobName"])  # raises for an unknown one
        if not jobs.stop(self.asked["TrainingJobName"]):
            raise ValidationError("The request was rejected because the training job is in a terminal status.")
        return ActionResult({})

    def create_model(self) -> ActionResult:
        name, container = self.asked["ModelName"], self.asked.get("PrimaryContainer", {})
        if name in self.sagemaker_backend._models:
            raise ValidationError(f'Cannot create already existing model "{self.sagemaker_backend._models[name].arn}".')
        check_role(self.asked["ExecutionRoleArn"])
        if images.find(world(), container.get("Image", "")) is None:
            raise ValidationError(f"Requested image {container.get('Image')} not found.")
        return super().create_model()

    def create_endpoint_config(self) -> ActionResult:
        name = self.asked["EndpointConfigName"]
        if name in self.sagemaker_backend.endpoint_configs:
            raise ValidationError(f'Cannot create already existing endpoint configuration "{name}".')
        return super().create_endpoint_config()

    def create_endpoint(self) -> ActionResult:
        name, config = self.asked["EndpointName"], self.asked["EndpointConfigName"]
        if name in self.sagemaker_backend.endpoints:
            raise ValidationError(
                f'Cannot create already existing endpoint "{self.sagemaker_backend.endpoints[name].arn}".'
            )
        self.config(config)
        answer = super().create_endpoint()
        endpoints.create(world(), self.sagemaker_backend, name)
        return answer

    def update_endpoint(self) -> ActionResult:
        record = self.settled("update")
        self.config(self.asked["EndpointConfigName"])
        endpoints.update(world(), self.sagemaker_backend, record, self.asked)
        return ActionResult({"EndpointArn": record.arn})

    def update_endpoint_weights_and_capacities(self) -> ActionResult:
        record = self.settled("update")
        for wanted in self.asked["DesiredWeightsAndCapacities"]:
            endpoints.resize(
                world(), self.sagemaker_backend, record, wanted["VariantName"], wanted["DesiredInstanceCount"]
            )
        return ActionResult({"EndpointArn": record.arn})

    def delete_endpoint(self) -> ActionResult:
        record = self.settled("delete", allowed=("InService", "Failed", "OutOfService", "UpdateRollbackFailed"))
        endpoints.delete(world(), record.endpoint_name)
        return super().delete_endpoint()

    def settled(self, verb: str, allowed: tuple[str, ...] = ("InService",)) -> Any:
        """The endpoint's record. AWS refuses to touch one in motion, and lets a failed one only be deleted."""
        name = self.asked["EndpointName"]
        self.sagemaker_backend.describe_endpoint(name)  # raises for an unknown one
        record = self.sagemaker_backend.endpoints[name]
        if record.endpoint_status not in allowed:
            what = "in-progress" if record.endpoint_status != "Failed" else "failed"
            raise ValidationError(f'Cannot {verb} {what} endpoint "{record.arn}".')
        return record

    def config(self, name: str) -> Any:
        config = self.sagemaker_backend.endpoint_configs.get(name)
        if config is None:
            raise ValidationError(f'Could not find endpoint configuration "{name}".')
        return config


def check_role(arn: str) -> None:
    """The role must exist and trust SageMaker; AWS says so with a ValidationException, not with AccessDenied."""
    roles = {role.arn: role for role in world().backend_global("iam").roles.values()}
    role = roles.get(arn)
    if role is None or "sagemaker.amazonaws.com" not in str(role.assume_role_policy_document):
        raise ValidationError(
            f"Could not assume role {arn}. Please ensure that the role exists and allows principal 'sagemaker.amazonaws.com' to assume the role."
        )


class Runtime(SageMakerRuntimeResponse):
    use_raw_body = True  # a picture is not UTF-8

    def invoke_endpoint(self) -> Any:
        name = self.path.split("/")[2]
        if len(self.body) > BODY_BYTES:
            words = f"The body has {len(self.body)} bytes; at most {BODY_BYTES} are taken"
            status, headers, body = error("", 413, "ValidationError", words)
        else:
            kind, accept = self.headers.get("Content-Type", ""), self.headers.get("Accept", "")
            status, headers, body = endpoints.invoke(world(), name, self.body, kind, accept)
        return status, {**headers, "status": status}, body  # moto takes the status from the headers
