"""Endpoints: fleets of instances, requests to the least busy one, blue/green updates that go back when the new fleet fails."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import urllib3

from sandbox import instances, metrics
from sandbox.instances import Instance
from sandbox.world import World

PING_EVERY_S = 1.0
ANSWER_S = 60.0  # SageMaker's limit for one invocation
HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "date", "server"}


@dataclass
class Fleet:
    """The instances of one endpoint config's one variant."""

    config: str
    variant: str
    model: Any
    members: list[Instance] = field(default_factory=list)


@dataclass
class Live:
    """An endpoint: moto's record of it, the fleet that answers, and who may touch them."""

    record: Any
    fleet: Fleet | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    deleted: bool = False
    per_minute: dict[int, float] = field(default_factory=dict)  # of the sandbox's clock: invocations per instance


_live: dict[str, Live] = {}


def create(world: World, backend: Any, name: str) -> None:
    live = _live[name] = Live(backend.endpoints[name])
    enter(world, live, "Creating")
    threading.Thread(target=first_fleet, args=(world, backend, live), daemon=True).start()
    threading.Thread(target=supervise, args=(world, live), daemon=True).start()


def find(name: str) -> Live | None:
    return _live.get(name)


def enter(world: World, live: Live, status: str, reason: str | None = None) -> None:
    live.record.endpoint_status, live.record.failure_reason = status, reason
    live.record.last_modified_time = datetime.now(UTC).replace(tzinfo=None)
    world.note(f"endpoint {live.record.endpoint_name}: {status} {reason or ''}")


def first_fleet(world: World, backend: Any, live: Live) -> None:
    fleet = build(world, backend, live, live.record.endpoint_config_name, desired(live))
    if fleet is None:
        enter(world, live, "Failed", ping_failed(live))
        return
    live.fleet = fleet
    counted(live)
    enter(world, live, "InService")


def desired(live: Live) -> int:
    return live.record.production_variants[0]["DesiredInstanceCount"]


def counted(live: Live) -> None:
    live.record.production_variants[0]["CurrentInstanceCount"] = len(live.fleet.members) if live.fleet else 0


def ping_failed(live: Live) -> str:
    variant = live.record.production_variants[0]["VariantName"]
    what = f"The primary container for production variant {variant} did not pass the ping health check."
    return f"{what} Please check CloudWatch logs for this endpoint."


def build(world: World, backend: Any, live: Live, config_name: str, count: int) -> Fleet | None:
    """A fleet that answers pings, or None when one of its instances does not."""
    variant = backend.endpoint_configs[config_name].production_variants[0]
    fleet = Fleet(config_name, variant["VariantName"], backend._models[variant["ModelName"]])
    for _ in range(count):
        fleet.members.append(instances.launch(world, live.record.endpoint_name, fleet.variant, fleet.model))
    if all(member.healthy for member in fleet.members):
        return fleet
    for member in fleet.members:
        member.stop()
    return None


def update(world: World, backend: Any, record: Any, asked: dict[str, Any]) -> None:
    """Blue/green: a second fleet first, then the traffic, then the alarms, and only then is the first one let go."""
    live = _live[record.endpoint_name]
    variant = backend.endpoint_configs[asked["EndpointConfigName"]].production_variants[0]
    count = desired(live) if asked.get("RetainAllVariantProperties") else variant["InitialInstanceCount"]
    enter(world, live, "Updating")
    threading.Thread(target=blue_green, args=(world, backend, live, asked, count), daemon=True).start()


def blue_green(world: World, backend: Any, live: Live, asked: dict[str, Any], count: int) -> None:
    blue = live.fleet
    green = build(world, backend, live, asked["EndpointConfigName"], count)
    if green is None:
        enter(world, live, "RollingBack")
        enter(world, live, "InService", ping_failed(live))
        return
    with live.lock:
        live.fleet = green
    alarm = bake(world, asked.get("DeploymentConfig", {}))
    if alarm:
        enter(world, live, "RollingBack")
        with live.lock:
            live.fleet = blue
        retire(green)
        enter(world, live, "InService", f"One or more alarms fired: {alarm}")
        return
    live.record.endpoint_config_name = asked["EndpointConfigName"]
    live.record.production_variants[0]["DesiredInstanceCount"] = count
    counted(live)
    retire(blue)
    enter(world, live, "InService")


def bake(world: World, deployment: dict[str, Any]) -> str:
    """Watch the roll-back alarms for the waiting interval; the name of one that fired, or ""."""
    policy = deployment.get("BlueGreenUpdatePolicy", {})
    names = [alarm["AlarmName"] for alarm in deployment.get("AutoRollbackConfiguration", {}).get("Alarms", [])]
    until = world.clock.now() + policy.get("TrafficRoutingConfiguration", {}).get("WaitIntervalInSeconds", 0)
    while True:
        alarms = world.backend("cloudwatch").alarms
        fired = next((name for name in names if name in alarms and alarms[name].state_value == "ALARM"), "")
        if fired or world.clock.now() >= until:
            return fired
        time.sleep(0.1)


def retire(fleet: Fleet | None) -> None:
    """Let running requests end, then stop the instances."""
    for member in fleet.members if fleet else []:
        deadline = time.monotonic() + ANSWER_S
        while member.outstanding and time.monotonic() < deadline:
            time.sleep(0.01)
        member.stop()


def resize(world: World, backend: Any, record: Any, variant: str, count: int) -> None:
    live = _live[record.endpoint_name]
    live.record.production_variants[0]["DesiredInstanceCount"] = count
    enter(world, live, "Updating")

    def work() -> None:
        fleet = live.fleet
        assert fleet is not None
        while len(fleet.members) < count:
            started = instances.launch(world, record.endpoint_name, fleet.variant, fleet.model)
            with live.lock:
                fleet.members.append(started)
        with live.lock:
            surplus, fleet.members = fleet.members[count:], fleet.members[:count]
        retire(Fleet(fleet.config, fleet.variant, fleet.model, surplus))
        counted(live)
        enter(world, live, "InService")

    threading.Thread(target=work, daemon=True).start()


def delete(world: World, name: str) -> None:
    live = _live.pop(name)
    live.deleted = True
    threading.Thread(target=retire, args=(live.fleet,), daemon=True).start()


def supervise(world: World, live: Live) -> None:
    """Start again what has died, as SageMaker replaces instances, and send nothing to what does not answer pings."""
    while not live.deleted and not world.ending.wait(PING_EVERY_S):
        fleet = live.fleet
        for member in list(fleet.members) if fleet else []:
            if live.deleted or fleet is not live.fleet:
                break
            if member.alive:
                member.healthy = member.ping()
                continue
            member.healthy = False
            assert fleet is not None
            instances.boot(world, member, live.record.endpoint_name, fleet.variant, fleet.model)


def invoke(world: World, name: str, body: bytes, content_type: str, accept: str) -> tuple[int, dict[str, str], bytes]:
    """One request to the least busy healthy instance; its numbers go to CloudWatch."""
    live = _live.get(name)
    if live is None or live.fleet is None:
        return refusal(400, "ValidationError", f"Endpoint {name} of account not found.")
    with live.lock:
        fleet = live.fleet
        ready = [member for member in fleet.members if member.healthy and member.alive]
        member = min(ready, key=lambda m: m.outstanding, default=None)
        if member:
            member.outstanding += 1
    began = time.monotonic()
    status, headers, answer = forward(member, body, content_type, accept)
    took = time.monotonic() - began
    measure(world, live, fleet, status, took)
    if status >= 400:
        return model_error(name, status, answer)
    return 200, {**headers, "x-Amzn-Invoked-Production-Variant": fleet.variant}, answer


def forward(member: Instance | None, body: bytes, content_type: str, accept: str) -> tuple[int, dict[str, str], bytes]:
    if member is None:
        return 503, {}, b"no healthy instance"
    try:
        answer = member.http.request(
            "POST",
            f"http://127.0.0.1:{member.port}/invocations",
            body=body,
            headers={"Content-Type": content_type or "application/octet-stream", "Accept": accept or "*/*"},
            timeout=ANSWER_S,
        )
        kept = {key: value for key, value in answer.headers.items() if key.lower() not in HOP_BY_HOP}
        return answer.status, kept, answer.data
    except urllib3.exceptions.HTTPError as error:
        return 500, {}, f"the container did not answer: {type(error).__name__}".encode()
    finally:
        member.outstanding -= 1


def measure(world: World, live: Live, fleet: Fleet, status: int, seconds: float) -> None:
    minute = int(world.clock.now() // 60)
    live.per_minute[minute] = live.per_minute.get(minute, 0.0) + 1 / max(1, len(fleet.members))
    where = {"EndpointName": live.record.endpoint_name, "VariantName": fleet.variant}
    metrics.put(
        world,
        "AWS/SageMaker",
        where,
        Invocations=(1, "None"),
        InvocationsPerInstance=(1 / max(1, len(fleet.members)), "None"),
        Invocation4XXErrors=(float(400 <= status < 500), "None"),
        Invocation5XXErrors=(float(status >= 500), "None"),
        ModelLatency=(seconds * 1e6, "Microseconds"),
    )


def model_error(name: str, status: int, answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """What InvokeEndpoint answers for a container's 4xx and 5xx: 424 ModelError, the container's own words inside."""
    text = answer.decode(errors="replace")[:1000]
    kind = "client" if status < 500 else "server"
    message = f'Received {kind} error ({status}) from primary with message "{text}". See CloudWatch logs /aws/sagemaker/Endpoints/{name}.'
    body = {"Message": message, "OriginalMessage": text, "OriginalStatusCode": status, "LogStreamArn": ""}
    return 424, {"Content-Type": "application/json", "x-amzn-ErrorType": "ModelError"}, json.dumps(body).encode()


def refusal(status: int, code: str, message: str) -> tuple[int, dict[str, str], bytes]:
    return (
        status,
        {"Content-Type": "application/json", "x-amzn-ErrorType": code},
        json.dumps({"Message": message}).encode(),
    )


def break_model(name: str) -> dict[str, Any]:
    """A fault: the live release's artefact in S3 is spoilt and its instances die, so that none can start again."""
    from sandbox.world import world

    live = _live[name]
    assert live.fleet is not None
    url = live.fleet.model.primary_container["ModelDataUrl"]
    bucket, _, key = url.removeprefix("s3://").partition("/")
    spoilt = io.BytesIO()
    with tarfile.open(fileobj=spoilt, mode="w:gz") as tar:
        entry = tarfile.TarInfo("model.onnx")
        entry.size = 7
        tar.addfile(entry, io.BytesIO(b"rubbish"))
    world().backend_global("s3").put_object(bucket, key, spoilt.getvalue())
    for member in live.fleet.members:
        if member.process:
            member.process.kill()
    return {"spoilt": url, "killed": len(live.fleet.members)}
