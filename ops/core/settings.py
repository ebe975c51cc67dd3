"""The settings, validated: the schema of invoke.yaml, and the names that follow from it. Imported when a task runs."""

from __future__ import annotations

import os
import shlex
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from ops.core import registries, running, settings_errors
from ops.core import settings_values as values
from ops.core.errors import OpsError
from ops.core.paths import ROOT, WORK

INVOKES_OWN = {"run", "runners", "sudo", "tasks", "timeouts"}
ROLES = "iam_policies"
# These are named in iam_policies/ too, so they are not settings:
IMAGES = "images/"  # the prefix of the pictures that {"s3_uri"} events may name
REPOSITORY = "kennel-serving"  # in ECR; an image's tag is the digest of serving/

FLAGS = (  # of training/train.py
    "arch", "head", "layers", "pixels", "epochs", "patience", "batch", "lr", "weight_decay", "shift", "flip", "crop", "views",
    "seed", "threads",
)  # fmt: skip


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Stack(Section):
    name: values.Name
    expires_hours: values.Hours
    wait_minutes: Annotated[int, Field(ge=0, le=1440)]


class Aws(Section):
    profile: values.NonEmptyText
    config_file: values.FilePath
    take_roles: bool
    account: values.Account
    region: values.Region


class Archive(Section):
    url: values.Url
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
    classes: values.Pictures
    pictures: dict[Literal["train", "valid", "test"], values.Pictures]


class Data(Section):
    dir: values.NonEmptyPath
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    shard_mb: values.ShardMebibytes
    archives: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")], Archive]


class Net(Section):
    cidr: values.Network
    zones: Annotated[list[values.Zone], Field(min_length=2, max_length=6), values.Distinct]
    interface_endpoints: Annotated[list[values.EndpointService], Field(max_length=50), values.Distinct]
    own_address: str
    address_service: values.Url

    @field_validator("own_address")
    @classmethod
    def check_own_address(cls, value: str) -> str:
        """Accept "" or one IPv4 address, never a range: only this /32 may connect. Raises ValueError."""
        try:
            address = IPv4Address(value or "203.0.113.7")
        except ValueError:
            address = IPv4Address(0)
        if address.is_unspecified or address.is_multicast:
            raise ValueError("must be one IPv4 address, such as 203.0.113.7; find yours: invoke net.my-address")
        return value


class Ec2(Section):
    instance_types: Annotated[list[values.InstanceType], Field(min_length=1, max_length=10), values.Distinct]
    ami: Annotated[str, Field(pattern=r"^(ami-[0-9a-f]{8,17})?$")]
    ami_parameter: values.AmiParameter
    disk_gib: values.Gibibytes
    idle_minutes: Annotated[float, Field(ge=0, le=5040)]  # half of the week that CloudWatch looks back
    way: Literal["eice", "public", "command"]
    public_port: Annotated[int, Field(ge=1, le=65535)]
    proxy_command: values.Text
    user: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
    python: values.Python
    home: Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=100)]
    key: values.PathBelow
    known_hosts: values.PathBelow


class Train(Section):
    arch: values.Architecture
    head: Literal["linear", "mlp"]
    layers: Literal["all", "last", "head"]
    weights: values.Weights
    pixels: Annotated[int, Field(ge=8, le=1024)]
    epochs: values.Epochs
    patience: values.Patience
    batch: values.Batch
    lr: values.Rate
    weight_decay: values.Decay
    shift: Annotated[float, Field(ge=0, lt=0.5)]
    flip: bool
    crop: Annotated[float, Field(gt=0, le=1)]
    views: values.Views
    seed: values.Seed
    threads: values.Threads
    image: values.Image
    instance_type: values.HostedInstanceType
    volume_gib: values.Gibibytes
    max_runtime_s: values.JobSeconds
    max_wait_s: values.JobSeconds
    platform: values.Platform

    def hyperparameters(self) -> dict[str, str]:
        """Return the flags of training/train.py, all strings, as SageMaker wants them; `weights` is added elsewhere."""
        return {name: str(getattr(self, name)).lower() for name in FLAGS}


class Tune(Section):
    lr_min: values.Rate
    lr_max: values.Rate
    batches: Annotated[list[values.Batch], Field(min_length=1, max_length=30), values.Distinct]
    jobs: Annotated[int, Field(ge=1, le=750)]
    parallel: Annotated[int, Field(ge=1, le=10)]
    strategy: Literal["Bayesian", "Random"]
    seed: values.Seed
    instances: values.Hosts


class Scheduled(Section):
    """A scheduled action: the bounds of the endpoint's instances from `when` on."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    when: values.Schedule
    timezone: Annotated[str, AfterValidator(settings_errors.check_time_zone)]
    min_instances: values.Hosts
    max_instances: values.Hosts


class Endpoint(Section):
    instance_type: values.HostedInstanceType
    variant: values.Variant
    instances: values.Hosts
    bake_s: Annotated[int, Field(ge=0, le=3600)]
    min_instances: values.Hosts
    max_instances: values.Hosts
    scaling_metric: Literal["invocations", "concurrency"]
    invocations_per_instance: values.Requests
    concurrency_per_instance: values.Requested
    scale_out_cooldown_s: values.Cooldown
    scale_in_cooldown_s: values.Cooldown
    schedule: Annotated[list[Scheduled], Field(max_length=100)]
    errors_5xx_per_minute: values.Requests
    p99_ms: values.Milliseconds
    worse_at_most: Annotated[float, Field(ge=0, le=1)]
    log_days: values.LogDays


class Function(Section):
    runtime: values.Runtime
    memory_mb: Annotated[int, Field(ge=128, le=10240)]
    timeout_s: Annotated[int, Field(ge=3, le=900)]
    reserved: values.Concurrency | None
    provisioned: values.Concurrency
    bake_s: Annotated[int, Field(ge=0, le=3600)]
    response: Literal["plain", "original"]
    urls: values.FetchedHosts


class Iam(Section):
    repository: values.Repository
    permission_sets: Annotated[list[values.PermissionSet], Field(max_length=5), values.Distinct]


class Settings(Section):
    stack: Stack
    aws: Aws
    data: Data
    net: Net
    ec2: Ec2
    train: Train
    tune: Tune
    endpoint: Endpoint
    fn: Function
    iam: Iam

    @model_validator(mode="after")
    def check_consistency(self) -> Settings:
        settings_errors.check_instance_bounds(self.endpoint)
        settings_errors.check_region(self.aws.region, self.net.zones, self.train.image)
        settings_errors.check_concurrency(self.fn)
        settings_errors.check_search(self.tune)
        if self.ec2.way == "public" and not self.net.own_address:
            raise ValueError(
                "ec2.way is public, so set net.own_address, the one address that may connect; find yours: invoke net.my-address"
            )
        try:
            shlex.split(self.ec2.proxy_command)
        except ValueError as error:
            raise ValueError(f"ec2.proxy_command cannot be split into words: {error}") from None
        if self.ec2.way == "command" and not self.ec2.proxy_command:
            raise ValueError(
                "ec2.way is command, so set ec2.proxy_command; aws.example.yaml has the one for Session Manager"
            )
        return self

    @property
    def prefix(self) -> str:
        return f"kennel-{self.stack.name}"

    @property
    def bucket(self) -> str:
        """Return the bucket's name. All accounts share one namespace, so it contains the account and the region."""
        return f"{self.prefix}-{self.aws.account}-{self.aws.region}"

    @property
    def role_path(self) -> str:
        return f"/kennel/{self.stack.name}/"

    def build_role_name(self, role: str) -> str:
        return f"{self.prefix}-{role}"

    def role_arn(self, role: str) -> str:
        """Return the role's ARN. It is computed, so most plans need no call to IAM."""
        return f"arn:aws:iam::{self.aws.account}:role{self.role_path}{self.build_role_name(role)}"

    @property
    def registry(self) -> str:
        return f"{self.aws.account}.dkr.ecr.{self.aws.region}.amazonaws.com"

    @property
    def training_image(self) -> str:
        """Return the whole name of the image of SageMaker's jobs, with a registry of aws.region."""
        return registries.build_image_uri(self.train.image, self.aws.region)

    @property
    def box_name(self) -> str:
        """Return the name of the box, of its key pair and, for OpenSSH, of its host."""
        return f"{self.prefix}-box"

    @property
    def idle_alarm(self) -> str:
        return f"{self.box_name}-idle"

    @property
    def endpoint_name(self) -> str:
        return self.prefix

    @property
    def function_name(self) -> str:
        return f"{self.prefix}-classify"

    def expires(self, form: str = "%Y-%m-%dT%H:%MZ") -> str:
        """Return the UTC time from which a resource made now may be deleted, in the form of the tag kennel:expires."""
        return (datetime.now(UTC) + timedelta(hours=self.stack.expires_hours)).strftime(form)

    def tags(self, name: str = "", expires: str = "") -> list[dict[str, str]]:
        """Return the tags of a new resource: its stack, its own name, and when it may be deleted."""
        tags = {"kennel:stack": self.stack.name, "kennel:name": name, "kennel:expires": expires}
        return [{"Key": key, "Value": value} for key, value in tags.items() if value]


def load(merged: Any) -> Settings:
    """Return the settings of Invoke's merged configuration. Raises OpsError for an unknown name, wrong type or missing value."""
    sections = {name: convert_to_dicts(merged[name]) for name in merged if name not in INVOKES_OWN}
    settings_errors.fix_environment_booleans(sections)
    try:
        settings = Settings.model_validate(sections)
        running.region = settings.aws.region
        return settings
    except ValidationError as error:
        raise OpsError(
            "\n".join(settings_errors.describe_setting_error(item, Settings) for item in error.errors())
            + "\nSee invoke.yaml. Nothing was touched."
        ) from error


def convert_to_dicts(value: Any) -> Any:
    return {key: convert_to_dicts(value[key]) for key in value} if hasattr(value, "keys") else value


def find_settings_file(c: Any) -> Path | None:
    """Return the absolute path of the settings file that -f or INVOKE_RUNTIME_CONFIG names; None without one."""
    named = getattr(c.config, "_runtime_path", None) or os.environ.get("INVOKE_RUNTIME_CONFIG", "")
    return Path(str(named)).resolve() if named else None


def resolve_below_work(path: str) -> Path:
    """Resolve a path of the settings against .kennel; an absolute path is returned unchanged."""
    return WORK / Path(path).expanduser()


def resolve_below_root(path: str) -> Path:
    """Resolve a path of the settings against the checkout, not against the current folder."""
    return ROOT / Path(path).expanduser()
