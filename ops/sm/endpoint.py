"""The endpoint: what is live, what should be, and proof that what was deployed is what answers."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ops import ROOT, price
from ops.aws import Account
from ops.change import Change, Steps, Wait
from ops.config import REPOSITORY, Settings
from ops.errors import OpsError
from ops.files import digest_of
from ops.sm import jobs, watch
from ops.sm.releases import Release, golden_picture

GONE = "Could not find"
MOVING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")


@dataclass(frozen=True)
class Facts:
    """What is there: the endpoint as described (None without one), names of configs, models and log groups, alarms.

    `alarms` maps a name to its threshold; `red` are those that fire now.
    """

    endpoint: dict[str, Any] | None = None
    configs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    alarms: dict[str, float] = field(default_factory=dict)
    red: tuple[str, ...] = ()
    log_groups: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    group: str | None = None

    @property
    def live(self) -> str:
        """The name of the config that answers, or ""."""
        return self.endpoint["EndpointConfigName"] if self.endpoint else ""


@dataclass(frozen=True)
class Wanted:
    """A release on the settings' instance type; all names follow from it."""

    release: Release
    settings: Settings
    image_tag: str = field(default_factory=lambda: digest_of(ROOT / "serving"))

    @property
    def image(self) -> str:
        return f"{self.settings.registry}/{REPOSITORY}:{self.image_tag}"

    @property
    def model(self) -> str:
        return f"{self.settings.prefix}-{self.release.short}-{self.image_tag[:6]}"

    @property
    def config(self) -> str:
        kind = hashlib.sha256(self.settings.endpoint.instance_type.encode()).hexdigest()[:4]
        return f"{self.model}-{kind}"


def describe(account: Account) -> dict[str, Any] | None:
    return account.find("sagemaker", "describe_endpoint", GONE, EndpointName=account.settings.endpoint_name)


def facts(account: Account) -> Facts:
    """Only what has exactly the names we give: `demo` must not see what is `demo-2`'s."""
    settings = account.settings
    ours = re.compile(re.escape(settings.prefix) + r"-[0-9a-f]{12}-[0-9a-f]{6}(-[0-9a-f]{4})?")
    named = {"NameContains": settings.prefix + "-"}
    configs = account.pages("sagemaker", "list_endpoint_configs", "EndpointConfigs", **named)
    models = account.pages("sagemaker", "list_models", "Models", **named)
    names = [alarm["AlarmName"] for alarm in watch.alarms(settings)]
    alarms = account.pages("cloudwatch", "describe_alarms", "MetricAlarms", AlarmNames=names)
    groups = account.pages("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=watch.log_group(settings))
    return Facts(
        describe(account),
        tuple(c["EndpointConfigName"] for c in configs if ours.fullmatch(c["EndpointConfigName"])),
        tuple(m["ModelName"] for m in models if ours.fullmatch(m["ModelName"])),
        {alarm["AlarmName"]: alarm["Threshold"] for alarm in alarms},
        tuple(alarm["AlarmName"] for alarm in alarms if alarm["StateValue"] == "ALARM"),
        tuple(g["logGroupName"] for g in groups if g.get("retentionInDays") == settings.endpoint.log_days),
        *jobs.network(account),
    )


def steps(have: Facts, want: Wanted) -> Steps:
    """For an endpoint at rest: `rest` comes first, and the facts after it."""
    settings = want.settings
    yield from artefact_steps(have, want)
    yield from watch.steps(have.alarms, have.log_groups, settings)
    if have.endpoint and have.endpoint["EndpointStatus"] == "Failed":
        why = "it failed, and AWS lets a failed endpoint only be deleted"
        yield Change("sagemaker", "delete_endpoint", {"EndpointName": settings.endpoint_name}, why)
        yield Wait(f"endpoint {settings.endpoint_name}", gone, why="it is being deleted")
        have = Facts()
    if have.endpoint is None:
        yield creation(want)
    elif have.live != want.config:
        yield change_over(have, want)
    else:
        return
    yield settled(settings, "instances start, load the release and answer pings")


def artefact_steps(have: Facts, want: Wanted) -> Steps:
    """The model and the config, which never change once made: their names carry the release."""
    short = want.release.short
    if want.model not in have.models:
        why = f"release {short} has no model"
        yield Change("sagemaker", "create_model", model_request(have, want), why)
    if want.config not in have.configs:
        why = f"release {short} has no config on {want.settings.endpoint.instance_type}"
        yield Change("sagemaker", "create_endpoint_config", config_request(want), why)


def creation(want: Wanted) -> Change:
    settings = want.settings
    name = settings.endpoint_name
    args = {"EndpointName": name, "EndpointConfigName": want.config, "Tags": settings.tags(name, expires(settings))}
    rate = price.hourly("sagemaker", settings.endpoint.instance_type, settings.endpoint.instances)
    why = f"no endpoint runs; start one with release {want.release.short}"
    return Change("sagemaker", "create_endpoint", args, why, dollars_per_hour=rate)


def change_over(have: Facts, want: Wanted) -> Change:
    """Instance counts are kept: scaling may have changed them since.

    An alarm that is red before the update begins would end it at once, and the old release is what makes it red: then
    the update goes without alarms.
    """
    deployment = blue_green(want.settings)
    watched = "; its alarms roll it back" if not have.red else f"; {', '.join(have.red)} fires already and cannot watch"
    if have.red:
        del deployment["AutoRollbackConfiguration"]
    args = {
        "EndpointName": want.settings.endpoint_name,
        "EndpointConfigName": want.config,
        "RetainAllVariantProperties": True,
        "DeploymentConfig": deployment,
    }
    why = f"{have.live} answers; bring {want.config} up beside it, then change over{watched}"
    return Change("sagemaker", "update_endpoint", args, why)


def settled(settings: Settings, why: str) -> Wait:
    return Wait(f"endpoint {settings.endpoint_name}", moving, why=why, timeout_s=3600)


def moving(account: Account) -> str | None:
    """The state that the endpoint is still in, or None. Raises OpsError when it failed."""
    found = account.call("sagemaker", "describe_endpoint", EndpointName=account.settings.endpoint_name)
    if found["EndpointStatus"] in ("Failed", "UpdateRollbackFailed"):
        raise OpsError(f"The endpoint {found['EndpointStatus']}: {found.get('FailureReason', '')}\nWhy: invoke sm.logs")
    return found["EndpointStatus"] if found["EndpointStatus"] in MOVING else None


def rest(account: Account) -> None:
    """Wait until the endpoint changes no more: whatever was under way decides what there is to do."""

    def until(account: Account) -> str | None:
        found = describe(account)
        return found["EndpointStatus"] if found and found["EndpointStatus"] in MOVING else None

    account.wait(Wait(f"endpoint {account.settings.endpoint_name}", until, why="something is under way already"))


def gone(account: Account) -> str | None:
    found = describe(account)
    return found["EndpointStatus"] if found else None


def expires(settings: Settings) -> str:
    return (datetime.now(UTC) + timedelta(hours=settings.stack.expires_hours)).strftime("%Y-%m-%dT%H:%MZ")


def model_request(have: Facts, want: Wanted) -> dict[str, Any]:
    settings = want.settings
    return {
        "ModelName": want.model,
        "PrimaryContainer": {"Image": want.image, "ModelDataUrl": f"s3://{settings.bucket}/{want.release.key}"},
        "ExecutionRoleArn": settings.role_arn("sagemaker-execution"),
        "VpcConfig": {"Subnets": list(have.subnets), "SecurityGroupIds": [have.group]},
        "Tags": settings.tags(want.model),
    }


def config_request(want: Wanted) -> dict[str, Any]:
    settings = want.settings
    variant = {
        "VariantName": settings.endpoint.variant,
        "ModelName": want.model,
        "InstanceType": settings.endpoint.instance_type,
        "InitialInstanceCount": settings.endpoint.instances,
        "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
    }
    return {"EndpointConfigName": want.config, "ProductionVariants": [variant], "Tags": settings.tags(want.config)}


def blue_green(settings: Settings) -> dict[str, Any]:
    """All at once, since a canary needs two instances; the alarms are watched while the old fleet still stands by."""
    routing = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": settings.endpoint.bake_s}
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": routing,
            "TerminationWaitInSeconds": 0,
            "MaximumExecutionTimeoutInSeconds": 600 + 2 * settings.endpoint.bake_s,
        },
        "AutoRollbackConfiguration": {
            "Alarms": [{"AlarmName": alarm["AlarmName"]} for alarm in watch.alarms(settings)]
        },
    }


def prove(account: Account, want: Wanted) -> None:
    """Success is an answer with the release's own digest. Raises OpsError, with AWS's reason after a roll-back."""
    found = account.call("sagemaker", "describe_endpoint", EndpointName=want.settings.endpoint_name)
    if found["EndpointConfigName"] != want.config:
        raise OpsError(
            f"AWS went back to {found['EndpointConfigName']}: {found.get('FailureReason', 'no reason given')}\nWhy: invoke sm.logs"
        )
    answer = invoke(account, golden_picture(want.release))
    if answer["release"] != want.release.digest:
        raise OpsError(
            f"The endpoint answers as release {answer['release'][:12]}, not as {want.release.short}. Run invoke sm.deploy again."
        )


def invoke(account: Account, picture: bytes) -> dict[str, Any]:
    """The endpoint's answer to one picture: release, best, classes, scores, probabilities. Raises Refused."""
    name = account.settings.endpoint_name
    answer = account.call(
        "sagemaker-runtime",
        "invoke_endpoint",
        retries="inference",
        EndpointName=name,
        Body=picture,
        ContentType="application/x-image",
    )
    return json.loads(answer["Body"].read())
