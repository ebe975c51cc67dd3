"""The settings, validated: the schema of invoke.yaml, and the names that follow from it. Imported when a task runs."""

from __future__ import annotations

import os
import shlex
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from ops.core import settings_errors
from ops.core.errors import OpsError
from ops.core.paths import ROOT, WORK

INVOKES_OWN = {"run", "runners", "sudo", "tasks", "timeouts"}
ROLES = "iam_policies"
# These are named in iam_policies/ too, so they are not settings:
IMAGES = "images/"  # the prefix of the pictures that {"s3_uri"} events may name
REPOSITORY = "kennel-serving"  # in ECR; an image's tag is the digest of serving/

# No hyphen: it ends the stack's name, so that kennel-demo-* matches the stack demo alone. At most 20: the longest name must stay under 63.
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,19}$")]


BELOW = r"^\w[\w.-]*(/\w[\w.-]*)*$"  # a path that does not lead out of its folder

SCHEDULE = (  # as AWS writes them; cron: minutes hours day-of-month month day-of-week year
    r"^(at\(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\)|rate\([1-9]\d* (minute|hour|day)s?\)|cron\((\S+ ){5}\S+\))$"
)

FLAGS = (  # of training/train.py
    "arch", "head", "layers", "pixels", "epochs", "patience", "batch", "lr", "weight_decay", "shift", "flip", "crop", "views",
    "seed", "threads",
)  # fmt: skip


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Stack(Section):
    name: Name
    expires_hours: PositiveInt


class Aws(Section):
    profile: str
    config_file: str
    take_roles: bool
    account: Annotated[str, Field(pattern=r"^\d{12}$")]
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]


class Archive(Section):
    url: Annotated[str, Field(pattern=r"^https?://")]
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
    classes: NonNegativeInt
    pictures: dict[str, NonNegativeInt]


class Data(Section):
    dir: str
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    shard_mb: PositiveInt
    archives: dict[str, Archive]


class Net(Section):
    cidr: str
    zones: Annotated[list[str], Field(min_length=2, max_length=6)]
    interface_endpoints: list[str]
    own_address: str
    address_service: Annotated[str, Field(pattern=r"^https?://")]

    @field_validator("own_address")
    @classmethod
    def check_own_address(cls, value: str) -> str:
        """Accept "" or one IPv4 address, never a range: only this /32 may connect. Raises ValueError."""
        if value and (
            ip_address(value).version != 4 or ip_address(value).is_unspecified or ip_address(value).is_multicast
        ):
            raise ValueError("must be one IPv4 address, such as 203.0.113.7; find yours: invoke net.my-address")
        return value


class Ec2(Section):
    instance_types: Annotated[list[str], Field(min_length=1, max_length=10)]
    ami: Annotated[str, Field(pattern=r"^(ami-[0-9a-f]{8,17})?$")]
    ami_parameter: str
    disk_gib: PositiveInt
    idle_minutes: Annotated[float, Field(ge=0, le=5040)]  # half of the week that CloudWatch looks back
    way: Literal["eice", "public", "command"]
    public_port: Annotated[int, Field(ge=1, le=65535)]
    proxy_command: str
    user: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
    python: str
    home: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    key: Annotated[str, Field(pattern=BELOW)]
    known_hosts: Annotated[str, Field(pattern=BELOW)]


class Train(Section):
    arch: str
    head: Literal["linear", "mlp"]
    layers: Literal["all", "last", "head"]
    weights: str
    pixels: Annotated[int, Field(ge=8, le=1024)]
    epochs: PositiveInt
    patience: NonNegativeInt
    batch: PositiveInt
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    shift: Annotated[float, Field(ge=0, lt=0.5)]
    flip: bool
    crop: Annotated[float, Field(gt=0, le=1)]
    views: NonNegativeInt
    seed: NonNegativeInt
    threads: PositiveInt
    image: str
    instance_type: str
    volume_gib: PositiveInt
    max_runtime_s: PositiveInt
    max_wait_s: PositiveInt
    platform: str

    def hyperparameters(self) -> dict[str, str]:
        """Return the flags of training/train.py, all strings, as SageMaker wants them; `weights` is added elsewhere."""
        return {name: str(getattr(self, name)).lower() for name in FLAGS}


class Tune(Section):
    lr_min: PositiveFloat
    lr_max: PositiveFloat
    batches: Annotated[list[PositiveInt], Field(min_length=1, max_length=30)]
    jobs: Annotated[int, Field(ge=1, le=750)]
    parallel: Annotated[int, Field(ge=1, le=10)]
    strategy: Literal["Bayesian", "Random"]
    seed: NonNegativeInt
    instances: PositiveInt


class Scheduled(Section):
    """A scheduled action: the bounds of the endpoint's instances from `when` on."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    when: Annotated[str, Field(pattern=SCHEDULE)]
    timezone: Annotated[str, AfterValidator(settings_errors.check_time_zone)]
    min_instances: PositiveInt
    max_instances: PositiveInt


class Endpoint(Section):
    instance_type: str
    variant: str
    instances: PositiveInt
    bake_s: Annotated[int, Field(ge=0, le=3600)]
    min_instances: PositiveInt
    max_instances: PositiveInt
    scaling_metric: Literal["invocations", "concurrency"]
    invocations_per_instance: PositiveInt
    concurrency_per_instance: PositiveFloat
    scale_out_cooldown_s: NonNegativeInt
    scale_in_cooldown_s: NonNegativeInt
    schedule: list[Scheduled]
    errors_5xx_per_minute: PositiveInt
    p99_ms: PositiveInt
    worse_at_most: Annotated[float, Field(ge=0, le=1)]
    log_days: PositiveInt


class Function(Section):
    runtime: str
    memory_mb: Annotated[int, Field(ge=128, le=10240)]
    timeout_s: Annotated[int, Field(ge=3, le=900)]
    reserved: NonNegativeInt | None
    provisioned: NonNegativeInt
    response: Literal["plain", "original"]


class Iam(Section):
    repository: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$")]  # in a trust policy: no wildcards


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


def load(values: Any) -> Settings:
    """Return the settings of Invoke's merged configuration. Raises OpsError for an unknown name, wrong type or missing value."""
    sections = {name: convert_to_dicts(values[name]) for name in values if name not in INVOKES_OWN}
    settings_errors.fix_environment_booleans(sections)
    try:
        return Settings.model_validate(sections)
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
