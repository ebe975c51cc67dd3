"""What befalls endpoints and roles, on demand: a release spoilt, instances that hang or are slow, a role that grows old."""

from __future__ import annotations

import io
import tarfile
from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox.sagemaker import endpoint_instances, endpoints
from sandbox.world import World


def spoil(world: World, name: str) -> dict[str, Any]:
    """The live release's artefact in S3 is rubbish from now on, and its instances die, so that none can start again."""
    live = endpoints.find(name)
    if live is None or live.fleet is None:
        raise KeyError(f"no live endpoint {name}")
    url = live.fleet.model.primary_container["ModelDataUrl"]
    bucket, _, key = url.removeprefix("s3://").partition("/")
    spoilt = io.BytesIO()
    with tarfile.open(fileobj=spoilt, mode="w:gz") as tar:
        entry = tarfile.TarInfo("model.onnx")
        entry.size = 7
        tar.addfile(entry, io.BytesIO(b"rubbish"))
    world.backend_global("s3").put_object(bucket, key, spoilt.getvalue())
    for member in live.fleet.members:
        if member.process:
            member.process.kill()
    return {"spoilt": url, "killed": len(live.fleet.members)}


def hang(name: str, on: bool) -> dict[str, Any]:
    """Instances of an endpoint that start from now on never answer a ping; the endpoint need not be there yet."""
    endpoint_instances.hanging.add(name) if on else endpoint_instances.hanging.discard(name)
    return {"hanging": sorted(endpoint_instances.hanging)}


def slow(name: str, seconds: float) -> dict[str, Any]:
    """Each instance takes so much longer for a request, and has one at a time: two instances do twice as much. 0 ends it."""
    live = endpoints.find(name)
    if live is None:
        raise KeyError(f"no endpoint {name}")
    live.lag_s = seconds
    return {"lag_s": seconds}


def age(world: World, role: str, days: float) -> dict[str, Any]:
    """The role was made so many days ago, and nobody has used it. Raises KeyError when there is none of that name."""
    found = next((one for one in world.backend_global("iam").roles.values() if one.name == role), None)
    if found is None:
        raise KeyError(role)
    found.create_date = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=days)
    found.last_used = None
    return {"role": role, "created": str(found.create_date)}
