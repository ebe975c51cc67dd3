"""SageMaker's API calls: moto keeps the records; jobs.py, tuning.py and endpoints.py run what they describe."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from moto.core.responses import ActionResult
from moto.sagemaker.exceptions import ResourceInUseException, ValidationError
from moto.sagemaker.responses import SageMakerResponse
from moto.sagemakerruntime.responses import SageMakerRuntimeResponse

from sandbox.codebuild import images
from sandbox.http.error_responses import reply_error
from sandbox.sagemaker import endpoints, jobs, rollout, runs, tuning, validation
from sandbox.world import get_world

BODY_BYTES = 6_291_456  # InvokeEndpoint's limit, from botocore's service model


class SageMaker(SageMakerResponse):
    @property
    def asked(self) -> dict[str, Any]:
        asked: dict[str, Any] = json.loads(self.body)
        return asked

    def create_training_job(self) -> ActionResult:
        name = self.asked["TrainingJobName"]
        if name in self.sagemaker_backend.training_jobs:
            raise ResourceInUseException(
                f"Training job names must be unique within an AWS account and region, but {name} already exists"
            )
        validation.validate_training_job(self.asked)
        run = jobs.record_and_start_job(get_world(), self.asked)
        return ActionResult({"TrainingJobArn": run.record.arn})

    def stop_training_job(self) -> ActionResult:
        self.sagemaker_backend.describe_training_job(self.asked["TrainingJobName"])  # raises for an unknown one
        if not runs.request_job_stop(get_world(), self.asked["TrainingJobName"]):
            raise ValidationError("The request was rejected because the training job is in a terminal status.")
        return ActionResult({})

    def create_hyper_parameter_tuning_job(self) -> ActionResult:
        validation.validate_tuning_job(self.asked)
        answer = super().create_hyper_parameter_tuning_job()  # raises for a name that was used
        record = self.sagemaker_backend.hyper_parameter_tuning_jobs[self.asked["HyperParameterTuningJobName"]]
        tuning.record_and_start_tuning(get_world(), self.asked, record)
        return answer

    def stop_hyper_parameter_tuning_job(self) -> ActionResult:
        name = self.require_tuning_job()
        if not tuning.request_tuning_stop(get_world(), name):
            raise ValidationError(
                "The request was rejected because the hyperparameter tuning job is in a terminal status."
            )
        return ActionResult({})

    def list_training_jobs_for_hyper_parameter_tuning_job(self) -> ActionResult:
        found = tuning.list_trial_summaries(get_world(), self.require_tuning_job())
        if status := self.asked.get("StatusEquals"):
            found = [one for one in found if one["TrainingJobStatus"] == status]
        return ActionResult(build_summaries_page(sort_trial_summaries(found, self.asked), self.asked))

    def require_tuning_job(self) -> str:
        name: str = self.asked["HyperParameterTuningJobName"]
        self.sagemaker_backend.describe_hyper_parameter_tuning_job(name)  # raises for an unknown one
        return name

    def add_tags(self) -> ActionResult:
        """Add tags; a key that exists gets the new value, where moto would keep both."""
        keys = [tag["Key"] for tag in self.asked["Tags"]]
        self.sagemaker_backend.delete_tags(self.asked["ResourceArn"], keys)
        return super().add_tags()

    def create_model(self) -> ActionResult:
        name, container = self.asked["ModelName"], self.asked.get("PrimaryContainer", {})
        if name in self.sagemaker_backend._models:
            raise ValidationError(f'Cannot create already existing model "{self.sagemaker_backend._models[name].arn}".')
        validation.validate_role_trust(self.asked["ExecutionRoleArn"])
        if images.find_image(get_world(), container.get("Image", "")) is None:
            raise ValidationError(f"Requested image {container.get('Image')} not found.")
        validation.validate_model_data(self.asked["ExecutionRoleArn"], container.get("ModelDataUrl", ""))
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
        endpoints.start_endpoint(get_world(), self.sagemaker_backend, name)
        return answer

    def update_endpoint(self) -> ActionResult:
        record = self.settled("update")
        config = self.config(self.asked["EndpointConfigName"])
        validation.validate_endpoint_update(
            self.asked, config, self.sagemaker_backend.endpoint_configs[record.endpoint_config_name], record
        )
        rollout.start_blue_green_update(get_world(), self.sagemaker_backend, record, self.asked)
        return ActionResult({"EndpointArn": record.arn})

    def update_endpoint_weights_and_capacities(self) -> ActionResult:
        record = self.settled("update")
        for wanted in self.asked["DesiredWeightsAndCapacities"]:
            endpoints.resize_fleet(
                get_world(), self.sagemaker_backend, record, wanted["VariantName"], wanted["DesiredInstanceCount"]
            )
        return ActionResult({"EndpointArn": record.arn})

    def delete_endpoint(self) -> ActionResult:
        record = self.settled("delete", allowed=("InService", "Failed", "OutOfService", "UpdateRollbackFailed"))
        endpoints.remove_endpoint(get_world(), record.endpoint_name)
        return super().delete_endpoint()

    def settled(self, verb: str, allowed: tuple[str, ...] = ("InService",)) -> Any:
        """Return the endpoint's record if its status allows the change.

        Raises ValidationError for others: AWS changes no endpoint in transition, and a failed one can only be deleted.
        """
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


def sort_trial_summaries(found: list[dict[str, Any]], asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the summaries in the requested order; sorted by objective, only those that have one."""
    final = "FinalHyperParameterTuningJobObjectiveMetric"
    by = asked.get("SortBy", "Name")
    if by == "FinalObjectiveMetricValue":
        found = [one for one in found if final in one]
    keys: dict[str, Callable[[dict[str, Any]], Any]] = {
        "Name": lambda one: one["TrainingJobName"],
        "CreationTime": lambda one: one["CreationTime"],
        "Status": lambda one: one["TrainingJobStatus"],
        "FinalObjectiveMetricValue": lambda one: one[final]["Value"],
    }
    return sorted(found, key=keys[by], reverse=asked.get("SortOrder") == "Descending")


def build_summaries_page(found: list[dict[str, Any]], asked: dict[str, Any]) -> dict[str, Any]:
    """Return the page of at most MaxResults (10) summaries that begins at NextToken."""
    first = int(asked.get("NextToken", 0))
    last = first + asked.get("MaxResults", 10)
    more = {"NextToken": str(last)} if last < len(found) else {}
    return {"TrainingJobSummaries": found[first:last], **more}


class Runtime(SageMakerRuntimeResponse):
    use_raw_body = True  # an image is not UTF-8

    def invoke_endpoint(self) -> Any:
        name = self.path.split("/")[2]
        if len(self.body) > BODY_BYTES:
            words = f"The body has {len(self.body)} bytes; at most {BODY_BYTES} are taken"
            status, headers, body = reply_error("", 413, "ValidationError", words)
        else:
            kind, accept = self.headers.get("Content-Type", ""), self.headers.get("Accept", "")
            status, headers, body = endpoints.route_invocation(get_world(), name, self.body, kind, accept)
        return status, {**headers, "status": status}, body  # moto takes the status from the headers
