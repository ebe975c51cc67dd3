"""The EC2 Instance Connect API: its endpoints, which moto lacks, and the keys that are pushed to boxes."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses import EC2Response
from moto.ec2instanceconnect.responses import Ec2InstanceConnectResponse

from sandbox.ec2 import endpoint_interfaces, instances
from sandbox.state import ACCOUNT, REGION
from sandbox.world import get_world

CREATION_S = 0.5  # seconds of the sandbox's clock; on AWS minutes
DELETION_S = 0.5


class ConnectEndpoints(EC2Response):
    def create_instance_connect_endpoint(self) -> ActionResult:
        endpoints = self.update_states()
        subnet = self.ec2_backend.get_subnet(self._get_param("SubnetId"))
        if any(known["VpcId"] == subnet.vpc_id for known in endpoints.values()):
            raise EC2ClientError(
                "InstanceConnectEndpointLimitExceeded", "Only one EC2 Instance Connect Endpoint is allowed in a VPC."
            )
        endpoint_id = "eice-" + secrets.token_hex(8) + "0"
        interface = self.ec2_backend.create_network_interface(
            subnet,
            [],
            group_ids=self._get_param("SecurityGroupIds", []),
            description=f"EC2 Instance Connect Endpoint {endpoint_id}",
        )
        get_world().ec2.connect_changes[endpoint_id] = get_world().clock.now() + CREATION_S
        endpoints[endpoint_id] = {
            "OwnerId": ACCOUNT,
            "InstanceConnectEndpointId": endpoint_id,
            "InstanceConnectEndpointArn": f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance-connect-endpoint/{endpoint_id}",
            "State": "create-in-progress",
            "DnsName": f"127.0.0.1:{get_world().tunnel_port}",
            "VpcId": subnet.vpc_id,
            "AvailabilityZone": subnet.availability_zone,
            "SubnetId": subnet.id,
            "NetworkInterfaceIds": [interface.id],
            "SecurityGroupIds": self._get_param("SecurityGroupIds", []),
            "PreserveClientIp": False,
            "CreatedAt": datetime.now(UTC),
            "Tags": self._get_param("TagSpecifications", [{}])[0].get("Tags", []),
        }
        return ActionResult({"InstanceConnectEndpoint": endpoints[endpoint_id]})

    def describe_instance_connect_endpoints(self) -> ActionResult:
        wanted = self._get_param("InstanceConnectEndpointIds", [])
        filters = {entry["Name"]: entry["Values"] for entry in self._get_param("Filters", [])}
        found = [
            e
            for e in self.update_states().values()
            if (not wanted or e["InstanceConnectEndpointId"] in wanted) and match_filters(e, filters)
        ]
        return ActionResult({"InstanceConnectEndpoints": found})

    def delete_instance_connect_endpoint(self) -> ActionResult:
        endpoints, endpoint_id = self.update_states(), self._get_param("InstanceConnectEndpointId")
        if endpoint_id not in endpoints:
            raise EC2ClientError(
                "InvalidInstanceConnectEndpointId.NotFound",
                f"The EC2 Instance Connect Endpoint ID '{endpoint_id}' does not exist",
            )
        endpoint = endpoints[endpoint_id]
        if endpoint["State"] == "create-in-progress":
            raise EC2ClientError(
                "IncorrectState", f"The EC2 Instance Connect Endpoint '{endpoint_id}' is not in a state to be deleted"
            )
        endpoint["State"] = "delete-in-progress"
        get_world().ec2.connect_changes[endpoint_id] = get_world().clock.now() + DELETION_S
        return ActionResult({"InstanceConnectEndpoint": endpoint})

    def update_states(self) -> dict[str, dict[str, Any]]:
        """Carry out the changes whose time has come; return the endpoints by id."""
        tables, now = get_world().ec2, get_world().clock.now()
        endpoint_interfaces.remove_due(self.ec2_backend)
        for endpoint_id in [one for one, due in tables.connect_changes.items() if due <= now]:
            del tables.connect_changes[endpoint_id]
            endpoint = tables.connect_endpoints[endpoint_id]
            if endpoint["State"] == "create-in-progress":
                endpoint["State"] = "create-complete"
                continue
            del tables.connect_endpoints[endpoint_id]
            for interface in endpoint["NetworkInterfaceIds"]:
                self.ec2_backend.enis.pop(interface, None)
        return tables.connect_endpoints

    def describe_network_interfaces(self) -> ActionResult:
        self.update_states()
        return super().describe_network_interfaces()


def match_filters(endpoint: dict[str, Any], filters: dict[str, list[str]]) -> bool:
    tags = {f"tag:{tag['Key']}": tag["Value"] for tag in endpoint["Tags"]}
    values = tags | {"vpc-id": endpoint["VpcId"], "subnet-id": endpoint["SubnetId"], "state": endpoint["State"]}
    return all(values.get(name) in wanted for name, wanted in filters.items())


class InstanceConnect(Ec2InstanceConnectResponse):
    def send_ssh_public_key(self) -> str:
        params = json.loads(self.body)
        found = (
            get_world()
            .create_internal_client("ec2")
            .describe_instances(Filters=[{"Name": "instance-id", "Values": [params["InstanceId"]]}])["Reservations"]
        )
        if not found:
            raise JsonRESTError("EC2InstanceNotFoundException", f"Instance {params['InstanceId']} was not found")
        state = found[0]["Instances"][0]["State"]["Name"]
        if state != "running":
            raise JsonRESTError(
                "EC2InstanceStateInvalidException", f"Instance {params['InstanceId']} is {state}, not running"
            )
        if not 80 <= len(params["SSHPublicKey"]) <= 4096:
            raise JsonRESTError("InvalidArgsException", "SSHPublicKey has 80 to 4096 characters")
        instances.accept_pushed_key(get_world(), params["InstanceId"], params["InstanceOSUser"], params["SSHPublicKey"])
        return json.dumps({"RequestId": secrets.token_hex(8), "Success": True})
