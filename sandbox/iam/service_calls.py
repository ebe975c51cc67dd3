"""The calls that AWS's services make with a role: read models, pull images, join networks, write logs.

Each is authorised and recorded like a call by the role itself. All but can_write_logs raise enforce.Denied.
"""

from __future__ import annotations

from typing import Any

from sandbox.iam.enforce import Denied, Need, enforce_needs
from sandbox.iam.principals import build_role_identity
from sandbox.state import ACCOUNT, REGION
from sandbox.world import World


def authorize_as_role(world: World, role: str, session: str, *wanted: Need) -> None:
    enforce_needs(world, build_role_identity(world, role, session[:64]), list(wanted))


def can_write_logs(world: World, role: str, session: str, group: str, stream: str) -> bool:
    """Return whether the service may write logs with the role; if it may not, AWS continues without logs."""
    of_group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:log-stream:"
    wanted = [Need("logs:CreateLogStream", f"{of_group}{stream}"), Need("logs:PutLogEvents", f"{of_group}{stream}")]
    if group not in world.backend("logs").groups:
        wanted.insert(0, Need("logs:CreateLogGroup", of_group))
    try:
        authorize_as_role(world, role, session, *wanted)
    except Denied as denied:
        world.note(f"{group} {stream}: the role may not write logs: {denied}")
        return False
    return True


def authorize_image_pull(world: World, role: str, session: str, image: str) -> None:
    """Check that the role may pull an image of ECR: ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG."""
    registry, _, name = image.partition("/")
    account, _, _, region, *_ = registry.split(".")
    repository = f"arn:aws:ecr:{region}:{account}:repository/{name.partition('@')[0].partition(':')[0]}"
    actions = ("BatchCheckLayerAvailability", "GetDownloadUrlForLayer", "BatchGetImage")
    authorize_as_role(
        world,
        role,
        session,
        Need("ecr:GetAuthorizationToken", "*"),
        *(Need(f"ecr:{action}", repository) for action in actions),
    )


def authorize_vpc_join(world: World, role: str, session: str, vpc: dict[str, Any] | None) -> None:
    """Check that the role may make network interfaces for SageMaker's hosts in the customer's subnets."""
    if not vpc:
        return
    ec2 = f"arn:aws:ec2:{REGION}:{ACCOUNT}:"
    looks = (
        "DescribeDhcpOptions",
        "DescribeNetworkInterfaces",
        "DescribeSecurityGroups",
        "DescribeSubnets",
        "DescribeVpcs",
    )
    wanted = [Need(f"ec2:{action}", "*") for action in looks]
    wanted.append(Need("ec2:CreateNetworkInterface", f"{ec2}network-interface/*"))
    wanted += [Need("ec2:CreateNetworkInterface", f"{ec2}subnet/{ident}") for ident in vpc.get("Subnets", [])]
    wanted += [
        Need("ec2:CreateNetworkInterface", f"{ec2}security-group/{ident}") for ident in vpc.get("SecurityGroupIds", [])
    ]
    interface = f"{ec2}network-interface/eni-0"
    wanted += [
        Need(f"ec2:{action}", interface)
        for action in ("CreateNetworkInterfacePermission", "DeleteNetworkInterface", "DeleteNetworkInterfacePermission")
    ]
    authorize_as_role(world, role, session, *wanted)


def authorize_object_read(world: World, role: str, session: str, url: str) -> None:
    """Check that the role may read one object, s3://BUCKET/KEY."""
    authorize_as_role(world, role, session, Need("s3:GetObject", f"arn:aws:s3:::{url.removeprefix('s3://')}"))


def authorize_alarm_read(world: World, role: str, session: str) -> None:
    authorize_as_role(
        world, role, session, Need("cloudwatch:DescribeAlarms", f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:*")
    )
