"""SageMaker's API calls: moto keeps the records; jobs.py, tuning.py and endpoints.py run what they describe."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from moto.core.responses import ActionResult
from moto.sagemaker.exceptions import ResourceInUseException, ValidationError
from moto.sagemaker.responses import SageMakerResponse
from moto.sagemakerruntime.responses import SageMakerRuntimeResponse

from sandbox.http.error_responses import reply_error
from sandbox.sagemaker import endpoints, jobs, rollout, runs, tuning, validation
from sandbox.world import get_world

BODY_BYTES = 6_291_456  # InvokeEndpoint's limit, from botocore's service model


class SageMaker(SageMakerResponse):
    @property
    def request_params(self) -> dict[str, Any]:
        params: dict[str, Any] = json.loads(self.body)
        return params

    def create_training_job(self) -> ActionResult:
        name = self.request_params["TrainingJobName"]
        if name in self.sagemaker_backend.training_jobs:
            raise ResourceInUseException(
                f"Training job names must be unique within an AWS account and region, but {name} already exists"
            )
        validation.validate_training_job(self.request_params)
        run = jobs.record_and_start_job(get_world(), self.request_params)
        return ActionResult({"TrainingJobArn": run.record.arn})

    def stop_training_job(self) -> ActionResult:
        self.sagemaker_backend.describe_training_job(
            self.request_params["TrainingJobName"]
        )  # raises for an unknown one
        if not runs.request_job_stop(get_world(), self.request_params["TrainingJobName"]):
            raise ValidationError("The request was rejected because the training job is in a terminal status.")
        return ActionResult({})

    def create_hyper_parameter_tuning_job(self) -> ActionResult:
        validation.validate_tuning_job(self.request_params)
        response = super().create_hyper_parameter_tuning_job()  # raises for a name that was used
        record = self.sagemaker_backend.hyper_parameter_tuning_jobs[self.request_params["HyperParameterTuningJobName"]]
        tuning.record_and_start_tuning(get_world(), self.request_params, record)
        return response

    def stop_hyper_parameter_tuning_job(self) -> ActionResult:
        name = self.require_tuning_job()
        if not tuning.request_tuning_stop(get_world(), name):
            raise ValidationError(
                "The request was rejected because the hyperparameter tuning job is in a terminal status."
            )
        return ActionResult({})

    def list_training_jobs_for_hyper_parameter_tuning_job(self) -> ActionResult:
        found = tuning.list_trial_summaries(get_world(), self.require_tuning_job())
        if status := self.request_params.get("StatusEquals"):
            found = [one for one in found if one["TrainingJobStatus"] == status]
        return ActionResult(build_summaries_page(sort_trial_summaries(found, self.request_params), self.request_params))

    def require_tuning_job(self) -> str:
        name: str = self.request_params["HyperParameterTuningJobName"]
        self.sagemaker_backend.describe_hyper_parameter_tuning_job(name)  # raises for an unknown one
        return name

    def add_tags(self) -> ActionResult:
        """Add tags; a key that exists gets the new value, where moto would keep both."""
        keys = [tag["Key"] for tag in self.request_params["Tags"]]
        self.sagemaker_backend.delete_tags(self.request_params["ResourceArn"], keys)
        return super().add_tags()

    def create_model(self) -> ActionResult:
        name, container = self.request_params["ModelName"], self.request_params.get("PrimaryContainer", {})
        if name in self.sagemaker_backend._models:
            raise ValidationError(f'Cannot create already existing model "{self.sagemaker_backend._models[name].arn}".')
        validation.validate_role_trust(self.request_params["ExecutionRoleArn"])
        validation.validate_serving_image(container.get("Image", ""))
        validation.validate_model_data(self.request_params["ExecutionRoleArn"], container.get("ModelDataUrl", ""))
        return super().create_model()

    def create_endpoint_config(self) -> ActionResult:
        name = self.request_params["EndpointConfigName"]
        if name in self.sagemaker_backend.endpoint_configs:
            raise ValidationError(f'Cannot create already existing endpoint configuration "{name}".')
        return super().create_endpoint_config()

    def create_endpoint(self) -> ActionResult:
        name, config = self.request_params["EndpointName"], self.request_params["EndpointConfigName"]
        if name in self.sagemaker_backend.endpoints:
            raise ValidationError(
                f'Cannot create already existing endpoint "{self.sagemaker_backend.endpoints[name].arn}".'
            )
        validation.validate_endpoint_size(self.require_config(config))
        response = super().create_endpoint()
        endpoints.start_endpoint(get_world(), self.sagemaker_backend, name)
        return response

    def update_endpoint(self) -> ActionResult:
        record = self.require_endpoint("update")
        config = self.require_config(self.request_params["EndpointConfigName"])
        validation.validate_endpoint_update(
            self.request_params, config, self.sagemaker_backend.endpoint_configs[record.endpoint_config_name], record
        )
        rollout.start_blue_green_update(get_world(), self.sagemaker_backend, record, self.request_params)
        return ActionResult({"EndpointArn": record.arn})

    def update_endpoint_weights_and_capacities(self) -> ActionResult:
        record = self.require_endpoint("update")
        instance_type = self.sagemaker_backend.endpoint_configs[record.endpoint_config_name].production_variants[0][
            "InstanceType"
        ]
        for wanted in self.request_params["DesiredWeightsAndCapacities"]:
            validation.validate_instance_count(instance_type, "endpoint", wanted["DesiredInstanceCount"])
            endpoints.resize_fleet(
                get_world(), self.sagemaker_backend, record, wanted["VariantName"], wanted["DesiredInstanceCount"]
            )
        return ActionResult({"EndpointArn": record.arn})

    def delete_endpoint(self) -> ActionResult:
        record = self.require_endpoint(
            "delete", allowed=("InService", "Failed", "OutOfService", "UpdateRollbackFailed")
        )
        endpoints.remove_endpoint(get_world(), record.endpoint_name)
        return super().delete_endpoint()

    def require_endpoint(self, verb: str, allowed: tuple[str, ...] = ("InService",)) -> Any:
        """Return the endpoint's record if its status allows the change.

        Raises ValidationError for others: AWS changes no endpoint in transition, and a failed one can only be deleted.
        """
        name = self.request_params["EndpointName"]
        self.sagemaker_backend.describe_endpoint(name)  # raises for an unknown one
        record = self.sagemaker_backend.endpoints[name]
        if record.endpoint_status not in allowed:
            # AWS says "update" of an endpoint in progress, also when it is to be deleted.
            what = f"{verb} failed" if record.endpoint_status == "Failed" else "update in-progress"
            raise ValidationError(f'Cannot {what} endpoint "{record.arn}".')
        return record

    def require_config(self, name: str) -> Any:
        config = self.sagemaker_backend.endpoint_configs.get(name)
        if config is None:
            raise ValidationError(f'Could not find endpoint configuration "{name}".')
        return config


def sort_trial_summaries(found: list[dict[str, Any]], params: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the summaries in the requested order; sorted by objective, only those that have one."""
    final = "FinalHyperParameterTuningJobObjectiveMetric"
    by = params.get("SortBy", "Name")
    if by == "FinalObjectiveMetricValue":
        found = [one for one in found if final in one]
    keys: dict[str, Callable[[dict[str, Any]], Any]] = {
        "Name": lambda one: one["TrainingJobName"],
        "CreationTime": lambda one: one["CreationTime"],
        "Status": lambda one: one["TrainingJobStatus"],
        "FinalObjectiveMetricValue": lambda one: one[final]["Value"],
    }
    return sorted(found, key=keys[by], reverse=params.get("SortOrder") == "Descending")


def build_summaries_page(found: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
    """Return the page of at most MaxResults (10) summaries that begins at NextToken."""
    first = int(params.get("NextToken", 0))
    last = first + params.get("MaxResults", 10)
    more = {"NextToken": str(last)} if last < len(found) else {}
    return {"TrainingJobSummaries": found[first:last], **more}


class Runtime(SageMakerRuntimeResponse):
    use_raw_body = True  # an image is not UTF-8

    def invoke_endpoint(self) -> Any:
        name = self.path.split("/")[2]
        if len(self.body) > BODY_BYTES:
            message = f"The body has {len(self.body)} bytes; the limit is {BODY_BYTES} bytes"
            status, headers, body = reply_error("", 413, "ValidationError", message)
        else:
            content_type, accept = self.headers.get("Content-Type", ""), self.headers.get("Accept", "")
            status, headers, body = endpoints.route_invocation(get_world(), name, self.body, content_type, accept)
        return status, {**headers, "status": status}, body  # moto takes the status from the headers
