"""The answers of EC2 about instances, and of SSM about the images of instances."""

from __future__ import annotations

from typing import Any

from sandbox.fidelity.case import Case, answered, prepare, refused

SOURCE = "documented: EC2 API reference, error codes; words as public logs show them"
IMAGES = "/aws/service/deeplearning/ami/x86_64"
KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJSoqmH2Zp9PqjvTkv5d9Ft8qsGMGWsMzUiPS8kXbJxv x"
LAUNCH: dict[str, Any] = {
    "ImageId": "<image>", "InstanceType": "g4dn.xlarge", "MinCount": 1, "MaxCount": 1, "SubnetId": "<subnet>", "ClientToken": "score-1",
}  # fmt: skip
DISK = [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 1}}]
STATE = "Reservations.0.Instances.0.State.Name"
BAD, STATE_ERROR = "InvalidParameterValue", "IncorrectInstanceState"


def launch(number: int, **other: Any) -> dict[str, Any]:
    """Return the launch with its own token and these parameters in place of the usual ones."""
    return {**LAUNCH, "ClientToken": f"score-{number}", **other}


CASES: list[Case] = [
    prepare("ec2.create_vpc", {"CidrBlock": "10.78.0.0/16"}, keep={"vpc": "Vpc.VpcId"}),
    prepare("ec2.create_subnet", {"VpcId": "<vpc>", "CidrBlock": "10.78.0.0/20", "AvailabilityZone": "us-east-1a"}, keep={"subnet": "Subnet.SubnetId"}),
    refused("ec2.describe_key_pairs", "a missing key pair", {"KeyNames": ["none"]}, "InvalidKeyPair.NotFound", "The key pair 'none' does not exist"),
    refused("ec2.import_key_pair", "no key", {"KeyName": "b", "PublicKeyMaterial": b"no key"}, "InvalidKey.Format", "Key is not in valid OpenSSH public key format"),
    prepare("ec2.import_key_pair", {"KeyName": "score", "PublicKeyMaterial": KEY}),
    refused("ec2.import_key_pair", "a name that is taken", {"KeyName": "score", "PublicKeyMaterial": KEY}, "InvalidKeyPair.Duplicate", "The keypair already exists"),
    prepare("ssm.get_parameters_by_path", {"Path": IMAGES, "Recursive": True}, keep={"image": "Parameters.0.Value"}),
    answered("ec2.run_instances", "a new instance", LAUNCH, keep={"instance": "Instances.0.InstanceId"}, equals={"Instances.0.State.Name": "pending"}),
    answered("ec2.run_instances", "the same launch again", LAUNCH, equals={"Instances.0.InstanceId": "<instance>"}),
    refused("ec2.run_instances", "the same token with other parameters", {**LAUNCH, "InstanceType": "g5.xlarge"}, "IdempotentParameterMismatch"),
    refused("ec2.run_instances", "a missing image", launch(2, ImageId="ami-0fedcba9876543210"), "InvalidAMIID.NotFound", "does not exist"),
    refused("ec2.run_instances", "an image id that is none", launch(3, ImageId="ami-xyz"), "InvalidAMIID.Malformed"),
    refused("ec2.run_instances", "an unknown instance type", launch(4, InstanceType="zz.large"), BAD, "Invalid value 'zz.large' for InstanceType"),
    refused("ec2.run_instances", "a missing key pair", launch(5, KeyName="none"), "InvalidKeyPair.NotFound", "The key pair 'none' does not exist"),
    refused("ec2.run_instances", "a missing instance profile", launch(6, IamInstanceProfile={"Name": "none"}), BAD, "Invalid IAM Instance Profile name"),
    refused("ec2.run_instances", "a disk that is smaller than the image's", launch(7, BlockDeviceMappings=DISK), "InvalidBlockDeviceMapping", "smaller than snapshot"),
    refused("ec2.run_instances", "a type of another architecture", launch(8, InstanceType="g5g.xlarge"), BAD, "architecture"),
    refused("ec2.run_instances", "17 kB of user data", launch(9, UserData="x" * 17000), BAD, "User data is limited to 16384 bytes"),
    refused("ec2.describe_instances", "a missing instance", {"InstanceIds": ["i-0123456789abcdef0"]}, "InvalidInstanceID.NotFound", "The instance ID 'i-0123456789abcdef0' does not exist"),
    refused("ec2.describe_instances", "an id that is none", {"InstanceIds": ["i-zz"]}, "InvalidInstanceID.Malformed", "Invalid id"),
    refused("ec2.describe_images", "a missing image", {"ImageIds": ["ami-0fedcba9876543210"]}, "InvalidAMIID.NotFound"),
    refused("ec2.describe_instance_types", "an unknown type", {"InstanceTypes": ["zz.large"]}, "InvalidInstanceType", "do not exist"),
    prepare("ec2.describe_instances", {"InstanceIds": ["<instance>"]}, until={STATE: "running"}),
    refused("ec2.modify_instance_attribute", "another type while it runs", {"InstanceId": "<instance>", "InstanceType": {"Value": "g5.xlarge"}}, STATE_ERROR),
    prepare("ec2.terminate_instances", {"InstanceIds": ["<instance>"]}),
    prepare("ec2.describe_instances", {"InstanceIds": ["<instance>"]}, until={STATE: "terminated"}),
    refused("ec2.start_instances", "a terminated instance", {"InstanceIds": ["<instance>"]}, STATE_ERROR),
    refused("ec2.run_instances", "the token of a terminated instance", LAUNCH, "IdempotentInstanceTerminated"),
    refused("ssm.get_parameter", "a missing parameter", {"Name": f"{IMAGES}/none/latest/ami-id"}, "ParameterNotFound"),
]  # fmt: skip
