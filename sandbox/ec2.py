"""EC2's calls that moto lacks or gets wrong: idempotent launches, host keys on the console, Instance Connect."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses import EC2Response
from moto.ec2instanceconnect.responses import Ec2InstanceConnectResponse

from sandbox import boxes
from sandbox.state import ACCOUNT, REGION
from sandbox.world import world

_launched: dict[str, Any] = {}  # ClientToken -> answer: asked twice, AWS launches once
endpoints: dict[str, dict[str, Any]] = {}  # Instance Connect Endpoints by id


class Ec2(EC2Response):
    def run_instances(self) -> ActionResult:
        token = self._get_param("ClientToken")
        if token in _launched:
            first = _launched[token]
            return ActionResult(self.ec2_backend.get_reservations_by_instance_ids([first])[0])
        answer = super().run_instances()
        _launched[token] = answer.result.instances[0].id  # type: ignore[attr-defined]
        return answer

    def stop_instances(self) -> ActionResult:
        boxes.end(world(), self._get_param("InstanceIds", []))
        return super().stop_instances()

    def terminate_instances(self) -> ActionResult:
        """Their network interfaces go with them, which moto forgets."""
        gone = self._get_param("InstanceIds", [])
        boxes.end(world(), gone, gone=True)
        answer = super().terminate_instances()
        for key in [
            k for k, eni in self.ec2_backend.enis.items() if eni.instance is not None and eni.instance.id in gone
        ]:
            del self.ec2_backend.enis[key]
        return answer

    def delete_subnet(self) -> ActionResult:
        """A subnet that is gone holds no ACL and no route table in use; moto would keep them for ever."""
        subnet = self._get_param("SubnetId")
        answer = super().delete_subnet()
        for acl in self.ec2_backend.network_acls.values():
            for key in [k for k, a in acl._associations.items() if a.subnet_id == subnet]:
                del acl._associations[key]
        for table in self.ec2_backend.route_tables.values():
            for key in [k for k, found in table._associations.items() if found == subnet]:
                del table._associations[key]
        return answer

    def get_console_output(self) -> ActionResult:
        """What cloud-init prints at boot: the host's public keys, from which a first connection can be trusted."""
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        key = boxes.host_key(world(), instance.id)
        text = f"[   12.3] cloud-init: Cloud-init finished\n-----BEGIN SSH HOST KEY KEYS-----\n{key} root@box\n-----END SSH HOST KEY KEYS-----\n"
        return ActionResult(
            {
                "InstanceId": instance.id,
                "Timestamp": datetime.now(UTC),
                "Output": Base64EncodedString.from_raw_string(text),
            }
        )

    def create_instance_connect_endpoint(self) -> ActionResult:
        subnet = self.ec2_backend.get_subnet(self._get_param("SubnetId"))
        if any(known["VpcId"] == subnet.vpc_id for known in endpoints.values()):
            raise EC2ClientError(
                "InstanceConnectEndpointLimitExceeded", "Only one EC2 Instance Connect Endpoint is allowed in a VPC."
            )
        ident = "eice-" + secrets.token_hex(8) + "0"
        endpoints[ident] = {
            "OwnerId": ACCOUNT,
            "InstanceConnectEndpointId": ident,
            "InstanceConnectEndpointArn": f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance-connect-endpoint/{ident}",
            "State": "create-complete",
            "DnsName": f"127.0.0.1:{world().tunnel_port}",
            "VpcId": subnet.vpc_id,
            "AvailabilityZone": subnet.availability_zone,
            "SubnetId": subnet.id,
            "SecurityGroupIds": self._get_param("SecurityGroupIds", []),
            "PreserveClientIp": False,
            "CreatedAt": datetime.now(UTC),
            "Tags": self._get_param("TagSpecifications", [{}])[0].get("Tags", []),
        }
        return ActionResult({"InstanceConnectEndpoint": endpoints[ident]})

    def describe_instance_connect_endpoints(self) -> ActionResult:
        wanted = self._get_param("InstanceConnectEndpointIds", [])
        filters = {entry["Name"]: entry["Values"] for entry in self._get_param("Filters", [])}
        found = [
            e
            for e in endpoints.values()
            if (not wanted or e["InstanceConnectEndpointId"] in wanted) and fits(e, filters)
        ]
        return ActionResult({"InstanceConnectEndpoints": found})

    def delete_instance_connect_endpoint(self) -> ActionResult:
        ident = self._get_param("InstanceConnectEndpointId")
        if ident not in endpoints:
            raise EC2ClientError(
                "InvalidInstanceConnectEndpointId.NotFound",
                f"The EC2 Instance Connect Endpoint ID '{ident}' does not exist",
            )
        return ActionResult({"InstanceConnectEndpoint": endpoints.pop(ident) | {"State": "delete-in-progress"}})


def fits(endpoint: dict[str, Any], filters: dict[str, list[str]]) -> bool:
    tags = {f"tag:{tag['Key']}": tag["Value"] for tag in endpoint["Tags"]}
    values = tags | {"vpc-id": endpoint["VpcId"], "subnet-id": endpoint["SubnetId"], "state": endpoint["State"]}
    return all(values.get(name) in wanted for name, wanted in filters.items())


class InstanceConnect(Ec2InstanceConnectResponse):
    def send_ssh_public_key(self) -> str:
        asked = json.loads(self.body)
        found = (
            world()
            .inside("ec2")
            .describe_instances(Filters=[{"Name": "instance-id", "Values": [asked["InstanceId"]]}])["Reservations"]
        )
        if not found:
            raise JsonRESTError("EC2InstanceNotFoundException", f"Instance {asked['InstanceId']} was not found")
        state = found[0]["Instances"][0]["State"]["Name"]
        if state != "running":
            raise JsonRESTError(
                "EC2InstanceStateInvalidException", f"Instance {asked['InstanceId']} is {state}, not running"
            )
        if not 80 <= len(asked["SSHPublicKey"]) <= 4096:
            raise JsonRESTError("InvalidArgsException", "SSHPublicKey has 80 to 4096 characters")
        boxes.accept(asked["InstanceId"], asked["InstanceOSUser"], asked["SSHPublicKey"])
        return json.dumps({"RequestId": secrets.token_hex(8), "Success": True})
