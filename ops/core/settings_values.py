"""The types of the settings' values: what each text may look like, and how great each number may be."""

from __future__ import annotations

import re
import unicodedata
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ops.core.nearest import find_nearest

# torchvision's classification architectures and resnet_tiny; a test compares the file with torchvision's own list.
ARCHITECTURES = tuple(Path(__file__).with_name("architectures.txt").read_text(encoding="utf-8").split())
PRIVATE = tuple(IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"))
LONGEST_TEXT = 1024
HOST = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
LONGEST_HOSTS = 2048  # Lambda's environment has 4 KB
LONGEST_NAME = 255  # bytes of a file's name, on all usual file systems


def check_text(value: str) -> str:
    """Return the text unchanged. Raises ValueError for a control character, blanks at an end, and more than 1,024 letters."""
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"must have at most {LONGEST_TEXT} letters; it has {len(value)}")
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in value):
        raise ValueError("must not contain control characters or line ends")
    if value != value.strip():
        raise ValueError("must not begin or end with blanks")
    return value


def check_path(value: str) -> str:
    """Return the path unchanged. Raises ValueError for one that no file system takes."""
    if any(len(part.encode()) > LONGEST_NAME for part in check_text(value).split("/")):
        raise ValueError(f"must be a path; each of its names has at most {LONGEST_NAME} bytes")
    return value


def check_architecture(value: str) -> str:
    """Return the name of an architecture unchanged. Raises ValueError, with the nearest name, for any other text."""
    if value in ARCHITECTURES:
        return value
    near = find_nearest(value[:100], ARCHITECTURES, cutoff=0.5)
    hint = f"; did you mean {near}?" if near else "."
    raise ValueError(f"unknown architecture{hint} It must be resnet_tiny or one of torchvision's for classification")


def check_network(value: str) -> str:
    """Return the VPC's addresses unchanged. Raises ValueError for what AWS refuses, or what cannot be split into 16 subnets."""
    try:
        network = IPv4Network(value)
    except ValueError:
        raise ValueError("must be an IPv4 network without host bits, such as 10.20.0.0/16") from None
    if "/" not in value or not 16 <= network.prefixlen <= 24:
        raise ValueError("must be a network between /16, the largest that AWS takes, and /24, such as 10.20.0.0/16")
    if not any(network.subnet_of(private) for private in PRIVATE):
        raise ValueError("must be a network of private addresses, such as 10.20.0.0/16")
    return value


def check_distinct(values: list[str]) -> list[str]:
    """Return the list unchanged. Raises ValueError for a value that stands in it twice."""
    twice = sorted({str(value) for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"must not name {twice[0]} twice")
    return values


def check_weights(value: str) -> str:
    """Return the file's path, none or imagenet unchanged. Raises ValueError for what cannot be initial weights."""
    if value in ("none", "imagenet") or check_path(value).endswith((".pth", ".safetensors")):
        return value
    raise ValueError("must be none, imagenet, or the path of a .pth or .safetensors file")


def check_fetched_hosts(value: object) -> object:
    """Return off, public, or the hosts' names with commas, as the function's environment has them. Raises ValueError.

    YAML takes the word off for false.
    """
    if value is False or value in ("off", "public"):
        return value or "off"
    hosts = value.split(",") if isinstance(value, str) else value
    if (
        not isinstance(hosts, list)
        or not hosts
        or not all(isinstance(host, str) and HOST.fullmatch(host) for host in hosts)
    ):
        raise ValueError("must be off, public, or a list of hosts in small letters, such as upload.wikimedia.org")
    if len(",".join(check_distinct(hosts))) > LONGEST_HOSTS:
        raise ValueError(f"must have at most {LONGEST_HOSTS} letters, with commas: Lambda's environment is small")
    return ",".join(hosts)


Text = Annotated[str, AfterValidator(check_text)]
NonEmptyText = Annotated[Text, Field(min_length=1)]
FilePath = Annotated[str, AfterValidator(check_path)]
NonEmptyPath = Annotated[FilePath, Field(min_length=1)]
Distinct = AfterValidator(check_distinct)

# No hyphen: it ends the stack's name, so that kennel-demo-* matches the stack demo alone. At most 20: the longest name must stay under 63.
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,19}$")]
# A path that does not lead out of its folder
PathBelow = Annotated[str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$", max_length=200)]
Url = Annotated[Text, Field(pattern=r"^https?://[^\s/?#]+")]
FetchedHosts = Annotated[str, BeforeValidator(check_fetched_hosts)]
Schedule = Annotated[  # as AWS writes them; cron: minutes hours day-of-month month day-of-week year
    str,
    Field(
        pattern=r"^(at\(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\)|rate\([1-9]\d* (minute|hour|day)s?\)|cron\(([A-Z0-9*?,/L#W-]+ ){5}[0-9*,/-]+\))$",
        max_length=256,
    ),
]
Account = Annotated[str, Field(pattern=r"^[0-9]{12}$")]
Region = Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+){1,3}-[0-9]$", max_length=30)]
Zone = Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+){1,3}-[0-9][a-z]$", max_length=31)]
EndpointService = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*(\.[a-z0-9-]+)*$", max_length=63)]
InstanceType = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,19}\.[a-z0-9-]{1,20}$")]
HostedInstanceType = Annotated[str, Field(pattern=r"^ml\.[a-z][a-z0-9-]{0,19}\.[a-z0-9]{1,20}$")]
AmiParameter = Annotated[str, Field(pattern=r"^(/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*)?$", max_length=1011)]
Architecture = Annotated[str, AfterValidator(check_architecture)]
Weights = Annotated[str, AfterValidator(check_weights)]
# NAME:TAG of AWS's registry in the region, or the whole name of an image in ECR
Image = Annotated[
    str,
    Field(
        pattern=r"^([0-9]{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com/[a-z0-9._-]+|[a-z0-9_-]+)(/[a-z0-9._-]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]*|@sha256:[0-9a-f]{64})$",
        max_length=255,
    ),
]
# The platform tag of a wheel
Platform = Annotated[str, Field(pattern=r"^([a-z][a-z0-9]*(_[a-z0-9]+)+)?$", max_length=64)]
Python = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.~/+-]+$", max_length=255)]
Variant = Annotated[str, Field(pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9])*$", max_length=63)]
Network = Annotated[str, AfterValidator(check_network)]
# GitHub's subjects write owner/repository, and owner@id/repository@id for repositories made since 2026-07-15. In a trust policy: no wildcards.
Repository = Annotated[
    str,
    Field(
        pattern=r"^([A-Za-z0-9-]+/[A-Za-z0-9._-]+|[A-Za-z0-9-]+@[1-9][0-9]*/[A-Za-z0-9._-]+@[1-9][0-9]*)$",
        max_length=180,
    ),
]
# The name of a permission set of IAM Identity Center. In a trust policy: no wildcards.
PermissionSet = Annotated[str, Field(pattern=r"^[A-Za-z0-9_+=,.@-]{1,32}$")]
Runtime = Literal["python3.10", "python3.11", "python3.12", "python3.13", "python3.14"]
# The periods that CloudWatch Logs takes
LogDays = Literal[
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653
]

# Numbers. Where AWS has no limit, the top is far above any use, and small enough for the arithmetic that follows.
Gibibytes = Annotated[int, Field(ge=1, le=65_536)]  # the largest volume of EBS
JobSeconds = Annotated[int, Field(ge=1, le=432_000)]  # the longest job of SageMaker
Hours = Annotated[int, Field(ge=1, le=87_600)]  # ten years
ShardMebibytes = Annotated[int, Field(ge=1, le=5_120)]  # the largest object that S3 takes at once
Pictures = Annotated[int, Field(ge=0, le=10**9)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
Patience = Annotated[int, Field(ge=0, le=100_000)]
Batch = Annotated[int, Field(ge=1, le=65_536)]
Rate = Annotated[float, Field(gt=0, le=100)]
Decay = Annotated[float, Field(ge=0, le=100)]
Views = Annotated[int, Field(ge=0, le=1_000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # NumPy's bound
Threads = Annotated[int, Field(ge=1, le=1_024)]
Hosts = Annotated[int, Field(ge=1, le=1_000)]
Requests = Annotated[int, Field(ge=1, le=10**6)]
Requested = Annotated[float, Field(gt=0, le=10**6)]
Cooldown = Annotated[int, Field(ge=0, le=86_400)]
Milliseconds = Annotated[int, Field(ge=1, le=3_600_000)]
Concurrency = Annotated[int, Field(ge=0, le=10_000)]
