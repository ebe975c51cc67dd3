"""What an AWS account finds ready-made: public parameters and images that moto does not ship."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sandbox.state import ACCOUNT
from sandbox.world import World

AMI = "ami-0f0e0d0c0b0a09080"
DLAMI = "/aws/service/deeplearning/ami/x86_64/oss-nvidia-driver-gpu-pytorch-2.12-ubuntu-24.04/latest/ami-id"


def plant(world: World) -> None:
    """A Deep Learning AMI and the parameter that names it: PutParameter refuses /aws/..., so straight into moto's store."""
    from moto.ec2.models.amis import Ami
    from moto.ssm.models import Parameter

    leave_bucket_policies_alone()
    ec2, ssm = world.backend("ec2"), world.backend("ssm")
    ec2.amis[AMI] = Ami(
        ec2, AMI, name="Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.12 (Ubuntu 24.04) 20261101", owner_id="898082745236", public=True,
        virtualization_type="hvm", architecture="x86_64", root_device_type="ebs", root_device_name="/dev/sda1",
        creation_date=datetime(2026, 11, 1, tzinfo=UTC),
    )  # fmt: skip
    made: dict[str, Any] = {
        "name": DLAMI,
        "value": AMI,
        "parameter_type": "String",
        "description": None,
        "allowed_pattern": None,
        "keyid": None,
    }
    made |= {
        "account_id": ACCOUNT,
        "last_modified_date": datetime(2026, 11, 1, tzinfo=UTC).timestamp(),
        "version": 1,
        "data_type": "text",
    }
    ssm._parameters[DLAMI].append(Parameter(**made))  # type: ignore[abstract]


def leave_bucket_policies_alone() -> None:
    """moto evaluates bucket policies without their conditions: "deny what is not TLS" would then deny everything.

    Until the sandbox decides calls itself, bucket policies are kept and shown, and deny nothing (sandbox/README.md).
    """
    from moto.iam.access_control import PermissionResult
    from moto.s3.models import FakeBucket

    FakeBucket.get_permission = lambda self, action, resource: PermissionResult.NEUTRAL  # type: ignore[method-assign]
