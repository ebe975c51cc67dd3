"""The answers of EC2 about networks."""

from __future__ import annotations

from typing import Any

from sandbox.fidelity.case import Case, answered, prepare, refused

SOURCE = "documented: EC2 API reference, error codes; words as public logs show them"
LINGERING = (
    "public issues: aws-cloudformation/cloudformation-coverage-roadmap#1327, hashicorp/terraform-provider-aws#34397"
)
PORT = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "UserIdGroupPairs": [{"GroupId": "<group2>"}]}]
ALL = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
OTHER_PORT = [{"IpProtocol": "tcp", "FromPort": 99, "ToPort": 99, "IpRanges": [{"CidrIp": "1.2.3.4/32"}]}]
GROUP = {"GroupName": "score-a", "Description": "x", "VpcId": "<vpc>"}
ROUTE = {"RouteTableId": "<table>", "DestinationCidrBlock": "0.0.0.0/0", "GatewayId": "<gateway>"}
ATTACHMENT = {"InternetGatewayId": "<gateway>", "VpcId": "<vpc>"}
RULE: dict[str, Any] = {
    "NetworkAclId": "<acl>", "RuleNumber": 100, "Egress": False, "Protocol": "-1", "RuleAction": "allow", "CidrBlock": "10.77.0.0/16",
}  # fmt: skip
SERVICES = "com.amazonaws.us-east-1"
S3_GATEWAY = {
    "VpcId": "<vpc>", "ServiceName": f"{SERVICES}.s3", "VpcEndpointType": "Gateway", "RouteTableIds": ["<table>"],
}  # fmt: skip
IN_USE = "DependencyViolation"
INTERFACE = {"NetworkInterfaces.0.Description": "EC2 Instance Connect Endpoint <connect>"}

CASES: list[Case] = [
    prepare("ec2.create_vpc", {"CidrBlock": "10.77.0.0/16"}, keep={"vpc": "Vpc.VpcId"}),
    prepare("ec2.create_subnet", {"VpcId": "<vpc>", "CidrBlock": "10.77.0.0/20", "AvailabilityZone": "us-east-1a"}, keep={"subnet": "Subnet.SubnetId"}),
    refused("ec2.create_subnet", "a block that overlaps", {"VpcId": "<vpc>", "CidrBlock": "10.77.0.0/20"}, "InvalidSubnet.Conflict", "conflicts with another subnet"),
    refused("ec2.create_subnet", "a block outside of the VPC", {"VpcId": "<vpc>", "CidrBlock": "10.99.0.0/20"}, "InvalidSubnet.Range"),
    refused("ec2.create_subnet", "a missing VPC", {"VpcId": "vpc-0123456789abcdef0", "CidrBlock": "10.77.0.0/20"}, "InvalidVpcID.NotFound", "The vpc ID 'vpc-0123456789abcdef0' does not exist"),
    prepare("ec2.create_security_group", GROUP, keep={"group": "GroupId"}),
    prepare("ec2.create_security_group", {**GROUP, "GroupName": "score-b"}, keep={"group2": "GroupId"}),
    refused("ec2.create_security_group", "a name that is taken", GROUP, "InvalidGroup.Duplicate", "already exists for VPC"),
    answered("ec2.authorize_security_group_ingress", "a new rule", {"GroupId": "<group>", "IpPermissions": PORT}),
    refused("ec2.authorize_security_group_ingress", "a rule that is there", {"GroupId": "<group>", "IpPermissions": PORT}, "InvalidPermission.Duplicate", "already exists"),
    refused("ec2.authorize_security_group_egress", "the rule that every new group has", {"GroupId": "<group>", "IpPermissions": ALL}, "InvalidPermission.Duplicate", "already exists"),
    refused("ec2.revoke_security_group_ingress", "a rule that is not there", {"GroupId": "<group>", "IpPermissions": OTHER_PORT}, "InvalidPermission.NotFound"),
    refused("ec2.delete_security_group", "a group that another one names", {"GroupId": "<group2>"}, IN_USE, "has a dependent object"),
    refused("ec2.authorize_security_group_ingress", "a missing group", {"GroupId": "sg-0123456789abcdef0", "IpPermissions": PORT}, "InvalidGroup.NotFound", "does not exist"),
    prepare("ec2.create_route_table", {"VpcId": "<vpc>"}, keep={"table": "RouteTable.RouteTableId"}),
    prepare("ec2.create_internet_gateway", {}, keep={"gateway": "InternetGateway.InternetGatewayId"}),
    refused("ec2.create_route", "a gateway that is not attached", ROUTE, "InvalidGatewayID.NotFound|InvalidParameterValue"),
    prepare("ec2.attach_internet_gateway", ATTACHMENT),
    refused("ec2.attach_internet_gateway", "a gateway that is attached", ATTACHMENT, "Resource.AlreadyAssociated"),
    prepare("ec2.create_route", ROUTE),
    refused("ec2.create_route", "a route that is there", ROUTE, "RouteAlreadyExists", "already exists"),
    prepare("ec2.associate_route_table", {"RouteTableId": "<table>", "SubnetId": "<subnet>"}),
    refused("ec2.delete_route_table", "a table of a subnet", {"RouteTableId": "<table>"}, IN_USE, "has dependencies and cannot be deleted"),
    prepare("ec2.create_network_acl", {"VpcId": "<vpc>"}, keep={"acl": "NetworkAcl.NetworkAclId"}),
    answered("ec2.create_network_acl_entry", "a new rule", RULE),
    refused("ec2.create_network_acl_entry", "a number that is taken", RULE, "NetworkAclEntryAlreadyExists"),
    refused("ec2.create_network_acl_entry", "TCP without ports", {**RULE, "RuleNumber": 101, "Protocol": "6"}, "InvalidParameterValue|MissingParameter"),
    refused("ec2.create_vpc_endpoint", "an unknown service", {"VpcId": "<vpc>", "ServiceName": f"{SERVICES}.nonsense", "VpcEndpointType": "Interface", "SubnetIds": ["<subnet>"]}, "InvalidServiceName"),
    prepare("ec2.create_vpc_endpoint", S3_GATEWAY),
    refused("ec2.create_vpc_endpoint", "a second gateway to S3 on the table", S3_GATEWAY, "RouteAlreadyExists"),
    answered("ec2.create_instance_connect_endpoint", "a new endpoint", {"SubnetId": "<subnet>", "SecurityGroupIds": ["<group>"]}, keep={"connect": "InstanceConnectEndpoint.InstanceConnectEndpointId"}, equals={"InstanceConnectEndpoint.State": "create-in-progress"}),
    answered("ec2.describe_network_interfaces", "the endpoint's interface", {"Filters": [{"Name": "vpc-id", "Values": ["<vpc>"]}]}, equals=INTERFACE),
    refused("ec2.delete_subnet", "a subnet with an Instance Connect Endpoint", {"SubnetId": "<subnet>"}, IN_USE, "has dependencies and cannot be deleted"),
    refused("ec2.delete_security_group", "the group of an Instance Connect Endpoint", {"GroupId": "<group>"}, IN_USE, "has a dependent object"),
    prepare("ec2.create_security_group", {**GROUP, "GroupName": "score-c"}, keep={"group3": "GroupId"}),
    prepare("ec2.create_subnet", {"VpcId": "<vpc>", "CidrBlock": "10.77.32.0/20", "AvailabilityZone": "us-east-1b"}, keep={"subnet2": "Subnet.SubnetId"}),
    prepare("ec2.create_vpc_endpoint", {"VpcId": "<vpc>", "ServiceName": f"{SERVICES}.logs", "VpcEndpointType": "Interface", "SubnetIds": ["<subnet2>"], "SecurityGroupIds": ["<group3>"]}, keep={"logs": "VpcEndpoint.VpcEndpointId"}),
    prepare("ec2.delete_vpc_endpoints", {"VpcEndpointIds": ["<logs>"]}),
    refused("ec2.delete_security_group", "the group of an interface endpoint that was just deleted", {"GroupId": "<group3>"}, IN_USE, "has a dependent object", source=LINGERING),
    refused("ec2.delete_subnet", "the subnet of an interface endpoint that was just deleted", {"SubnetId": "<subnet2>"}, IN_USE, "has dependencies and cannot be deleted", source=LINGERING),
    refused("ec2.delete_vpc", "a VPC that is not empty", {"VpcId": "<vpc>"}, IN_USE, "has dependencies and cannot be deleted"),
]  # fmt: skip
