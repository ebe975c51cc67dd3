"""UpdateEndpoint as AWS does it: start a second fleet, shift traffic in one or two steps, roll back on an alarm."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

from sandbox.sagemaker.endpoints import (
    Fleet,
    LiveEndpoint,
    build_fleet,
    format_ping_failure,
    get_desired_count,
    set_endpoint_status,
    stop_fleet,
    update_current_count,
)
from sandbox.world import World


def start_blue_green_update(world: World, backend: Any, record: Any, request: dict[str, Any]) -> None:
    live = world.sagemaker.endpoints[record.endpoint_name]
    variant = backend.endpoint_configs[request["EndpointConfigName"]].production_variants[0]
    count = get_desired_count(live) if request.get("RetainAllVariantProperties") else variant["InitialInstanceCount"]
    set_endpoint_status(world, live, "Updating")
    threading.Thread(target=run_blue_green_update, args=(world, backend, live, request, count), daemon=True).start()


def run_blue_green_update(world: World, backend: Any, live: LiveEndpoint, request: dict[str, Any], count: int) -> None:
    """Start the second fleet, shift the traffic, watch the alarms, and only then stop the first fleet."""
    blue = live.fleet
    green = build_fleet(world, backend, live, request["EndpointConfigName"], count)
    if green is None:
        set_endpoint_status(world, live, "RollingBack")
        set_endpoint_status(world, live, "InService", format_ping_failure(live))
        return
    alarm = shift_traffic(world, live, green, request.get("DeploymentConfig", {}))
    if alarm:
        set_endpoint_status(world, live, "RollingBack")
        with live.lock:
            live.fleet, live.canary = blue, None
        stop_fleet(green)
        set_endpoint_status(world, live, "InService", f"One or more alarms fired: {alarm}")
        return
    live.record.endpoint_config_name = request["EndpointConfigName"]
    live.record.production_variants[0]["DesiredInstanceCount"] = count
    update_current_count(live)
    stop_fleet(blue)
    set_endpoint_status(world, live, "InService")


def shift_traffic(world: World, live: LiveEndpoint, green: Fleet, deployment: dict[str, Any]) -> str:
    """Shift traffic to the new fleet and watch the alarms; return the name of an alarm that fired, or "".

    A canary gets its part of the requests for WaitIntervalInSeconds; then the fleet gets all, watched for
    TerminationWaitInSeconds.
    """
    routing = deployment.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    if routing.get("Type") == "CANARY":
        part = compute_canary_size(routing["CanarySize"], len(green.members))
        with live.lock:
            live.canary, live.share, live.turn = green, part / len(green.members), 0.0
        world.note(
            f"endpoint {live.record.endpoint_name}: {part} of {len(green.members)} instances' requests to {green.config}"
        )
        if alarm := watch_rollback_alarms(world, deployment, routing.get("WaitIntervalInSeconds", 0)):
            return alarm
    with live.lock:
        live.fleet, live.canary = green, None
    return watch_rollback_alarms(
        world, deployment, deployment.get("BlueGreenUpdatePolicy", {}).get("TerminationWaitInSeconds", 0)
    )


def compute_canary_size(size: dict[str, Any], count: int) -> int:
    """Return the size of the canary, in instances of the new fleet."""
    share = size["Value"] / 100
    return int(size["Value"]) if size["Type"] == "INSTANCE_COUNT" else math.ceil(count * share)


def find_deployment_error(deployment: dict[str, Any], count: int) -> str:
    """Return why AWS refuses this deployment for `count` instances, or ""."""
    policy = deployment.get("BlueGreenUpdatePolicy", {})
    routing = policy.get("TrafficRoutingConfiguration", {})
    routing_type, wait = routing.get("Type", "ALL_AT_ONCE"), routing.get("WaitIntervalInSeconds", 0)
    if routing_type == "LINEAR":
        return "The sandbox has no linear traffic shifting"
    if routing_type == "CANARY" and 2 * compute_canary_size(routing["CanarySize"], count) > count:
        return "CanarySize must be at most 50% of the variant's total instance count"
    if policy.get("MaximumExecutionTimeoutInSeconds", 28800) <= wait + policy.get("TerminationWaitInSeconds", 0):
        return "MaximumExecutionTimeoutInSeconds must be longer than the waiting intervals together"
    return ""


def watch_rollback_alarms(world: World, deployment: dict[str, Any], seconds: float) -> str:
    """Watch the roll-back alarms for `seconds` on the sandbox's clock (0: not at all); return one that fired, or ""."""
    if not seconds:
        return ""
    names = [alarm["AlarmName"] for alarm in deployment.get("AutoRollbackConfiguration", {}).get("Alarms", [])]
    until = world.clock.now() + seconds
    while True:
        alarms = world.backend("cloudwatch").alarms
        fired = next((name for name in names if name in alarms and alarms[name].state_value == "ALARM"), "")
        if fired or world.clock.now() >= until:
            return fired
        time.sleep(0.1)
