"""The network interfaces of interface endpoints: they have the endpoint's groups, and outlive it, as on AWS."""

from __future__ import annotations

from typing import Any

from sandbox.world import get_world

LINGER_S = 1.0  # seconds of the sandbox's clock after the endpoint is deleted; on AWS minutes


def set_up(backend: Any, endpoint: Any, groups: list[str]) -> None:
    """Give the interfaces of a new endpoint its description and security groups, which moto leaves out."""
    for interface in (backend.enis[one] for one in endpoint.network_interface_ids or []):
        interface.description = f"VPC Endpoint Interface {endpoint.id}"
        if groups:
            interface._group_set = [backend.get_security_group_from_id(group) for group in groups]


def find_of_endpoints(backend: Any, endpoint_ids: list[str]) -> dict[str, Any]:
    """Return the interfaces of these endpoints, by id."""
    endpoints = [backend.vpc_end_points[one] for one in endpoint_ids if one in backend.vpc_end_points]
    names = [name for endpoint in endpoints for name in endpoint.network_interface_ids or []]
    return {name: backend.enis[name] for name in names if name in backend.enis}


def let_linger(backend: Any, interfaces: dict[str, Any]) -> None:
    """Put the interfaces of deleted endpoints back, until their time has come."""
    backend.enis.update(interfaces)
    get_world().ec2.lingering_interfaces |= dict.fromkeys(interfaces, get_world().clock.now() + LINGER_S)


def remove_due(backend: Any) -> None:
    lingering, now = get_world().ec2.lingering_interfaces, get_world().clock.now()
    for name in [name for name, due in lingering.items() if due <= now]:
        del lingering[name]
        backend.enis.pop(name, None)
