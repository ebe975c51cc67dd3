"""The public SSM parameters and AMIs that every AWS account can read and that moto lacks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

from moto.ec2.models.amis import Ami
from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket
from moto.ssm.models import Parameter

from sandbox.state import ACCOUNT
from sandbox.world import World

GPU = "Supported EC2 instances: G4dn, G5, G6, Gr6, G6e, P4d, P4de, P5, P5e, P5en, P6-B200. Release notes: https://docs.aws.amazon.com/dlami/"
ARM = "Supported EC2 instances: G5g. Release notes: https://docs.aws.amazon.com/dlami/"
PATH = "/aws/service/deeplearning/ami"


@dataclass(frozen=True)
class Image:
    """A Deep Learning AMI. `parameter_name` is the part of its parameter's path that names it."""

    ident: str
    architecture: str
    parameter_name: str
    name: str
    description: str
    created_on: date
    deprecated_on: date
    disk_gib: int = 75


IMAGES = (
    Image("ami-0f0e0d0c0b0a09080", "x86_64", "oss-nvidia-driver-gpu-pytorch-2.12-ubuntu-24.04",
          "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.12 (Ubuntu 24.04) 20261101", GPU, date(2026, 11, 1), date(2028, 11, 1)),
    Image("ami-0a1b2c3d4e5f60718", "x86_64", "oss-nvidia-driver-gpu-pytorch-2.9-ubuntu-24.04",
          "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.9 (Ubuntu 24.04) 20260610", GPU, date(2026, 6, 10), date(2028, 6, 10)),
    Image("ami-0123456789abcdef0", "x86_64", "oss-nvidia-driver-gpu-pytorch-2.6-ubuntu-22.04",
          "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.6 (Ubuntu 22.04) 20241120", GPU, date(2024, 11, 20), date(2026, 11, 20)),
    Image("ami-0b0b0b0b0b0b0b0b0", "x86_64", "base-oss-nvidia-driver-gpu-ubuntu-24.04",
          "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) 20261105", GPU, date(2026, 11, 5), date(2028, 11, 5), 65),
    Image("ami-0c0c0c0c0c0c0c0c0", "arm64", "oss-nvidia-driver-gpu-pytorch-2.10-amazon-linux-2023",
          "Deep Learning ARM64 AMI OSS Nvidia Driver GPU PyTorch 2.10 (Amazon Linux 2023) 20260901", ARM, date(2026, 9, 1), date(2028, 9, 1)),
)  # fmt: skip


def seed_account(world: World) -> None:
    """Add the Deep Learning AMIs and the parameters that name them.

    They go straight into moto's stores, because PutParameter refuses names below /aws/.
    """
    stop_moto_deciding_by_bucket_policies()
    for image in IMAGES:
        if image.ident not in world.backend("ec2").amis:  # a restored account has them
            put_image(world.backend("ec2"), image)
        put_parameter(world.backend("ssm"), f"{PATH}/{image.architecture}/{image.parameter_name}/latest/ami-id", image)


class Dlami(Ami):
    """A Deep Learning AMI, with a deprecation date and a root volume of its own size."""

    disk_gib: int
    deprecation_time: str

    @property
    def block_device_mappings(self) -> list[dict[str, Any]]:
        (root,) = super().block_device_mappings
        return [root | {"Ebs": root["Ebs"] | {"VolumeSize": self.disk_gib, "VolumeType": "gp3"}}]


def put_image(ec2: Any, image: Image) -> None:
    ec2.amis[image.ident] = made = Dlami(
        ec2, image.ident, name=image.name, description=image.description, owner_id="898082745236", public=True,
        virtualization_type="hvm", architecture=image.architecture, root_device_type="ebs", root_device_name="/dev/sda1",
        creation_date=datetime.combine(image.created_on, time(), UTC),
    )  # fmt: skip
    made.disk_gib, made.deprecation_time = image.disk_gib, f"{image.deprecated_on}T00:00:00.000Z"


def put_parameter(ssm: Any, name: str, image: Image) -> None:
    parameter: dict[str, Any] = {
        "name": name, "value": image.ident, "parameter_type": "String", "description": None, "allowed_pattern": None, "keyid": None,
        "account_id": ACCOUNT, "last_modified_date": datetime.combine(image.created_on, time(), UTC).timestamp(), "version": 1,
        "data_type": "text",
    }  # fmt: skip
    ssm._parameters[name].append(Parameter(**parameter))  # type: ignore[abstract]


def stop_moto_deciding_by_bucket_policies() -> None:
    """Keep moto from evaluating bucket policies: it ignores conditions, so a deny of requests without TLS would deny everything.

    sandbox.iam.enforce evaluates them before moto sees the call.
    """
    FakeBucket.get_permission = lambda self, action, resource: PermissionResult.NEUTRAL  # type: ignore[method-assign]
