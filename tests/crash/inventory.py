"""What an account has, as lines that are equal for two runs: without ids, addresses and dates."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from ops.core import lease
from ops.core.aws.account import Account

IDS = re.compile(
    r"\b(vpc-cidr-assoc|iip-assoc|vpc|subnet|sg|sgr|rtb|rtbassoc|acl|aclassoc|igw|i|eni|vpce|eice|vol|key|sir|r|eipassoc|eipalloc|eigw|dopt|vol)-[0-9a-f]{8,32}\b"
)
DATES = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:?\d\d)?")
RANDOM = re.compile(r'"[A-Za-z]*(AttachmentCount|RoleId|PolicyId|InstanceProfileId|ETag|VersionId|RevisionId|ClientToken|Time|Date|Timestamp|timestamp|Token|Sha256|Reason|Size|SizeBytes|IpAddress|DnsName|KeyFingerprint|OwnerId|PublicIp|PrivateIpAddresses|bytes|createdAt|Digest|Dns|RoleLastUsed)": ("[^"]*"|[\d.]+|\{[^{}]*\}|null)(, )?')  # fmt: skip
# The lease, the history, in which a deployment that was killed stays as unfinished, and what SageMaker writes.
LEFT_OUT = re.compile(rf"{lease.KEY}|deployments/|jobs/[^/]*/output/|checkpoints/")
ENDED = ("terminated", "shutting-down", "deleted", "deleting")


class Inventory:
    """Reads one account. Each section yields (kind, resource)."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.prefix, self.bucket = account.settings.prefix, account.settings.bucket

    def read(self, sections: str) -> list[str]:
        """Return the sorted lines of these sections, such as "ec2 s3"."""
        lines = []
        for section in sections.split():
            for kind, resource in getattr(self, f"read_{section}")():
                lines.append(f"{kind} {normalise(resource)}".replace(self.account.settings.stack.name, "STACK"))
        return sorted(lines)

    def call(self, service: str, call: str, **args: Any) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self.account.client(service), call)(**args)
        answer.pop("ResponseMetadata", None)
        return answer

    def call_or_nothing(self, service: str, call: str, **args: Any) -> dict[str, Any]:
        try:
            return self.call(service, call, **args)
        except ClientError as error:
            return {"absent": error.response["Error"]["Code"]}

    def read_iam(self) -> Iterator[tuple[str, Any]]:
        for page in self.account.client("iam").get_paginator("get_account_authorization_details").paginate():
            for role in page["RoleDetailList"]:
                if self.prefix in role["RoleName"]:
                    yield "role", role
            for policy in page["Policies"]:
                if self.prefix in policy["Arn"]:
                    policy["PolicyVersionList"] = [
                        one for one in policy["PolicyVersionList"] if one["IsDefaultVersion"]
                    ]
                    yield "policy", policy
        for profile in self.call("iam", "list_instance_profiles")["InstanceProfiles"]:
            if self.prefix in profile["InstanceProfileName"]:
                yield "instance profile", profile | {"Roles": [role["RoleName"] for role in profile["Roles"]]}

    def read_s3(self) -> Iterator[tuple[str, Any]]:
        where = {"Bucket": self.bucket}
        if "absent" in self.call_or_nothing("s3", "head_bucket", **where):
            return
        for part in ("policy", "encryption", "versioning", "tagging", "lifecycle_configuration"):
            yield f"bucket's {part}", self.call_or_nothing("s3", f"get_bucket_{part}", **where)
        yield "bucket's access", self.call_or_nothing("s3", "get_public_access_block", **where)
        for page in self.account.client("s3").get_paginator("list_objects_v2").paginate(**where):
            keys = [one["Key"] for one in page.get("Contents", [])]
            yield from (("key", key) for key in keys if not LEFT_OUT.match(key))
        for upload in self.call("s3", "list_multipart_uploads", **where).get("Uploads", []):
            yield "unfinished upload", upload["Key"]

    def read_ec2(self) -> Iterator[tuple[str, Any]]:
        for call, key in (
            ("describe_vpcs", "Vpcs"), ("describe_subnets", "Subnets"), ("describe_route_tables", "RouteTables"),
            ("describe_network_acls", "NetworkAcls"), ("describe_security_groups", "SecurityGroups"),
            ("describe_internet_gateways", "InternetGateways"), ("describe_vpc_endpoints", "VpcEndpoints"),
            ("describe_instance_connect_endpoints", "InstanceConnectEndpoints"), ("describe_key_pairs", "KeyPairs"),
            ("describe_volumes", "Volumes"),
        ):  # fmt: skip
            for one in self.call("ec2", call)[key]:
                if (
                    one.get("State") not in ENDED
                    and not one.get("IsDefault")
                    and not one.get("DefaultForAz")
                    and self.is_ours(one)
                ):
                    yield key, one
                if key == "Vpcs":
                    for name in ("enableDnsSupport", "enableDnsHostnames"):
                        yield name, self.call("ec2", "describe_vpc_attribute", VpcId=one["VpcId"], Attribute=name)
        for reservation in self.call("ec2", "describe_instances")["Reservations"]:
            for one in reservation["Instances"]:
                if one["State"]["Name"] not in ENDED and self.is_ours(one):
                    names = (
                        "InstanceType",
                        "ImageId",
                        "State",
                        "Tags",
                        "IamInstanceProfile",
                        "MetadataOptions",
                        "SubnetId",
                        "KeyName",
                    )
                    yield "instance", {name: one.get(name) for name in names}
        for one in self.call("ec2", "describe_spot_instance_requests")["SpotInstanceRequests"]:
            if one["State"] in ("open", "active") and self.is_ours(one):
                yield "spot request", {"State": one["State"], "Tags": one.get("Tags")}

    def is_ours(self, resource: dict[str, Any]) -> bool:
        """Return whether it has the tag of this stack, or of none."""
        tags = {tag["Key"]: tag["Value"] for tag in resource.get("Tags") or []}
        stack = self.account.settings.stack.name
        return tags.get("kennel:stack", stack) == stack

    def read_function(self) -> Iterator[tuple[str, Any]]:
        for function in self.call("lambda", "list_functions")["Functions"]:
            where = {"FunctionName": function["FunctionName"]}
            if self.prefix not in function["FunctionName"]:
                continue
            yield (
                "function",
                {name: function.get(name) for name in ("FunctionName", "Role", "MemorySize", "Timeout", "Runtime")},
            )
            for part in ("list_aliases", "get_function_concurrency", "get_policy", "list_function_url_configs"):
                yield part, self.call_or_nothing("lambda", part, **where)
            yield "provisioned", self.call_or_nothing("lambda", "list_provisioned_concurrency_configs", **where)
        yield from self.read_logs()

    def read_logs(self) -> Iterator[tuple[str, Any]]:
        for group in self.call("logs", "describe_log_groups")["logGroups"]:
            if "crash" not in group["logGroupName"] or self.prefix in group["logGroupName"]:
                yield "log group", {name: group.get(name) for name in ("logGroupName", "retentionInDays")}

    def read_endpoint(self) -> Iterator[tuple[str, Any]]:
        for call, key, fields in (
            ("list_endpoints", "Endpoints", ("EndpointName", "EndpointStatus")),
            ("list_endpoint_configs", "EndpointConfigs", ("EndpointConfigName",)),
            ("list_models", "Models", ("ModelName",)),
        ):
            for one in self.call("sagemaker", call, MaxResults=100)[key]:
                yield key, {name: one[name] for name in fields}
        for call, key in (
            ("describe_scalable_targets", "ScalableTargets"), ("describe_scaling_policies", "ScalingPolicies"),
            ("describe_scheduled_actions", "ScheduledActions"),
        ):  # fmt: skip
            for one in self.call("application-autoscaling", call, ServiceNamespace="sagemaker")[key]:
                one.pop("Alarms", None)
                yield key, {name: value for name, value in one.items() if "ARN" not in name}
        for alarm in self.call("cloudwatch", "describe_alarms")["MetricAlarms"]:
            yield (
                "alarm",
                {
                    name: alarm.get(name)
                    for name in ("Namespace", "MetricName", "Statistic", "Threshold", "AlarmActions")
                },
            )
        yield from self.read_logs()

    def read_jobs(self) -> Iterator[tuple[str, Any]]:
        for state in ("InProgress", "Stopping"):
            for _ in self.call("sagemaker", "list_training_jobs", MaxResults=100, StatusEquals=state)[
                "TrainingJobSummaries"
            ]:
                yield "job", state
        yield from self.read_logs()

    def read_images(self) -> Iterator[tuple[str, Any]]:
        for one in self.call("ecr", "describe_repositories")["repositories"]:
            name = one["repositoryName"]
            yield "repository", one
            images = self.call("ecr", "describe_images", repositoryName=name)["imageDetails"]
            yield "images", [image.get("imageTags") for image in images]
            yield "policy", self.call_or_nothing("ecr", "get_lifecycle_policy", repositoryName=name)
        for one in self.call("codebuild", "batch_get_projects", names=[f"{self.prefix}-image"])["projects"]:
            yield (
                "project",
                {name: one.get(name) for name in ("name", "source", "environment", "serviceRole", "logsConfig")},
            )
        yield from self.read_logs()


def normalise(resource: Any) -> str:
    """Return JSON in which ids have only their kind, dates and what AWS draws at random are left out, and lists are sorted."""
    text = json.dumps(sort_lists(resource), sort_keys=True, default=describe)
    return RANDOM.sub("", text)


def sort_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: sort_lists(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return sorted(
            (sort_lists(one) for one in value), key=lambda one: json.dumps(one, sort_keys=True, default=describe)
        )
    if isinstance(value, str):
        return DATES.sub("DATE", IDS.sub(r"\1-*", value))
    return value


def describe(value: Any) -> str:
    return "DATE" if isinstance(value, datetime) else repr(value)


def compare(want: list[str], have: list[str]) -> list[str]:
    """Return what is missing (-) and what is too much (+)."""
    lacking, surplus = list(want), []
    for line in have:
        if line in lacking:
            lacking.remove(line)
        else:
            surplus.append(line)
    return [f"- {line}" for line in lacking] + [f"+ {line}" for line in surplus]
