"""Deep Learning AMIs: list them, compute how long AWS supports them, and check which instance types they run on.

AWS names the newest image of each variant in a public SSM parameter: PATH/ARCHITECTURE/VARIANT/latest/ami-id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from ops.core import pricing
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.files import write_atomically
from ops.core.nearest import find_nearest

PATH = "/aws/service/deeplearning/ami"
VARIANT = re.compile(r"oss-nvidia-driver-gpu-pytorch-(\d+)\.(\d+)-([a-z0-9.-]+)")
FAMILIES = re.compile(r"Supported EC2 instances?: ([\w, -]+)")
# AWS patches the images of a PyTorch version until these dates, a year from a release, by its support policy page as of 2026-04.
# For other versions, only the image's own deprecation date is known.
END_OF_PATCH = {
    (2, 6): date(2026, 1, 29), (2, 7): date(2026, 4, 23), (2, 8): date(2026, 8, 6), (2, 9): date(2026, 10, 15), (2, 10): date(2027, 1, 21),
}  # fmt: skip

# The settings' line `ami:` pins the image of the next box, in the file that people read and commit.
PIN = re.compile(r"^(?P<indent>[ \t]+)ami:[ \t]*(?:\"[^\"]*\"|'[^']*'|[^#\s]*)[ \t]*(?P<comment>#.*)?$", re.M)


@dataclass(frozen=True)
class InstanceTypeInfo:
    """An instance type: the architectures that its processor supports, and how many vCPUs it has."""

    processors: tuple[str, ...]
    vcpus: int


@dataclass(frozen=True)
class Image:
    """An AMI. `families` are the instance families, in small letters, that its description names; `least_gib` is its snapshot's size."""

    image_id: str
    name: str
    architecture: str
    families: tuple[str, ...]
    least_gib: int
    root: str
    made: date
    deprecated: date | None
    pytorch: tuple[int, int] | None = None

    def compute_support_end(self) -> date | None:
        """Return the earlier known end of support: AWS patches a PyTorch version for a year, and deprecates an image after two."""
        known = [day for day in (self.deprecated, END_OF_PATCH.get(self.pytorch or (0, 0))) if day]
        return min(known) if known else None

    @property
    def user(self) -> str:
        """Return the image's login user, which differs by operating system."""
        return "ubuntu" if "Ubuntu" in self.name else "ec2-user"

    def explain_incompatibility(self, instance_type: str, architectures: tuple[str, ...]) -> str:
        """Return why the image does not run on a type whose processor has these architectures, or ""."""
        if self.architecture not in architectures:
            return f"{self.image_id} is for {self.architecture}, but {instance_type} is {' or '.join(architectures)}"
        family = instance_type.split(".")[0]
        if self.families and not any(re.fullmatch(f"{f}d?", family) for f in self.families):  # P4 means P4d
            return f"{self.image_id} ({self.name}) runs on {', '.join(self.families)}, not on {family}"
        return ""


def choose_image(account: Account, instance_type: str) -> Image:
    """Return the image that the settings pin, or else the newest that suits the instance type. Raises OpsError."""
    settings = account.settings.ec2
    if settings.ami:
        return read_images(account, [settings.ami])[0]
    if settings.ami_parameter:
        found = account.call_or_none("ssm", "get_parameter", "ParameterNotFound", Name=settings.ami_parameter)
        if found is None:
            raise OpsError(
                f"There is no image parameter {settings.ami_parameter} in {account.settings.aws.region}. "
                "Leave ec2.ami_parameter empty for the newest image, or list the images: invoke ec2.ami"
            )
        return read_images(account, [found["Parameter"]["Value"]])[0]
    suitable = list_suitable_images(account, instance_type)
    if not suitable:
        raise OpsError(
            f"No Deep Learning AMI is published below {PATH} in {account.settings.aws.region}. Name one in ec2.ami_parameter."
        )
    return suitable[0]


def list_suitable_images(account: Account, instance_type: str) -> list[Image]:
    """Return PyTorch's images for the instance type's processor: those that AWS still patches first, then by PyTorch version, the newest first."""
    system = "ubuntu" if account.settings.ec2.user == "ubuntu" else "amazon-linux"
    named = set()
    for architecture in describe_instance_types(account, [instance_type])[instance_type].processors:
        path = f"{PATH}/{architecture}"
        for parameter in account.list_all("ssm", "get_parameters_by_path", "Parameters", Path=path, Recursive=True):
            found = VARIANT.match(parameter["Name"].removeprefix(path + "/"))
            if found and found[3].startswith(system):
                named.add(parameter["Value"])
    images = read_images(account, sorted(named)) if named else []
    today = datetime.now(UTC).date()

    def rank(image: Image) -> tuple[bool, tuple[int, int], date]:
        until = image.compute_support_end()
        return (until is None or until >= today, image.pytorch or (0, 0), image.made)

    return sorted(images, key=rank, reverse=True)


def find_newest_image(account: Account) -> Image:
    """Return the newest image that suits the settings' first instance type. Raises OpsError when there is none."""
    found = list_suitable_images(account, account.settings.ec2.instance_types[0])
    if not found:
        raise OpsError("No published image suits the first of ec2.instance_types. List the images: invoke ec2.ami")
    return found[0]


def read_images(account: Account, image_ids: list[str]) -> list[Image]:
    """Return these images as EC2 describes them. Raises OpsError when one does not exist (any more)."""
    found = account.call_or_none("ec2", "describe_images", "InvalidAMIID", ImageIds=image_ids)
    if found is None or not found["Images"]:
        raise OpsError(
            f"There is no image {', '.join(image_ids)} in {account.settings.aws.region}: it was withdrawn, or is in another region. "
            "Pin the newest: invoke ec2.ami --lock"
        )
    return [from_response(image) for image in found["Images"]]


def from_response(image: dict[str, Any]) -> Image:
    """Return an image of a DescribeImages response. Its description names instance families, its name the PyTorch version."""
    families = FAMILIES.search(image.get("Description", "") or "")
    version = re.search(r"PyTorch (\d+)\.(\d+)", image.get("Name", ""))
    root = next(
        (m for m in image["BlockDeviceMappings"] if m.get("DeviceName") == image.get("RootDeviceName") and "Ebs" in m),
        None,
    )
    return Image(
        image["ImageId"],
        image.get("Name", ""),
        image["Architecture"],
        tuple(word.strip().lower() for word in families[1].split(",") if word.strip()) if families else (),
        root["Ebs"].get("VolumeSize", 0) if root else 0,
        image.get("RootDeviceName", "/dev/sda1"),
        parse_day(image["CreationDate"]),
        parse_day(image["DeprecationTime"]) if image.get("DeprecationTime") else None,
        (int(version[1]), int(version[2])) if version else None,
    )


def parse_day(text: str) -> date:
    return date.fromisoformat(text[:10])


def describe_instance_types(account: Account, names: list[str]) -> dict[str, InstanceTypeInfo]:
    """Return what EC2 says about instance types, by name. Raises OpsError for a type that EC2 does not have."""
    found = {}
    for name in names:
        answer = account.call_or_none("ec2", "describe_instance_types", "InvalidInstanceType", InstanceTypes=[name])
        if answer is None or not answer["InstanceTypes"]:
            raise OpsError(
                f"EC2 has no instance type {name!r} in {account.settings.aws.region}.{suggest_type(name)} Nothing was started."
            )
        one = answer["InstanceTypes"][0]
        found[name] = InstanceTypeInfo(
            tuple(one["ProcessorInfo"]["SupportedArchitectures"]), one["VCpuInfo"]["DefaultVCpus"]
        )
    return found


def suggest_type(name: str) -> str:
    near = find_nearest(name, pricing.read_prices()["ec2"], cutoff=0.6)
    return f" Did you mean {near}?" if near else ""


def check(account: Account, image: Image, instance_types: dict[str, InstanceTypeInfo]) -> None:
    """Check, before any launch, that the image fits the instance types and the disk. Raises OpsError."""
    for name, info in instance_types.items():
        if why := image.explain_incompatibility(name, info.processors):
            raise OpsError(
                f"{why}. Nothing was started. Choose another image: invoke ec2.ami; or other types: ec2.instance_types"
            )
    disk = account.settings.ec2.disk_gib
    if disk < image.least_gib:
        raise OpsError(
            f"ec2.disk_gib is {disk}, but {image.image_id} has a snapshot of {image.least_gib} GiB. Nothing was started. "
            f"Set ec2.disk_gib to {image.least_gib + 25} or more."
        )


def judge_image(one: Image, instance_types: dict[str, InstanceTypeInfo], disk_gib: int) -> dict[str, Any]:
    """Return age in days, end of support, and the problems of the image (or ""), for people and for --json."""
    today, until = datetime.now(UTC).date(), one.compute_support_end()
    problems = [
        why for name, info in instance_types.items() if (why := one.explain_incompatibility(name, info.processors))
    ]
    if until and until < today:
        problems.append(f"not patched since {until}")
    if disk_gib < one.least_gib:
        problems.append(f"needs {one.least_gib} GiB of disk, but ec2.disk_gib is {disk_gib}")
    return {
        "image": one.image_id,
        "name": one.name,
        "age_days": (today - one.made).days,
        "supported_until": str(until or "unknown"),
        "problem": "; ".join(problems),
    }


def pin_image(path: Path, image: Image) -> Path:
    """Write the image into the one `ami:` line of the section ec2, and leave the rest unchanged. Raises OpsError without that line."""
    text = path.read_text()
    section = re.search(r"^ec2:[^\n]*\n(?:[ \t]+[^\n]*\n|[ \t]*\n|#[^\n]*\n)*", text, re.M)
    lines = list(PIN.finditer(section[0])) if section else []
    if section is None or len(lines) != 1:
        raise OpsError(
            f'{path} has no line `ami: ""` under ec2: to write into. Add one, then run: invoke ec2.ami --lock'
        )
    indent = lines[0]["indent"]
    line = f"{indent}ami: {image.image_id}  # locked {datetime.now(UTC):%Y-%m-%d}: {image.name}"
    start = section.start() + lines[0].start()
    new = text[:start] + line + text[section.start() + lines[0].end() :]
    write_atomically(path, new.encode(), mode=path.stat().st_mode & 0o777)
    return path


def judge_all(account: Account) -> list[dict[str, Any]]:
    """Judge the image that a launch would use, and then the others that suit the first instance type."""
    settings = account.settings.ec2
    instance_types, first = describe_instance_types(account, settings.instance_types), settings.instance_types[0]
    chosen = choose_image(account, first)
    others = [one for one in list_suitable_images(account, first) if one.image_id != chosen.image_id]
    return [judge_image(one, instance_types, settings.disk_gib) for one in (chosen, *others)]
