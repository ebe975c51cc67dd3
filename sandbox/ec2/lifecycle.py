"""The power switch of an instance, which works the same for the API, the box's own shutdown, an alarm and spot."""

from __future__ import annotations

from typing import Any

from moto.ec2.models.instances import StateReason

from sandbox.ec2 import instances
from sandbox.ec2.box import Box
from sandbox.world import World


def find_instance(world: World, instance_id: str) -> Any:
    return world.backend("ec2").get_instance(instance_id)


def switch_on(world: World, instance_id: str) -> None:
    """Boot the instance's box; create it at the first boot."""
    instance = find_instance(world, instance_id)
    for nic in instance.nics.values():
        if nic.public_ip:
            nic.public_ip = instances.derive_public_address(instance_id)
    if instance_id not in world.ec2.boxes:
        world.ec2.boxes[instance_id] = build_box(world, instance)
    instances.boot_box(world.ec2.boxes[instance_id], find_public_address(instance))


def build_box(world: World, instance: Any) -> Box:
    ec2 = world.backend("ec2")
    image = ec2.amis.get(instance.image_id)
    pair = ec2.key_pairs.get(instance.key_name) if instance.key_name else None
    volumes = [ec2.volumes[device.volume_id] for device in instance.block_device_mapping.values()]
    return Box(
        world,
        instance.id,
        user="ubuntu" if image is None or "Ubuntu" in (image.name or "") else "ec2-user",
        user_data=instance.user_data.decode() if instance.user_data else "",
        key=pair.public_key.strip() if pair else "",
        disk_gib=int(volumes[0].size) if volumes else 8,
    )


def find_instance_role(world: World, instance: Any) -> str:
    """Return the ARN of the role that is in the instance's profile now, or "" if there is none."""
    found = world.backend("ec2").iam_instance_profile_associations.get(instance.id)
    return next((role.arn for role in found.iam_instance_profile.roles), "") if found else ""


def find_public_address(instance: Any) -> str | None:
    return next((nic.public_ip for nic in instance.nics.values() if nic.public_ip), None)


def switch_off(world: World, instance_id: str, code: str, message: str) -> None:
    """Stop the instance; DescribeInstances shows the reason."""
    instances.halt_boxes(world, [instance_id])
    instance = find_instance(world, instance_id)
    instance.stop()
    instance.state_reason = StateReason(f"{code}: {message}", code)


def shut_down(world: World, box: Box) -> None:
    """Do what `shutdown -h now` on the box does: stop or terminate, by the instance's InstanceInitiatedShutdownBehavior."""
    instance = find_instance(world, box.instance)
    world.note(f"{box.instance}: shut down from inside")
    if instance.instance_initiated_shutdown_behavior == "terminate":
        terminate_boxes(world, [box.instance])
    else:
        switch_off(world, box.instance, "Client.InstanceInitiatedShutdown", "Instance initiated shutdown")


def terminate_boxes(world: World, instance_ids: list[str]) -> None:
    """Terminate instances and remove their network interfaces and disks, which moto forgets, and their tags."""
    instances.halt_boxes(world, instance_ids, delete_disks=True)
    ec2 = world.backend("ec2")
    disks = [device.volume_id for i in instance_ids for device in find_instance(world, i).block_device_mapping.values()]
    ec2.terminate_instances(instance_ids)
    nics = [key for key, eni in ec2.enis.items() if eni.instance is not None and eni.instance.id in instance_ids]
    for key in nics:
        del ec2.enis[key]
    for resource_id in [*nics, *disks, *instance_ids]:  # EC2 removes a terminated instance's tags soon after
        ec2.volumes.pop(resource_id, None)
        world.ec2.tags_of_terminated[resource_id] = ec2.tags.pop(resource_id, {})
