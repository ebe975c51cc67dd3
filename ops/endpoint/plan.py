"""The endpoint's plan: compare what exists with the wanted release, and yield the changes that make them equal."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from ops.core import pricing
from ops.core.aws.account import Account
from ops.core.errors import AwsError, OpsError
from ops.core.files import compute_folder_digest
from ops.core.log_groups import has_retention
from ops.core.paths import ROOT
from ops.core.plan import Change, Steps, Wait
from ops.core.settings import REPOSITORY, Settings
from ops.endpoint import alarms, scaling
from ops.jobs import training_jobs
from ops.releases import history
from ops.releases.build import Release

GONE = "Could not find"
START_S = 1800  # for the instances of a new fleet
MOVING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")


@dataclass(frozen=True)
class Facts:
    """The facts about the endpoint: its description (None without one), names of configs and models, alarms.

    `alarms` maps a name to its threshold; `guards` are alarms left over from an update. `instance_type` is the live one.
    `has_scaling` says whether a scalable target is registered, `lost_scaling` that a deployment deregistered it and died
    before all of it was registered again; `scaling` is what is registered.
    """

    endpoint: dict[str, Any] | None = None
    configs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    alarms: dict[str, float] = field(default_factory=dict)
    guards: tuple[str, ...] = ()
    instance_type: str = ""
    has_scaling: bool = False
    lost_scaling: bool = False
    log_group: bool = False
    subnets: tuple[str, ...] = ()
    group: str | None = None
    scaling: scaling.Facts = field(default_factory=scaling.Facts)

    @property
    def live(self) -> str:
        """Return the name of the live config, or ""."""
        return self.endpoint["EndpointConfigName"] if self.endpoint else ""

    @property
    def desired(self) -> int:
        """Return the number of instances that the endpoint should have; 0 without one."""
        variants = (self.endpoint or {}).get("ProductionVariants") or [{}]
        return int(variants[0].get("DesiredInstanceCount", 0))


@dataclass(frozen=True)
class EndpointSpec:
    """A release on the settings' instance type; all names follow from it.

    `existing_config` is an earlier config to reuse unchanged, and `config_instance_type` its instance type.
    """

    release: Release
    settings: Settings
    image_tag: str = field(default_factory=lambda: compute_folder_digest(ROOT / "serving"))
    existing_config: str = ""
    config_instance_type: str = ""

    @property
    def image(self) -> str:
        return f"{self.settings.registry}/{REPOSITORY}:{self.image_tag}"

    @property
    def model(self) -> str:
        return f"{self.settings.prefix}-{self.release.short}-{self.image_tag[:6]}"

    @property
    def config(self) -> str:
        type_digest = hashlib.sha256(self.instance_type.encode()).hexdigest()[:4]
        return self.existing_config or f"{self.model}-{type_digest}"

    @property
    def instance_type(self) -> str:
        return self.config_instance_type or self.settings.endpoint.instance_type


def find_endpoint(account: Account) -> dict[str, Any] | None:
    name = account.settings.endpoint_name
    found: dict[str, Any] | None = account.call_or_none("sagemaker", "describe_endpoint", GONE, EndpointName=name)
    return found


def facts(account: Account) -> Facts:
    """Read the facts of resources whose names match our pattern exactly: `demo` must not see those of `demo-2`."""
    settings = account.settings
    ours = re.compile(re.escape(settings.prefix) + r"-[0-9a-f]{12}-[0-9a-f]{6}(-[0-9a-f]{4})?")
    named = {"NameContains": settings.prefix + "-"}
    configs = account.list_all("sagemaker", "list_endpoint_configs", "EndpointConfigs", **named)
    models = account.list_all("sagemaker", "list_models", "Models", **named)
    names = [alarm["AlarmName"] for alarm in alarms.build_endpoint_alarms(settings)]
    there = account.list_all("cloudwatch", "describe_alarms", "MetricAlarms", AlarmNamePrefix=settings.prefix + "-")
    found, scaled = find_endpoint(account), scaling.facts(account)
    return Facts(
        found,
        tuple(c["EndpointConfigName"] for c in configs if ours.fullmatch(c["EndpointConfigName"])),
        tuple(m["ModelName"] for m in models if ours.fullmatch(m["ModelName"])),
        {alarm["AlarmName"]: alarm["Threshold"] for alarm in there if alarm["AlarmName"] in names},
        tuple(a["AlarmName"] for a in there if ours.fullmatch(re.sub("-(5xx|p99)$", "", a["AlarmName"]))),
        read_instance_type(account, found["EndpointConfigName"]) if found else "",
        scaled.bounds is not None,
        found is not None
        and not scaling.is_complete(scaled, settings)
        and history.has_lost_scaling(history.read_notes(account, newest=1)),
        has_retention(account, alarms.log_group(settings), settings.endpoint.log_days),
        *training_jobs.read_job_network(account),
        scaling=scaled,
    )


def read_instance_type(account: Account, config: str) -> str:
    """Return a config's instance type, or "" when the config was deleted."""
    found = account.call_or_none("sagemaker", "describe_endpoint_config", GONE, EndpointConfigName=config)
    return str(found["ProductionVariants"][0]["InstanceType"]) if found else ""


def steps(have: Facts, want: EndpointSpec) -> Steps:
    """Yield the changes to an endpoint at rest: call await_stable_endpoint first, and read the facts after it."""
    settings = want.settings
    yield from create_artefact_steps(have, want)
    yield from alarms.steps(have.alarms, have.log_group, settings)
    yield from alarms.remove_guard_steps(have.guards)
    if have.endpoint and have.endpoint["EndpointStatus"] == "Failed":
        why = "delete the failed endpoint: AWS allows nothing else"
        yield Change("sagemaker", "delete_endpoint", {"EndpointName": settings.endpoint_name}, why)
        yield Wait(f"endpoint {settings.endpoint_name}", poll_deletion, why="AWS deletes it")
        have = Facts()
    if have.endpoint is None:
        yield build_endpoint_creation(want)
        yield wait_for_endpoint(settings, "instances start, load the release and answer pings")
    elif have.live != want.config:
        yield from update_steps(have, want)
    if have.lost_scaling and not moves_scaled_endpoint(have, want):
        scaling.refuse_burstable(want.instance_type)
        yield from scaling.steps(have.scaling, settings)


def moves_scaled_endpoint(have: Facts, want: EndpointSpec) -> bool:
    """Return whether the update is to another instance type, and the endpoint is registered for scaling."""
    return have.has_scaling and have.instance_type != want.instance_type


def update_steps(have: Facts, want: EndpointSpec) -> Steps:
    """Yield a blue/green update under the new fleet's own alarms.

    AWS refuses another instance type while the variant is registered for scaling. So the scaling is deregistered before and
    registered again after the update; if this process dies in between, the next deployment registers it.
    """
    settings = want.settings
    moved = moves_scaled_endpoint(have, want)
    if moved:
        scaling.refuse_burstable(want.instance_type)
    yield from alarms.guard_steps(settings, want.config)
    if moved:
        why = f"deregister scaling to change {have.instance_type} to {want.instance_type}; it is registered again after"
        yield Change(
            "application-autoscaling", "deregister_scalable_target", scaling.identify_resource(settings), why=why
        )
    try:
        yield build_endpoint_update(have, want)
    except AwsError:
        if moved:
            yield from scaling.steps(scaling.Facts(), settings)
        raise
    watched = f", and are watched while they bake for {bake_s} s" if (bake_s := settings.endpoint.bake_s) else ""
    yield wait_for_endpoint(settings, f"instances start, load the release and answer pings{watched}")
    yield from alarms.remove_guard_steps(
        guard["AlarmName"] for guard in alarms.build_guard_alarms(settings, want.config)
    )
    if moved:
        yield from scaling.steps(scaling.Facts(), settings)


def create_artefact_steps(have: Facts, want: EndpointSpec) -> Steps:
    """Yield the model and the config, which never change once created: their names contain the release."""
    short = want.release.short
    if want.existing_config:
        return
    if want.model not in have.models:
        why = f"create the model of release {short}"
        yield Change("sagemaker", "create_model", build_model_request(have, want), why)
    if want.config not in have.configs:
        why = f"create the config of release {short} on {want.instance_type}"
        yield Change("sagemaker", "create_endpoint_config", build_config_request(want), why)


def build_endpoint_creation(want: EndpointSpec) -> Change:
    settings = want.settings
    name = settings.endpoint_name
    args = {"EndpointName": name, "EndpointConfigName": want.config, "Tags": settings.tags(name, settings.expires())}
    rate = pricing.price_instances("sagemaker", want.instance_type, settings.endpoint.instances)
    why = f"start the endpoint with release {want.release.short}"
    return Change("sagemaker", "create_endpoint", args, why, dollars_per_hour=rate)


def build_endpoint_update(have: Facts, want: EndpointSpec) -> Change:
    """Return the update to the wanted config. It keeps instance counts, because scaling may have changed them."""
    args = {
        "EndpointName": want.settings.endpoint_name,
        "EndpointConfigName": want.config,
        "RetainAllVariantProperties": True,
        "DeploymentConfig": build_deployment_config(want, have.desired),
    }
    shift = "one instance first, then all" if have.desired > 1 else "all at once"
    watched = (
        "rolled back if an alarm fires"
        if want.settings.endpoint.bake_s
        else "endpoint.bake_s is 0: no alarm rolls it back"
    )
    why = f"blue/green update {have.live} -> {want.config}, {shift}; {watched}"
    return Change("sagemaker", "update_endpoint", args, why)


def wait_for_endpoint(settings: Settings, why: str) -> Wait:
    longest = START_S + 2 * settings.endpoint.bake_s  # AWS's own limit, and time to roll back
    return Wait(f"endpoint {settings.endpoint_name}", poll_update, why=why, timeout_s=longest + START_S)


def poll_update(account: Account) -> str | None:
    """Return the state that the endpoint is still in, or None. Raises OpsError when it failed."""
    found = account.call("sagemaker", "describe_endpoint", EndpointName=account.settings.endpoint_name)
    if found["EndpointStatus"] in ("Failed", "UpdateRollbackFailed"):
        raise OpsError(
            f"The endpoint {found['EndpointStatus']}: {found.get('FailureReason', '')}\nRead its log: invoke sm.logs"
        )
    return found["EndpointStatus"] if found["EndpointStatus"] in MOVING else None


def await_stable_endpoint(account: Account) -> None:
    """Wait until the endpoint is stable: the plan depends on the outcome of a change that is in progress."""

    def until(account: Account) -> str | None:
        found = find_endpoint(account)
        return found["EndpointStatus"] if found and found["EndpointStatus"] in MOVING else None

    account.wait(Wait(f"endpoint {account.settings.endpoint_name}", until, why="an earlier change is in progress"))


def poll_deletion(account: Account) -> str | None:
    found = find_endpoint(account)
    return found["EndpointStatus"] if found else None


def build_model_request(have: Facts, want: EndpointSpec) -> dict[str, Any]:
    settings = want.settings
    return {
        "ModelName": want.model,
        "PrimaryContainer": {"Image": want.image, "ModelDataUrl": f"s3://{settings.bucket}/{want.release.key}"},
        "ExecutionRoleArn": settings.role_arn("sagemaker-execution"),
        "VpcConfig": {"Subnets": list(have.subnets), "SecurityGroupIds": [have.group]},
        "Tags": settings.tags(want.model),
    }


def build_config_request(want: EndpointSpec) -> dict[str, Any]:
    settings = want.settings
    variant = {
        "VariantName": settings.endpoint.variant,
        "ModelName": want.model,
        "InstanceType": want.instance_type,
        "InitialInstanceCount": settings.endpoint.instances,
        "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
    }
    return {"EndpointConfigName": want.config, "ProductionVariants": [variant], "Tags": settings.tags(want.config)}


def build_deployment_config(want: EndpointSpec, count: int) -> dict[str, Any]:
    """Return the update's policy: a canary of one instance for two or more (AWS allows half of the fleet), else all at once.

    The guards are watched for `bake_s` between the shifts, and as long after the last one, while the old fleet still exists.
    """
    bake = want.settings.endpoint.bake_s
    canary = {"Type": "CANARY", "CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1}}
    routing = {**(canary if count > 1 else {"Type": "ALL_AT_ONCE"}), "WaitIntervalInSeconds": bake}
    policy = {
        "TrafficRoutingConfiguration": routing,
        "TerminationWaitInSeconds": bake,
        "MaximumExecutionTimeoutInSeconds": START_S + 2 * bake,
    }
    guards = [{"AlarmName": guard["AlarmName"]} for guard in alarms.build_guard_alarms(want.settings, want.config)]
    return {"BlueGreenUpdatePolicy": policy, **({"AutoRollbackConfiguration": {"Alarms": guards}} if guards else {})}
