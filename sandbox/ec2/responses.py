"""The EC2 calls that moto lacks or gets wrong: idempotent launches that may find no capacity, real boxes, status, console."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.ec2.exceptions import EC2ClientError

from sandbox.ec2 import endpoint_interfaces, instances, lifecycle, spot, validation
from sandbox.ec2.instance_connect import ConnectEndpoints
from sandbox.ec2.spot import SpotRequests
from sandbox.http.error_responses import reply_error
from sandbox.world import get_world

PARTS = ("DeleteNetworkAclEntry", "DeleteRoute", "DeleteTags")  # these delete a part of a resource that remains


def reply_no_capacity(instance_type: str, zone: str) -> Any:
    """Return AWS's capacity error, a server's error, which SDKs therefore retry."""
    status, headers, body = reply_error(
        "ec2",
        500,
        "InsufficientInstanceCapacity",
        f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested ({zone}). "
        "Our system will be working on provisioning additional capacity.",
    )
    return status, {**headers, "status": status}, body


def iterate_strings(value: Any) -> Iterator[str]:
    """Yield every string in a request's parameters."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from iterate_strings(item)
    elif isinstance(value, str):
        yield value


class Ec2(ConnectEndpoints, SpotRequests):
    def call_action(self) -> Any:
        """Run the action; remove the tags of deleted resources, which moto would keep for ever."""
        if malformed := validation.find_malformed_id(self._get_params()):
            status, headers, body = reply_error("ec2", 400, *malformed)
            return status, {**headers, "status": status}, body
        response = super().call_action()
        action = self._get_action()
        if action.startswith("Delete") and action not in PARTS:
            for word in iterate_strings(self._get_params()):
                self.ec2_backend.tags.pop(word, None)
        return response

    def run_instances(self) -> Any:
        token, launches = self._get_param("ClientToken"), get_world().ec2.launches
        if token in launches and self.ec2_backend.get_instance(launches[token]).state == "terminated":
            raise EC2ClientError(
                "IdempotentInstanceTerminated",
                "The client token you have provided is associated with a resource that is already deleted. "
                "Please use a different client token.",
            )
        validation.validate_launch(self.ec2_backend, self._get_params())
        if token:
            validation.validate_repeated_launch(token, self._get_params())
        if token in launches:
            return ActionResult(self.ec2_backend.get_reservations_by_instance_ids([launches[token]])[0])
        market = self._get_param("InstanceMarketOptions", {})
        nics = self._get_param("NetworkInterfaces", [])
        subnet = self._get_param("SubnetId") or (nics[0].get("SubnetId") if nics else None)
        if subnet and not self._get_param("DryRun"):
            zone = self.ec2_backend.get_subnet(subnet).availability_zone
            if get_world().faults.lacks_capacity(self._get_param("InstanceType"), zone, bool(market)):
                return reply_no_capacity(self._get_param("InstanceType"), zone)
            self._check_volume_size(self._get_param("ImageId"), self._get_param("BlockDeviceMappings", []))
        response: Any = super().run_instances()
        instance = response.result.instances[0]
        launches[token] = instance.id
        if market:
            tags = [
                t for t in self._get_param("TagSpecifications", []) if t["ResourceType"] == "spot-instances-request"
            ]
            spot.record_spot_request(get_world(), instance, market, tags[0]["Tags"] if tags else [])
        lifecycle.switch_on(get_world(), instance.id)
        return response

    def _check_volume_size(self, image: str, mappings: list[dict[str, Any]]) -> None:
        ami = self.ec2_backend.amis.get(image)
        least = ami.block_device_mappings[0]["Ebs"]["VolumeSize"] if ami else 0
        requested = int(mappings[0].get("Ebs", {}).get("VolumeSize") or least) if mappings else least
        if requested < least:
            raise EC2ClientError(
                "InvalidBlockDeviceMapping",
                f"Volume of size {requested}GB is smaller than snapshot '{ami.ebs_snapshot.id}', expect size >= {least}GB",
            )

    def start_instances(self) -> Any:
        stopped = []
        for instance_id in self._get_param("InstanceIds", []):
            validation.validate_state(
                lifecycle.find_instance(get_world(), instance_id),
                ("pending", "running", "stopping", "stopped"),
                f"The instance '{instance_id}' is not in a state from which it can be started.",
            )
            instance, on_spot = (
                lifecycle.find_instance(get_world(), instance_id),
                spot.find_spot_request(get_world(), instance_id) is not None,
            )
            if instance.state != "running":
                stopped.append(instance_id)
                spot.resume_spot_request(get_world(), instance_id)
                if get_world().faults.lacks_capacity(instance.instance_type, instance.availability_zone, on_spot):
                    return reply_no_capacity(instance.instance_type, instance.availability_zone)
        response = super().start_instances()
        for instance_id in stopped:
            lifecycle.switch_on(get_world(), instance_id)
        return response

    def stop_instances(self) -> ActionResult:
        for instance_id in self._get_param("InstanceIds", []):
            instances.halt_boxes(get_world(), [instance_id])
            spot.disable_spot_request(get_world(), instance_id)
        return super().stop_instances()

    def terminate_instances(self) -> ActionResult:
        instance_ids = self._get_param("InstanceIds", [])
        before = {
            instance_id: lifecycle.find_instance(get_world(), instance_id) for instance_id in instance_ids
        }  # raises for the whole request if one instance is unknown
        was = {instance_id: {"Code": found.state_code, "Name": found.state} for instance_id, found in before.items()}
        lifecycle.terminate_boxes(get_world(), instance_ids)
        now = {"Code": 48, "Name": "terminated"}
        changed = [
            {"InstanceId": instance_id, "CurrentState": now, "PreviousState": was[instance_id]}
            for instance_id in instance_ids
        ]
        return ActionResult({"TerminatingInstances": changed})

    def modify_instance_attribute(self) -> ActionResult:
        if self._get_param("InstanceType"):
            instance_id = self._get_param("InstanceId")
            message = f"The instance '{instance_id}' is not in the 'stopped' state."
            validation.validate_state(lifecycle.find_instance(get_world(), instance_id), ("stopped",), message)
        return super().modify_instance_attribute()

    def import_key_pair(self) -> ActionResult:
        validation.validate_public_key(self._get_param("PublicKeyMaterial"))
        return super().import_key_pair()

    def create_network_acl_entry(self) -> ActionResult:
        validation.validate_acl_entry(self._get_params())
        return super().create_network_acl_entry()

    def create_route(self) -> ActionResult:
        validation.validate_route(self.ec2_backend, self._get_params())
        return super().create_route()

    def create_vpc_endpoint(self) -> ActionResult:
        validation.validate_vpc_endpoint(self.ec2_backend, self._get_params())
        response: Any = super().create_vpc_endpoint()
        groups = self._get_param("SecurityGroupIds", [])
        endpoint_interfaces.set_up(self.ec2_backend, response.result["VpcEndpoint"], groups)
        return response  # type: ignore[no-any-return]

    def delete_vpc_endpoints(self) -> ActionResult:
        interfaces = endpoint_interfaces.find_of_endpoints(self.ec2_backend, self._get_param("VpcEndpointIds", []))
        response = super().delete_vpc_endpoints()
        endpoint_interfaces.let_linger(self.ec2_backend, interfaces)
        return response

    def delete_security_group(self) -> ActionResult:
        self.update_states()
        if group := self._get_param("GroupId"):
            validation.validate_group_removal(self.ec2_backend, group)
        return super().delete_security_group()

    def delete_key_pair(self) -> ActionResult:
        if pair := self.ec2_backend.key_pairs.get(self._get_param("KeyName")):
            self.ec2_backend.tags.pop(pair.id, None)
        return super().delete_key_pair()

    def describe_instance_status(self) -> ActionResult:
        """Return both checks of each running instance; a drill may have impaired the instance's own."""
        wanted_ids = self._get_param("InstanceIds", [])
        found = self.ec2_backend.describe_instance_status(wanted_ids, False, self._filters_from_querystring())
        return ActionResult({"InstanceStatuses": [describe_status_checks(instance) for instance in found]})

    def delete_subnet(self) -> ActionResult:
        """Delete a subnet and its associations with ACLs and route tables, which moto would keep for ever."""
        subnet = self._get_param("SubnetId")
        self.update_states()
        validation.validate_subnet_removal(self.ec2_backend, subnet)
        response = super().delete_subnet()
        for acl in self.ec2_backend.network_acls.values():
            for key in [k for k, a in acl._associations.items() if a.subnet_id == subnet]:
                del acl._associations[key]
        for table in self.ec2_backend.route_tables.values():
            for key in [k for k, found in table._associations.items() if found == subnet]:
                del table._associations[key]
        return response

    def get_console_output(self) -> ActionResult:
        """Return what was printed since the last boot."""
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        text = (get_world().ec2.boxes[instance.id].root / "dev" / "console").read_text()
        output = Base64EncodedString.from_raw_string(text)
        return ActionResult({"InstanceId": instance.id, "Timestamp": datetime.now(UTC), "Output": output})


def describe_status_checks(instance: Any) -> dict[str, Any]:
    def check(status: str) -> dict[str, Any]:
        passed = "passed" if status == "ok" else "failed"
        return {"Status": status, "Details": [{"Name": "reachability", "Status": passed}]}

    return {
        "InstanceId": instance.id,
        "AvailabilityZone": instance.availability_zone,
        "InstanceState": {"Code": instance.state_code, "Name": instance.state},
        "SystemStatus": check("ok"),
        "InstanceStatus": check("impaired" if get_world().ec2.boxes[instance.id].impaired else "ok"),
    }
