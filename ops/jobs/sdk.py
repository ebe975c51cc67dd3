"""Submit the same training job through ModelTrainer of the SageMaker Python SDK, which is imported only on request.

Its requests go through Account like all others: its guard, log, retries, endpoint and wording of errors hold here too.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from ops.core.aws.account import Account
from ops.core.aws.session import open_session
from ops.core.errors import OpsError

# The SDK's own switches: without them it would ask IAM about the role, and add defaults from the operator's files.
# A role's permissions are checked by `iam.audit`, and a job's settings stand in Kennel's settings.
SWITCHES = {
    "SAGEMAKER_VALIDATE_ROLE": "false",
    "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": os.devnull,
    "SAGEMAKER_USER_CONFIG_OVERRIDE": os.devnull,
}
SILENT = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}


class SdkAccount(Account):
    """An account whose training jobs are submitted by the SDK; all other calls are unchanged."""

    def call(self, service: str, call: str, retries: str = "control", **args: Any) -> Any:
        if call == "create_training_job":
            return {"TrainingJobName": submit_with_sdk(self, args)}
        return super().call(service, call, retries, **args)


class SdkClient:
    """A service's client as the SDK sees it. Each call goes through the account; `request` is what the SDK has to send."""

    def __init__(self, account: Account, service: str, request: dict[str, Any]) -> None:
        self._ask = functools.partial(Account.call, account, service)
        self._request = request

    def __getattr__(self, call: str) -> Any:
        return functools.partial(self._ask, call)

    def create_training_job(self, **sent: Any) -> Any:
        altered = [path for path, (ours, _) in compare_requests(self._request, sent).items() if ours is not None]
        if altered:
            raise OpsError(
                f"The SageMaker SDK would drop or alter {', '.join(altered)}. Nothing was started. "
                "Without --via sdk the job is sent as it is."
            )
        return self._ask("create_training_job", **sent)


def submit_with_sdk(account: Account, request: dict[str, Any]) -> str:
    """Send a CreateTrainingJob request, as boto3 takes it, through ModelTrainer; return the job's name.

    Raises AwsError; OpsError without the extra `sdk`, or when ModelTrainer would drop or alter a part of the request.
    """
    trainer = build_trainer_class(request)
    trainer(sagemaker_session=open_sdk_session(account, request), **build_trainer_arguments(request)).train(
        wait=False, logs=False
    )
    return str(request["TrainingJobName"])


def build_trainer_class(request: dict[str, Any]) -> Any:
    """Return a ModelTrainer that sets what no argument can: the job's whole name, and an entry point that needs no upload.

    By itself it adds the time of day to the name, by which Kennel would not find the job again, and either leaves the
    image's entry point alone or sets its own, on a channel `sm_drivers` that it uploads to a bucket of its own.
    """
    os.environ.update(SWITCHES)
    try:
        from sagemaker.train.model_trainer import ModelTrainer
    except ImportError as error:
        raise OpsError(
            f"--via sdk needs the SageMaker SDK ({error.name}), about a gigabyte: pip install -e '.[sdk]'"
        ) from error

    entry = request["AlgorithmSpecification"].get("ContainerEntrypoint")

    class Trainer(ModelTrainer):
        def _create_training_job_args(self, *args: Any, **kwargs: Any) -> Any:
            made = super()._create_training_job_args(*args, **kwargs)
            made["training_job_name"] = request["TrainingJobName"]
            made["algorithm_specification"].container_entrypoint = entry
            return made

    return Trainer


def build_trainer_arguments(request: dict[str, Any]) -> dict[str, Any]:
    """Return the request as ModelTrainer's arguments. SdkClient rejects, before sending, a part that has no place here."""
    from sagemaker.core.training import configs
    from sagemaker.core.utils.code_injection.codec import transform

    said = transform(request, "CreateTrainingJobRequest")
    about_network = ("enable_network_isolation", "enable_inter_container_traffic_encryption")
    return {
        "base_job_name": said["training_job_name"],
        "role": said["role_arn"],
        "training_image": said["algorithm_specification"]["training_image"],
        "training_input_mode": said["algorithm_specification"]["training_input_mode"],
        "compute": configs.Compute(
            **said["resource_config"], enable_managed_spot_training=said.get("enable_managed_spot_training")
        ),
        "networking": configs.Networking(
            **said.get("vpc_config", {}), **{name: said[name] for name in about_network if name in said}
        ),
        "stopping_condition": configs.StoppingCondition(**said["stopping_condition"]),
        "output_data_config": configs.OutputDataConfig(**said["output_data_config"]),
        "input_data_config": [configs.Channel(**channel) for channel in said["input_data_config"]],
        "checkpoint_config": configs.CheckpointConfig(**said["checkpoint_config"])
        if "checkpoint_config" in said
        else None,
        "environment": said.get("environment", {}),
        "hyperparameters": said.get("hyper_parameters", {}),
        "tags": [configs.Tag(**tag) for tag in said.get("tags", [])],
    }


def open_sdk_session(account: Account, request: dict[str, Any]) -> Any:
    """Return the SDK's session on this account. The SDK requires boto3's Session below it, so ours is one in name."""
    from sagemaker.core.helper.session_helper import Session
    from sagemaker.core.resources import Session as Below

    class Doors(Below):
        def client(self, service_name: str, *_: Any, **__: Any) -> Any:
            return SdkClient(account, service_name, request)

        def resource(self, *_: Any, **__: Any) -> None:
            """Return None: the SDK uses resources only for uploads, of which there are none."""

    doors = Doors(
        botocore_session=open_session(account.settings, account.role), region_name=account.settings.aws.region
    )
    return Session(boto_session=doors, sagemaker_config=SILENT)


def compare_requests(ours: Any, sent: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Return {path: (ours, the other's)} of all differences between two requests; None stands for a missing value."""
    if isinstance(ours, dict) and isinstance(sent, dict):
        inside = [(f"{path}.{key}".lstrip("."), ours.get(key), sent.get(key)) for key in sorted({*ours, *sent})]
    elif isinstance(ours, list) and isinstance(sent, list) and len(ours) == len(sent):
        inside = [(f"{path}[{at}]", one, other) for at, (one, other) in enumerate(zip(ours, sent, strict=True))]
    else:
        return {} if ours == sent else {path: (ours, sent)}
    return {found: pair for item in inside for found, pair in compare_requests(item[1], item[2], item[0]).items()}
