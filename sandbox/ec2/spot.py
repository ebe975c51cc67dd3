"""The spot requests, kept with their instances, interrupted two minutes after a notice, and resumed when there is capacity."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses import EC2Response

from sandbox.ec2 import lifecycle
from sandbox.world import World, get_world

NOTICE_S = 120.0
# The status codes of a request whose instance is stopped.
INTERRUPTED, BY_USER = "instance-stopped-no-capacity", "instance-stopped-by-user"


@dataclass
class SpotRequest:
    """The persistent request behind a spot instance. `ends_at`, on the sandbox's clock, is set by a notice."""

    request_id: str
    instance: str
    market_options: dict[str, Any]
    tags: list[dict[str, str]]
    state: str = "active"
    code: str = "fulfilled"
    ends_at: float | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def describe(self) -> dict[str, Any]:
        options = self.market_options.get("SpotOptions", {})
        return {
            "SpotInstanceRequestId": self.request_id,
            "InstanceId": self.instance,
            "State": self.state,
            "Status": {"Code": self.code, "Message": self.code.replace("-", " "), "UpdateTime": datetime.now(UTC)},
            "Type": options.get("SpotInstanceType", "one-time"),
            "InstanceInterruptionBehavior": options.get("InstanceInterruptionBehavior", "terminate"),
            "CreateTime": self.created_at,
            "Tags": self.tags,
        }


def find_spot_request(world: World, instance: str) -> SpotRequest | None:
    return next((request for request in world.ec2.spot_requests.values() if request.instance == instance), None)


def record_spot_request(
    world: World, instance: Any, market_options: dict[str, Any], tags: list[dict[str, str]]
) -> None:
    """Record the request that stands behind a spot instance from its launch on."""
    request = SpotRequest("sir-" + secrets.token_hex(4), instance.id, market_options, tags)
    world.ec2.spot_requests[request.request_id] = request
    instance.spot_instance_request_id = request.request_id


def give_spot_notice(world: World, instance: str) -> dict[str, Any]:
    """Give notice: the box can read it now, and is stopped after two minutes. Raises ValueError for an on-demand instance."""
    request = find_spot_request(world, instance)
    if request is None or request.state != "active":
        raise ValueError(f"{instance} is not a running spot instance")
    request.ends_at = world.clock.now() + NOTICE_S
    ends = datetime.now(UTC) + timedelta(seconds=NOTICE_S / world.clock.speed)
    world.ec2.spot_notices[instance] = json.dumps({"action": "stop", "time": f"{ends:%Y-%m-%dT%H:%M:%SZ}"})
    instance_type = lifecycle.find_instance(world, instance).instance_type
    world.faults.set_capacity_shortage(
        f"spot:{instance_type}", True
    )  # the cause: the type lacks capacity until it is restored
    return {"instance": instance, "seconds": NOTICE_S}


def watch_spot_requests(world: World) -> None:
    """Interrupt instances when their notice is over, and start them again once their instance type has capacity."""
    while not world.ending.wait(0.2):
        for request in list(world.ec2.spot_requests.values()):
            try:
                update_spot_request(world, request)
            except Exception as error:  # for example, the instance is being terminated; the others go on
                world.note(f"spot request {request.request_id}: {type(error).__name__}: {error}")


def update_spot_request(world: World, request: SpotRequest) -> None:
    if request.ends_at is not None and world.clock.now() >= request.ends_at:
        request.ends_at, request.state, request.code = None, "open", INTERRUPTED
        world.ec2.spot_notices.pop(request.instance, None)
        lifecycle.switch_off(world, request.instance, "Server.SpotInstanceShutdown", "Spot instance interrupted")
    elif request.code == INTERRUPTED and request.state == "open" and has_capacity(world, request.instance):
        request.state, request.code = "active", "fulfilled"
        lifecycle.find_instance(world, request.instance).start()
        lifecycle.switch_on(world, request.instance)


def has_capacity(world: World, instance: str) -> bool:
    found = lifecycle.find_instance(world, instance)
    return not world.faults.lacks_capacity(found.instance_type, found.availability_zone, spot=True)


def disable_spot_request(world: World, instance: str) -> None:
    if request := find_spot_request(world, instance):
        request.state, request.code = "disabled", BY_USER


def resume_spot_request(world: World, instance: str) -> None:
    """Make the instance's request active again. Raises EC2ClientError if only EC2 may start the instance."""
    request = find_spot_request(world, instance)
    if request and request.state == "open":
        raise EC2ClientError(
            "IncorrectSpotRequestState",
            f"You can't start the Spot Instance '{instance}' because the associated Spot Instance request is not in an "
            "appropriate state to support start.",
        )
    if request:
        request.state, request.code = "active", "fulfilled"


class SpotRequests(EC2Response):
    def describe_spot_instance_requests(self) -> ActionResult:
        wanted = self._get_param("SpotInstanceRequestIds", [])
        found = [
            r
            for r in get_world().ec2.spot_requests.values()
            if (not wanted or r.request_id in wanted) and self._matches_filters(r)
        ]
        return ActionResult({"SpotInstanceRequests": [request.describe() for request in found]})

    def _matches_filters(self, request: SpotRequest) -> bool:
        tags = {f"tag:{tag['Key']}": tag["Value"] for tag in request.tags}
        values = tags | {"instance-id": request.instance, "state": request.state}
        return all(values.get(f["Name"]) in f["Values"] for f in self._get_param("Filters", []))

    def cancel_spot_instance_requests(self) -> ActionResult:
        """Cancel requests. A stopped instance of a cancelled request is terminated; a running one goes on."""
        requests, cancelled = get_world().ec2.spot_requests, []
        for request_id in self._get_param("SpotInstanceRequestIds", []):
            request = requests.get(request_id)
            if request is None:
                raise EC2ClientError(
                    "InvalidSpotInstanceRequestID.NotFound",
                    f"The spot instance request ID '{request_id}' does not exist",
                )
            del requests[request_id]
            if request.state in ("open", "disabled"):
                lifecycle.terminate_boxes(get_world(), [request.instance])
            cancelled.append({"SpotInstanceRequestId": request_id, "State": "cancelled"})
        return ActionResult({"CancelledSpotInstanceRequests": cancelled})
