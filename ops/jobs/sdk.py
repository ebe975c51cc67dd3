"""Submit the same training job through ModelTrainer of the SageMaker Python SDK, which is imported only on request.

Its requests go through Account like all others: its guard, log, retries, endpoint and error messages apply here too.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from ops.core.aws.account import Account
from ops.core.aws.session import open_session
from ops.core.errors import OpsError

# The SDK's own switches: without them it would read the role in IAM, and add defaults from the operator's files.
# `iam.audit` checks a role's permissions, and Kennel's settings have all settings of a job.
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
    """A service's client as the SDK sees it. Each call goes through the account; `request` is what the SDK must send."""

    def __init__(self, account: Account, service: str, request: dict[str, Any]) -> None:
        self._call = functools.partial(Account.call, account, service)
        self._request = request

    def __getattr__(self, call: str) -> Any:
        return functools.partial(self._call, call)

    def create_training_job(self, **sent: Any) -> Any:
        altered = [path for path, (ours, _) in compare_requests(self._request, sent).items() if ours is not None]
        if altered:
            raise OpsError(
                f"The SageMaker SDK would drop or alter {', '.join(altered)}. Nothing was started. "
                "To send the job unchanged, run the command without --via sdk."
            )
        return self._call("create_training_job", **sent)


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

    Otherwise it adds the time of day to the name, so that Kennel would not find the job again, and either keeps the
    image's entry point or sets its own, on a channel `sm_drivers` that it uploads to its own bucket.
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
    """Return the request as ModelTrainer's arguments. SdkClient rejects, before sending, any part that these arguments lack."""
    from sagemaker.core.training import configs
    from sagemaker.core.utils.code_injection.codec import transform

    fields = transform(request, "CreateTrainingJobRequest")
    about_network = ("enable_network_isolation", "enable_inter_container_traffic_encryption")
    return {
        "base_job_name": fields["training_job_name"],
        "role": fields["role_arn"],
        "training_image": fields["algorithm_specification"]["training_image"],
        "training_input_mode": fields["algorithm_specification"]["training_input_mode"],
        "compute": configs.Compute(
            **fields["resource_config"], enable_managed_spot_training=fields.get("enable_managed_spot_training")
        ),
        "networking": configs.Networking(
            **fields.get("vpc_config", {}), **{name: fields[name] for name in about_network if name in fields}
        ),
        "stopping_condition": configs.StoppingCondition(**fields["stopping_condition"]),
        "output_data_config": configs.OutputDataConfig(**fields["output_data_config"]),
        "input_data_config": [configs.Channel(**channel) for channel in fields["input_data_config"]],
        "checkpoint_config": configs.CheckpointConfig(**fields["checkpoint_config"])
        if "checkpoint_config" in fields
        else None,
        "environment": fields.get("environment", {}),
        "hyperparameters": fields.get("hyper_parameters", {}),
        "tags": [configs.Tag(**tag) for tag in fields.get("tags", [])],
    }


def open_sdk_session(account: Account, request: dict[str, Any]) -> Any:
    """Return the SDK's session on this account. The SDK requires boto3's Session below it, so ours is a subclass of it."""
    from sagemaker.core.helper.session_helper import Session
    from sagemaker.core.resources import Session as Boto3Session

    class AccountSession(Boto3Session):
        def client(self, service_name: str, *_: Any, **__: Any) -> Any:
            return SdkClient(account, service_name, request)

        def resource(self, *_: Any, **__: Any) -> None:
            """Return None: the SDK uses resources only for uploads, of which there are none."""

    below = AccountSession(
        botocore_session=open_session(account.settings, account.role), region_name=account.settings.aws.region
    )
    return Session(boto_session=below, sagemaker_config=SILENT)


def compare_requests(ours: Any, sent: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Return {path: (ours, the other's)} of all differences between two requests; None stands for a missing value."""
    if isinstance(ours, dict) and isinstance(sent, dict):
        inside = [(f"{path}.{key}".lstrip("."), ours.get(key), sent.get(key)) for key in sorted({*ours, *sent})]
    elif isinstance(ours, list) and isinstance(sent, list) and len(ours) == len(sent):
        inside = [(f"{path}[{at}]", one, other) for at, (one, other) in enumerate(zip(ours, sent, strict=True))]
    else:
        return {} if ours == sent else {path: (ours, sent)}
    return {found: pair for item in inside for found, pair in compare_requests(item[1], item[2], item[0]).items()}
