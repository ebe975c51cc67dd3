"""The states of a function that take time: Pending after its creation, and an update in progress, during which AWS refuses the next."""

from __future__ import annotations

import json
import uuid
from typing import Any

from sandbox.function.validation import build_arn, build_refusal
from sandbox.state import REGION
from sandbox.world import get_world

UPDATE_S = 0.4  # seconds of the sandbox's clock; on AWS one or a few


def begin_update(name: str) -> None:
    tables = get_world().functions
    tables.updating_until[name] = get_world().clock.now() + UPDATE_S


def is_updating(name: str) -> bool:
    return get_world().clock.now() < get_world().functions.updating_until.get(name, 0.0)


def require_settled(name: str) -> None:
    """Raise LambdaClientError while an update of the function is in progress."""
    if is_updating(name):
        raise build_refusal(
            409,
            "ResourceConflictException",
            "The operation cannot be performed at this time. An update is in progress for resource: " + build_arn(name),
        )


def describe_configuration(config: dict[str, Any], created: bool = False) -> dict[str, Any]:
    """Return moto's description of a function with the fields that it lacks; `created`: in CreateFunction's answer."""
    name = config["FunctionName"]
    described = {key: value for key, value in config.items() if key != "Layers" or value}
    described["LoggingConfig"] = {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"}
    described["RevisionId"] = str(uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(config, sort_keys=True, default=str)))
    version = uuid.uuid5(uuid.NAMESPACE_OID, str(config.get("Runtime"))).hex
    described["RuntimeVersionConfig"] = {"RuntimeVersionArn": f"arn:aws:lambda:{REGION}::runtime:{version}"}
    if created:
        described |= {
            "State": "Pending",
            "StateReason": "The function is being created.",
            "StateReasonCode": "Creating",
        }
    elif config.get("Version") == "$LATEST" and is_updating(name):
        described |= {
            "LastUpdateStatus": "InProgress",
            "LastUpdateStatusReason": "The function is being updated.",
            "LastUpdateStatusReasonCode": "Updating",
        }
    return described
