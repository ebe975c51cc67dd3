"""The sandbox's control API, for tests and `invoke sandbox.*`, and its metadata, box and credential endpoints."""

from __future__ import annotations

import hmac
import json
from dataclasses import asdict
from typing import Any

from ops.core.nearest import find_nearest
from sandbox import drills, faults, kept_state
from sandbox.ec2 import instances, lifecycle, metadata, spot
from sandbox.faults import Fault
from sandbox.iam import bulk, federation, logins
from sandbox.iam.permissions import TABLE
from sandbox.sagemaker import runs
from sandbox.world import World

Reply = tuple[int, dict[str, str], bytes]


def handle_control_request(world: World, environ: dict[str, Any], path: str) -> Reply:
    method = environ["REQUEST_METHOD"]
    if path.startswith("/_metadata/"):
        status, text = metadata.serve_metadata(world, environ, path.removeprefix("/_metadata/"))
        return status, {"Content-Type": "text/plain"}, text.encode()
    if path.startswith("/_box/"):
        return build_json_reply(*handle_box_request(world, path.removeprefix("/_box/")))
    if path.startswith("/_credentials/"):
        found = world.keys.fetch_credentials(path.removeprefix("/_credentials/"))
        return build_json_reply(200 if found else 404, found or {"error": "no such credentials"})
    if not hmac.compare_digest(environ.get("HTTP_X_SANDBOX_TOKEN", "").encode(), world.token.encode()):
        return build_json_reply(403, {"error": "X-Sandbox-Token is missing or wrong"})
    action = path.removeprefix("/_sandbox/")
    try:
        body = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or b"{}")
        if not isinstance(body, dict):
            raise ValueError("the body is not a JSON object")
        if wrong := drills.find_body_error(action, body):
            raise ValueError(wrong)
        return build_json_reply(200, dispatch_control_action(world, method, action, body))
    except KeyError as error:
        return build_json_reply(400, {"error": f"there is no {error.args[0]}"})
    except RecursionError:
        return build_json_reply(400, {"error": "the body is nested too deeply"})
    except (AttributeError, TypeError, ValueError) as error:
        return build_json_reply(400, {"error": str(error)})


def handle_box_request(world: World, path: str) -> tuple[int, dict[str, Any]]:
    """Serve SECRET/shutdown, the only request that a box may make to its host."""
    secret, _, action = path.partition("/")
    box = instances.find_box_by_secret(world, secret)
    if box is None or action != "shutdown":
        return 404, {"error": "no such box"}
    lifecycle.shut_down(world, box)
    return 200, {}


def dispatch_control_action(world: World, method: str, action: str, body: dict[str, Any]) -> dict[str, Any]:
    """Carry out one control request and return its JSON response.

    GET health; POST fault | faults/clear | lag | clock | break | token | age | expire | hang | iam | logins | slow, and what
    `inject_drill_fault` knows. Raises KeyError for any other.
    """
    match method, action:
        case "GET", "health":
            return {"up_s": world.clock.now(), "calls": world.log.count, "speed": world.clock.speed}
        case "POST", "keep":
            return kept_state.keep(world)
        case "POST", "fault":
            fault = Fault(**body)
            check_operation(fault.operation)
            world.faults.add(fault)
            return asdict(fault)
        case "POST", "faults/clear":
            return world.faults.clear()
        case "POST", "lag":
            return world.faults.lag.set(float(body.get("seconds", 0)), int(body.get("calls", 0)))
        case "POST", "clock":
            world.clock.set_speed(float(body["speed"]))
            return {"speed": world.clock.speed}
        case "POST", "break":
            return faults.corrupt_release(world, body["endpoint"])
        case "POST", "hang":
            return faults.set_startup_hang(world, body["endpoint"], bool(body.get("hang", True)))
        case "POST", "token" | "age" | "expire" | "logins" | "iam" | "iam/remove":
            return change_logins(world, action, body)
        case "POST", "slow":
            return faults.set_endpoint_lag(world, body["endpoint"], float(body["seconds"]))
        case "POST", _:
            return inject_drill_fault(world, action, body)
    raise KeyError(f"{method} {action}")


def change_logins(world: World, action: str, body: dict[str, Any]) -> dict[str, Any]:
    """Carry out a request about IAM: token | age {role, days} | expire {key} | logins | iam {calls} | iam/remove {stack}."""
    match action:
        case "token":
            return {"token": federation.mint_token(world, body)}
        case "age":
            return faults.set_role_age(world, body["role"], float(body["days"]))
        case "expire":
            return {"session": world.keys.expire_session(body["key"])}
        case "logins":
            return logins.add_login_profiles(world)
        case "iam/remove":
            return bulk.remove_stack_roles(world, body["stack"])
    return bulk.apply_iam_calls(world, body["calls"])


def inject_drill_fault(world: World, action: str, body: dict[str, Any]) -> dict[str, Any]:
    """Inject a fault into a training job or a box, or change which capacity is short.

    Training jobs: interrupt {job} | freeze {job, host} | kill {job, host}. Capacity: capacity {instance_type, short}.
    Boxes: interrupt {instance} | box {instance, ...} (see ec2.instances.inject_box_fault).

    Hosts are counted from 1. Raises KeyError for an unknown job or box, ValueError where the fault does not apply.
    """
    match action:
        case "interrupt" if "instance" in body:
            return spot.give_spot_notice(world, body["instance"])
        case "box":
            box = instances.require_box(world, body.pop("instance"))
            public = lifecycle.find_public_address(lifecycle.find_instance(world, box.instance))
            return instances.inject_box_fault(box, public, body)
        case "interrupt":
            return runs.interrupt_spot_job(world, body["job"])
        case "freeze":
            return runs.freeze_host(world, body["job"], int(body.get("host", 1)))
        case "kill":
            return runs.kill_host(world, body["job"], int(body.get("host", 1)))
        case "capacity":
            return {"short": world.faults.set_capacity_shortage(body["instance_type"], bool(body.get("short", True)))}
    raise KeyError(f"POST {action}")


def check_operation(name: str) -> None:
    """Raise ValueError, with the nearest name, for an operation that the sandbox does not have: the fault would never come."""
    known = {operation for _, _, rows in TABLE.values() for operation in rows} | {federation.ACTION}
    if name not in known:
        near = find_nearest(name, known)
        raise ValueError(f"there is no operation {name!r}.{f' Did you mean {near}?' if near else ''}")


def build_json_reply(status: int, body: dict[str, Any]) -> Reply:
    return status, {"Content-Type": "application/json"}, json.dumps(body).encode()
