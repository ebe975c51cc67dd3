"""What is beside the AWS: the sandbox's own switches, for tests and for `invoke sandbox.*`, and the credential endpoints."""

from __future__ import annotations

import hmac
import json
from dataclasses import asdict
from typing import Any

from sandbox.faults.api_faults import Fault
from sandbox.world import World

Reply = tuple[int, dict[str, str], bytes]


def answer(world: World, environ: dict[str, Any], path: str) -> Reply:
    method = environ["REQUEST_METHOD"]
    if path.startswith("/_metadata/"):
        from sandbox.ec2 import metadata

        status, text = metadata.answer(world, environ, path.removeprefix("/_metadata/"))
        return status, {"Content-Type": "text/plain"}, text.encode()
    if path.startswith("/_box/"):
        return packed(*switch_of_box(world, path.removeprefix("/_box/")))
    if path.startswith("/_credentials/"):
        found = world.keys.fetch(path.removeprefix("/_credentials/"))
        return packed(200 if found else 404, found or {"error": "no such credentials"})
    if not hmac.compare_digest(environ.get("HTTP_X_SANDBOX_TOKEN", ""), world.token):
        return packed(403, {"error": "the sandbox's token is missing or wrong"})
    what = path.removeprefix("/_sandbox/")
    body = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or b"{}")
    try:
        return packed(200, switch(world, method, what, body))
    except (KeyError, TypeError, ValueError) as error:
        return packed(400, {"error": f"{type(error).__name__}: {error}"})


def switch_of_box(world: World, path: str) -> tuple[int, dict[str, Any]]:
    """SECRET/shutdown: the one thing that a box may ask of the machine it runs on."""
    from sandbox.ec2 import instances, lifecycle

    secret, _, what = path.partition("/")
    box = instances.by_secret(secret)
    if box is None or what != "shutdown":
        return 404, {"error": "no such box"}
    lifecycle.shut_down(world, box)
    return 200, {}


def switch(world: World, method: str, what: str, body: dict[str, Any]) -> dict[str, Any]:
    """GET health; POST fault | faults/clear | clock | break | token | age | expire | hang | iam | slow, and those of `drill`.

    Raises KeyError for others."""
    from sandbox.faults import component_faults
    from sandbox.iam import bulk, federation

    match method, what:
        case "GET", "health":
            return {"up_s": world.clock.now(), "calls": world.log.count}
        case "POST", "fault":
            fault = Fault(**body)
            world.faults.add(fault)
            return asdict(fault)
        case "POST", "faults/clear":
            world.faults.clear()
            return {}
        case "POST", "clock":
            world.clock.set_speed(float(body["speed"]))
            return {"speed": world.clock.speed}
        case "POST", "break":
            return component_faults.spoil(world, body["endpoint"])
        case "POST", "hang":
            return component_faults.hang(body["endpoint"], bool(body.get("hang", True)))
        case "POST", "token":
            return {"token": federation.mint(world, body)}
        case "POST", "age":
            return component_faults.age(world, body["role"], float(body["days"]))
        case "POST", "expire":
            return {"session": world.keys.expire(body["key"])}
        case "POST", "iam":
            return bulk.make(world, body["calls"])
        case "POST", "slow":
            return component_faults.slow(body["endpoint"], float(body["seconds"]))
        case "POST", _:
            return drill(world, what, body)
    raise KeyError(f"{method} {what}")


def drill(world: World, what: str, body: dict[str, Any]) -> dict[str, Any]:
    """What befalls training jobs: interrupt {job} | freeze {job, host} | kill {job, host} | capacity {instance_type, short};
    and boxes: interrupt {instance} | box {instance, ...} (see boxes.spoil).

    Hosts are counted from 1. Raises KeyError for an unknown job or box, ValueError for one that this cannot happen to.
    """
    from sandbox.ec2 import instances, lifecycle, spot
    from sandbox.sagemaker import runs

    match what:
        case "interrupt" if "instance" in body:
            return spot.interrupt(world, body["instance"])
        case "box":
            public = lifecycle.public_address(lifecycle.instance_of(world, body["instance"]))
            return instances.spoil(body.pop("instance"), public, body)
        case "interrupt":
            return runs.interrupt(body["job"])
        case "freeze":
            return runs.freeze(body["job"], int(body.get("host", 1)))
        case "kill":
            return runs.kill(body["job"], int(body.get("host", 1)))
        case "capacity":
            return {"short": world.faults.shorten(body["instance_type"], bool(body.get("short", True)))}
    raise KeyError(f"POST {what}")


def packed(status: int, body: dict[str, Any]) -> Reply:
    return status, {"Content-Type": "application/json"}, json.dumps(body).encode()
