"""Numbers into CloudWatch, as the services themselves put them there."""

from __future__ import annotations

from datetime import UTC, datetime

from sandbox.world import World


def put(world: World, namespace: str, dimensions: dict[str, str], **values: tuple[float, str]) -> None:
    """One datum for each NAME=(value, unit), stamped now."""
    now = datetime.now(UTC).replace(tzinfo=None)  # as moto keeps them
    named = [{"Name": name, "Value": value} for name, value in dimensions.items()]
    data = [
        {"MetricName": name, "Value": value, "Unit": unit, "Dimensions": named, "Timestamp": now}
        for name, (value, unit) in values.items()
    ]
    world.backend("cloudwatch").put_metric_data(namespace, data)
