"""Endpoints: keep fleets of instances alive and route requests to the least busy one. rollout.py replaces fleets."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import urllib3

from sandbox.cloudwatch import metrics
from sandbox.sagemaker import endpoint_instances
from sandbox.sagemaker.endpoint_instances import Instance
from sandbox.state import ACCOUNT
from sandbox.world import World

PING_EVERY_S = 1.0
CREATION_S = 1440.0  # on the sandbox's clock, as a log of AWS shows it; an endpoint that is Creating cannot be deleted
ANOTHER_TRY_S = 120.0  # on the sandbox's clock, between two tries; how long SageMaker waits is not known
ANSWER_S = 60.0  # SageMaker's limit for one invocation
HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "date", "server"}


@dataclass
class Fleet:
    """The instances of an endpoint config's only variant."""

    config: str
    variant: str
    model: Any
    members: list[Instance] = field(default_factory=list)

    def __getstate__(self) -> dict[str, Any]:
        """Return what outlives the sandbox's process, which the instances do not."""
        return vars(self) | {"members": []}


@dataclass
class LiveEndpoint:
    """An endpoint: moto's record of it, its live fleet, a canary fleet beside it, and the lock that guards them."""

    record: Any
    fleet: Fleet | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    deleted: bool = False
    canary: Fleet | None = None
    share: float = 0.0  # of the requests, for the canary
    turn: float = 0.0
    lag_s: float = 0.0  # an injected fault: extra time per request, one at a time per instance

    def choose_fleet(self) -> Fleet | None:
        """Return the fleet that gets the next request. The caller holds the lock."""
        if self.canary is None:
            return self.fleet
        self.turn += self.share
        if self.turn < 1:
            return self.fleet
        self.turn -= 1
        return self.canary


def start_endpoint(world: World, backend: Any, name: str) -> None:
    live = world.sagemaker.endpoints[name] = LiveEndpoint(backend.endpoints[name])
    set_endpoint_status(world, live, "Creating")
    threading.Thread(target=start_first_fleet, args=(world, backend, live), daemon=True).start()
    threading.Thread(target=monitor_instances, args=(world, live), daemon=True).start()


def resume_endpoint(world: World, live: LiveEndpoint) -> None:
    """Start the instances of an endpoint of an earlier process, as many as there were, and wait for their first pings."""
    count = live.record.production_variants[0].get("CurrentInstanceCount", 0)
    for _ in range(count if live.fleet else 0):
        assert live.fleet is not None
        live.fleet.members.append(
            endpoint_instances.launch_endpoint_instance(
                world, live.record.endpoint_name, live.fleet.variant, live.fleet.model
            )
        )
    threading.Thread(target=monitor_instances, args=(world, live), daemon=True).start()


def set_endpoint_status(world: World, live: LiveEndpoint, status: str, reason: str | None = None) -> None:
    live.record.endpoint_status, live.record.failure_reason = status, reason
    live.record.last_modified_time = datetime.now(UTC).replace(tzinfo=None)
    world.note(f"endpoint {live.record.endpoint_name}: {status} {reason or ''}")


def start_first_fleet(world: World, backend: Any, live: LiveEndpoint) -> None:
    """Start the instances of a new endpoint. SageMaker tries that again and again, and gives up after CREATION_S."""
    until = world.clock.now() + CREATION_S
    while (fleet := build_first_fleet(world, backend, live)) is None:
        again = min(world.clock.now() + ANOTHER_TRY_S, until)
        while world.clock.now() < again:
            if world.ending.wait(0.05):
                return
        if again >= until:
            set_endpoint_status(world, live, "Failed", format_ping_failure(live))
            return
    live.fleet = fleet
    update_current_count(live)
    set_endpoint_status(world, live, "InService")


def build_first_fleet(world: World, backend: Any, live: LiveEndpoint) -> Fleet | None:
    return build_fleet(world, backend, live, live.record.endpoint_config_name, get_desired_count(live))


def get_desired_count(live: LiveEndpoint) -> int:
    return int(live.record.production_variants[0]["DesiredInstanceCount"])


def update_current_count(live: LiveEndpoint) -> None:
    live.record.production_variants[0]["CurrentInstanceCount"] = len(live.fleet.members) if live.fleet else 0


def format_ping_failure(live: LiveEndpoint) -> str:
    variant = live.record.production_variants[0]["VariantName"]
    what = f"The primary container for production variant {variant} did not pass the ping health check."
    return f"{what} Please check CloudWatch logs for this endpoint."


def build_fleet(world: World, backend: Any, live: LiveEndpoint, config_name: str, count: int) -> Fleet | None:
    """Start a fleet; return it once every instance answers pings, or stop it and return None when one does not."""
    variant = backend.endpoint_configs[config_name].production_variants[0]
    fleet = Fleet(config_name, variant["VariantName"], backend._models[variant["ModelName"]])
    for _ in range(count):
        fleet.members.append(
            endpoint_instances.launch_endpoint_instance(world, live.record.endpoint_name, fleet.variant, fleet.model)
        )
    if all(member.healthy for member in fleet.members):
        return fleet
    for member in fleet.members:
        member.stop()
    return None


def stop_fleet(fleet: Fleet | None) -> None:
    """Wait for running requests to end, then stop the instances."""
    for member in fleet.members if fleet else []:
        deadline = time.monotonic() + ANSWER_S
        while member.outstanding and time.monotonic() < deadline:
            time.sleep(0.01)
        member.stop()


def resize_fleet(world: World, backend: Any, record: Any, variant: str, count: int) -> None:
    live = world.sagemaker.endpoints[record.endpoint_name]
    live.record.production_variants[0]["DesiredInstanceCount"] = count
    set_endpoint_status(world, live, "Updating")

    def work() -> None:
        fleet = live.fleet
        assert fleet is not None
        while len(fleet.members) < count:
            started = endpoint_instances.launch_endpoint_instance(
                world, record.endpoint_name, fleet.variant, fleet.model
            )
            if not started.healthy:
                started.stop()
                live.record.production_variants[0]["DesiredInstanceCount"] = len(fleet.members)
                set_endpoint_status(world, live, "InService", format_ping_failure(live))
                return
            with live.lock:
                fleet.members.append(started)
        with live.lock:
            surplus, fleet.members = fleet.members[count:], fleet.members[:count]
        stop_fleet(Fleet(fleet.config, fleet.variant, fleet.model, surplus))
        update_current_count(live)
        set_endpoint_status(world, live, "InService")

    threading.Thread(target=work, daemon=True).start()


def remove_endpoint(world: World, name: str) -> None:
    live = world.sagemaker.endpoints.pop(name)
    live.deleted = True
    threading.Thread(target=stop_fleet, args=(live.fleet,), daemon=True).start()


def monitor_instances(world: World, live: LiveEndpoint) -> None:
    """Restart dead instances, as SageMaker replaces them, and mark those that do not answer pings as unhealthy."""
    while not live.deleted and not world.ending.wait(PING_EVERY_S):
        for fleet in (live.fleet, live.canary):
            for member in list(fleet.members) if fleet else []:
                if live.deleted or fleet not in (live.fleet, live.canary):
                    break
                if member.alive:
                    member.healthy = member.ping()
                    continue
                member.healthy = False
                assert fleet is not None
                endpoint_instances.boot_endpoint_instance(
                    world, member, live.record.endpoint_name, fleet.variant, fleet.model
                )


def route_invocation(
    world: World, name: str, body: bytes, content_type: str, accept: str
) -> tuple[int, dict[str, str], bytes]:
    """Send one request to the least busy healthy instance and put its metrics; return (status, headers, body)."""
    live = world.sagemaker.endpoints.get(name)
    if live is None or live.fleet is None:
        return build_invocation_error(400, "ValidationError", f"Endpoint {name} of account {ACCOUNT} not found.")
    with live.lock:
        fleet = live.choose_fleet()
        assert fleet is not None
        ready = [member for member in fleet.members if member.healthy and member.alive]
        member = min(ready, key=lambda m: m.outstanding, default=None)
        if member:
            member.outstanding += 1
    began = time.monotonic()
    try:
        status, headers, answer = forward_to_instance(live, member, body, content_type, accept)
    finally:
        if member:
            with live.lock:
                member.outstanding -= 1
    seconds = time.monotonic() - began
    put_invocation_metrics(world, live, fleet, status, seconds)
    if status >= 400:
        return build_model_error(name, status, answer)
    return 200, {**headers, "x-Amzn-Invoked-Production-Variant": fleet.variant}, answer


def forward_to_instance(
    live: LiveEndpoint, member: Instance | None, body: bytes, content_type: str, accept: str
) -> tuple[int, dict[str, str], bytes]:
    if member is None:
        return 503, {}, b"no healthy instance"
    if live.lag_s:
        with member.cpu:
            time.sleep(live.lag_s)
    try:
        answer = member.http.request(
            "POST",
            f"http://127.0.0.1:{member.port}/invocations",
            body=body,
            headers={"Content-Type": content_type or "application/octet-stream", "Accept": accept or "*/*"},
            timeout=ANSWER_S,
        )
        forwarded = {key: value for key, value in answer.headers.items() if key.lower() not in HOP_BY_HOP}
        return answer.status, forwarded, answer.data
    except urllib3.exceptions.HTTPError as error:
        return 500, {}, f"the container did not answer: {type(error).__name__}".encode()


def put_invocation_metrics(world: World, live: LiveEndpoint, fleet: Fleet, status: int, seconds: float) -> None:
    """Put the metrics of one request: for the endpoint, and for its config, which rollout alarms watch."""
    where = {"EndpointName": live.record.endpoint_name, "VariantName": fleet.variant}
    for dimensions in (where, where | {"EndpointConfigName": fleet.config}):
        metrics.put_metrics(
            world,
            "AWS/SageMaker",
            dimensions,
            Invocations=(1, "None"),
            InvocationsPerInstance=(1 / max(1, len(fleet.members)), "None"),
            Invocation4XXErrors=(float(400 <= status < 500), "None"),
            Invocation5XXErrors=(float(status >= 500), "None"),
            ModelLatency=(seconds * 1e6, "Microseconds"),
        )


def build_model_error(name: str, status: int, answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return InvokeEndpoint's response to a container's 4xx or 5xx: 424 ModelError with the container's own words."""
    text = answer.decode(errors="replace")[:1000]
    side = "client" if status < 500 else "server"
    message = f'Received {side} error ({status}) from primary with message "{text}". See CloudWatch logs /aws/sagemaker/Endpoints/{name}.'
    body = {"Message": message, "OriginalMessage": text, "OriginalStatusCode": status, "LogStreamArn": ""}
    return 424, {"Content-Type": "application/json", "x-amzn-ErrorType": "ModelError"}, json.dumps(body).encode()


def build_invocation_error(status: int, code: str, message: str) -> tuple[int, dict[str, str], bytes]:
    return (
        status,
        {"Content-Type": "application/json", "x-amzn-ErrorType": code},
        json.dumps({"Message": message}).encode(),
    )
