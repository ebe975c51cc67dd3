"""Which permissions a call takes: operation -> action, ARN, context keys, roles passed. enforce.py decides on each.

An operation without a row here is not part of the sandbox: it is answered 501, and so nothing gets by undecided.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sandbox import details
from sandbox.world import World


@dataclass(frozen=True)
class Row:
    """`arns` are templates with {Parameter}s, or the names of functions in details.py; all have to be allowed. `action` is told
    where it is not the operation's own name. `keys` maps a context key to a parameter's path, `passes` a parameter to the
    service that takes the role named there. `tagging` is the action that tags given at creation take besides.
    """

    arns: tuple[str, ...]
    action: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    passes: dict[str, str] = field(default_factory=dict)
    tagging: str = ""
    more: Callable[[World, dict[str, Any]], details.More] | None = None


def row(*arns: str, **more: Any) -> Row:
    return Row(arns or ("*",), **more)


def same(names: str, *arns: str, **more: Any) -> dict[str, Row]:
    """One row for several operations."""
    return dict.fromkeys(names.split(), row(*arns, **more))


VPC = {
    "sagemaker:VpcSubnets": "VpcConfig.Subnets",
    "sagemaker:VpcSecurityGroupIds": "VpcConfig.SecurityGroupIds",
}
TRAINING = VPC | {"sagemaker:InstanceTypes": "ResourceConfig.InstanceType"}
TUNING = {key: f"TrainingJobDefinition.{path}" for key, path in TRAINING.items()}
SCALING = {
    "application-autoscaling:service-namespace": "ServiceNamespace",
    "application-autoscaling:scalable-dimension": "ScalableDimension",
}
TAGGED = {"tagging": "sagemaker:AddTags"}
TO_SAGEMAKER = "sagemaker.amazonaws.com"

SAGEMAKER = {
    "CreateTrainingJob": row("training-job/{TrainingJobName}", keys=TRAINING, passes={"RoleArn": TO_SAGEMAKER}, **TAGGED),
    "CreateHyperParameterTuningJob": row(
        "hyper-parameter-tuning-job/{HyperParameterTuningJobName}",
        keys=TUNING,
        passes={"TrainingJobDefinition.RoleArn": TO_SAGEMAKER},
        **TAGGED,
    ),
    "CreateModel": row("model/{ModelName}", keys=VPC, passes={"ExecutionRoleArn": TO_SAGEMAKER}, **TAGGED),
    "CreateEndpointConfig": row(
        "endpoint-config/{EndpointConfigName}", keys={"sagemaker:InstanceTypes": "ProductionVariants.InstanceType"}, **TAGGED
    ),
    "CreateEndpoint": row("endpoint/{EndpointName}", "endpoint-config/{EndpointConfigName}", **TAGGED),
    "UpdateEndpoint": row("endpoint/{EndpointName}", "endpoint-config/{EndpointConfigName}"),
    **same("AddTags ListTags DeleteTags", "{ResourceArn}"),
    **same("DescribeTrainingJob StopTrainingJob", "training-job/{TrainingJobName}"),
    **same(
        "DescribeHyperParameterTuningJob StopHyperParameterTuningJob ListTrainingJobsForHyperParameterTuningJob",
        "hyper-parameter-tuning-job/{HyperParameterTuningJobName}",
    ),
    **same("DescribeModel DeleteModel", "model/{ModelName}"),
    **same("DescribeEndpointConfig DeleteEndpointConfig", "endpoint-config/{EndpointConfigName}"),
    **same("DescribeEndpoint DeleteEndpoint InvokeEndpoint UpdateEndpointWeightsAndCapacities", "endpoint/{EndpointName}"),
    **same("ListTrainingJobs ListHyperParameterTuningJobs ListModels ListEndpoints ListEndpointConfigs"),
}  # fmt: skip

SCALABLE = {
    "RegisterScalableTarget": row(
        "scalable-target/*", keys=SCALING, tagging="application-autoscaling:TagResource", more=details.scaling_role
    ),
    **same(
        "DeregisterScalableTarget PutScalingPolicy DeleteScalingPolicy PutScheduledAction DeleteScheduledAction",
        "scalable-target/*",
        keys=SCALING,
    ),
    **same("DescribeScalableTargets DescribeScalingPolicies DescribeScalingActivities DescribeScheduledActions"),
}
CLOUDWATCH = {
    "PutMetricAlarm": row("alarm:{AlarmName}", tagging="cloudwatch:TagResource", more=details.alarm_role),
    "DeleteAlarms": row("alarm:{AlarmNames}"),
    "DescribeAlarms": row("alarm:*"),
    "SetAlarmState": row("alarm:{AlarmName}"),
    "PutMetricData": row(keys={"cloudwatch:namespace": "Namespace"}),
    **same("GetMetricData GetMetricStatistics ListMetrics"),
}
LOGS = {
    **same("CreateLogGroup DescribeLogStreams PutRetentionPolicy DeleteLogGroup FilterLogEvents", "log-group:{logGroupName}:log-stream:"),
    **same("CreateLogStream PutLogEvents GetLogEvents", "log-group:{logGroupName}:log-stream:{logStreamName}"),
    "DescribeLogGroups": row(),
}  # fmt: skip
CODEBUILD = {
    **same("CreateProject UpdateProject", "project/{name}", passes={"serviceRole": "codebuild.amazonaws.com"}),
    **same("StartBuild ListBuildsForProject", "project/{projectName}"),
    "BatchGetProjects": row("project/{names}"),
    **same("BatchGetBuilds StopBuild", "builds_projects"),
}
ECR = {
    "CreateRepository": row("repository/{repositoryName}", tagging="ecr:TagResource"),
    **same(
        "DescribeImages BatchCheckLayerAvailability GetDownloadUrlForLayer BatchGetImage InitiateLayerUpload UploadLayerPart "
        "CompleteLayerUpload PutImage DeleteRepository BatchDeleteImage",
        "repository/{repositoryName}",
    ),
    "DescribeRepositories": row("repository/{repositoryNames}"),
    "GetAuthorizationToken": row(),
}
LAMBDA = {
    "CreateFunction": row(
        "function:{FunctionName}", passes={"Role": "lambda.amazonaws.com"}, tagging="lambda:TagResource"
    ),
    "UpdateFunctionConfiguration": row("function:{FunctionName}", passes={"Role": "lambda.amazonaws.com"}),
    "Invoke": row("function_asked", action="lambda:InvokeFunction"),
    **same(
        "GetFunction GetFunctionConfiguration GetProvisionedConcurrencyConfig PutProvisionedConcurrencyConfig "
        "DeleteProvisionedConcurrencyConfig DeleteFunction GetPolicy",
        "function_asked",
    ),
    **same(
        "UpdateFunctionCode PublishVersion CreateAlias UpdateAlias GetAlias DeleteAlias PutFunctionConcurrency "
        "GetFunctionConcurrency DeleteFunctionConcurrency AddPermission RemovePermission GetFunctionUrlConfig",
        "function:{FunctionName}",
    ),
    **same("GetAccountSettings ListFunctions"),
    "ListFunctionUrlConfigs": row("function:{FunctionName}"),
}
SSM = {
    "GetParameter": row("arn:aws:ssm:{region}::parameter{Name}"),
    "GetParametersByPath": row("arn:aws:ssm:{region}::parameter{Path}/*"),
}
CONNECT = {
    "SendSSHPublicKey": row(
        "arn:aws:ec2:{region}:{account}:instance/{InstanceId}", keys={"ec2:osuser": "InstanceOSUser"}
    ),
    "OpenTunnel": row(
        "arn:aws:ec2:{region}:{account}:instance-connect-endpoint/{instanceConnectEndpointId}",
        keys={
            "ec2-instance-connect:remotePort": "remotePort",
            "ec2-instance-connect:privateIpAddress": "privateIpAddress",
        },
    ),
}
ROLE, POLICY, PROFILE = "role_named", "{PolicyArn}", "profile_named"
IAM = {
    "CreateRole": row(
        "role{Path}{RoleName}", keys={"iam:PermissionsBoundary": "PermissionsBoundary"}, tagging="iam:TagRole"
    ),
    **same("AttachRolePolicy DetachRolePolicy", ROLE, keys={"iam:PolicyARN": "PolicyArn"}),
    "PutRolePermissionsBoundary": row(ROLE, keys={"iam:PermissionsBoundary": "PermissionsBoundary"}),
    **same(
        "GetRole DeleteRole UpdateAssumeRolePolicy DeleteRolePermissionsBoundary PutRolePolicy DeleteRolePolicy GetRolePolicy "
        "TagRole UntagRole ListRolePolicies ListAttachedRolePolicies ListInstanceProfilesForRole UpdateRole",
        ROLE,
    ),
    "CreatePolicy": row("policy{Path}{PolicyName}", tagging="iam:TagPolicy"),
    **same(
        "CreatePolicyVersion DeletePolicyVersion SetDefaultPolicyVersion GetPolicyVersion GetPolicy DeletePolicy TagPolicy "
        "UntagPolicy ListPolicyVersions ListEntitiesForPolicy",
        POLICY,
    ),
    "CreateInstanceProfile": row("instance-profile{Path}{InstanceProfileName}", tagging="iam:TagInstanceProfile"),
    "AddRoleToInstanceProfile": row(PROFILE, more=details.profile_role),
    **same("GetInstanceProfile RemoveRoleFromInstanceProfile DeleteInstanceProfile TagInstanceProfile", PROFILE),
    **same(
        "CreateUser DeleteUser GetUser PutUserPolicy DeleteUserPolicy AttachUserPolicy DetachUserPolicy CreateAccessKey "
        "DeleteAccessKey UpdateAccessKey ListAccessKeys CreateLoginProfile ListUserPolicies ListAttachedUserPolicies",
        "user_named",
    ),
    "SimulatePrincipalPolicy": row("{PolicySourceArn}"),
    **same(
        "GetAccountAuthorizationDetails GetAccountSummary GenerateCredentialReport GetCredentialReport ListRoles ListUsers "
        "ListPolicies SimulateCustomPolicy ListInstanceProfiles"
    ),
}
STS = {"AssumeRole": row("{RoleArn}"), "GetCallerIdentity": row()}

OBJECT, BUCKET = "arn:aws:s3:::{Bucket}/{Key}", "arn:aws:s3:::{Bucket}"
LISTING = {"s3:prefix": "Prefix", "s3:delimiter": "Delimiter"}
S3 = {
    "GetObject": row("object_asked", action="s3:GetObject"),
    "HeadObject": row("object_asked", action="s3:GetObject"),
    "CopyObject": row(OBJECT, action="s3:PutObject", more=details.copied),
    "UploadPartCopy": row(OBJECT, action="s3:PutObject", more=details.copied),
    **same("PutObject CreateMultipartUpload UploadPart CompleteMultipartUpload", OBJECT, action="s3:PutObject"),
    "ListParts": row(OBJECT, action="s3:ListMultipartUploadParts"),
    **same("DeleteObject AbortMultipartUpload GetObjectTagging PutObjectTagging", OBJECT),
    **same("ListObjectsV2 ListObjects HeadBucket", BUCKET, action="s3:ListBucket", keys=LISTING),
    "ListObjectVersions": row(BUCKET, action="s3:ListBucketVersions", keys=LISTING),
    "ListMultipartUploads": row(BUCKET, action="s3:ListBucketMultipartUploads"),
    **same("CreateBucket DeleteBucket GetBucketPolicy PutBucketPolicy DeleteBucketPolicy GetBucketTagging PutBucketTagging", BUCKET),
    **same("GetBucketVersioning PutBucketVersioning GetBucketAcl PutBucketAcl GetBucketLocation GetBucketPolicyStatus", BUCKET),
    "GetBucketEncryption": row(BUCKET, action="s3:GetEncryptionConfiguration"),
    "PutBucketEncryption": row(BUCKET, action="s3:PutEncryptionConfiguration"),
    "GetBucketLifecycleConfiguration": row(BUCKET, action="s3:GetLifecycleConfiguration"),
    "PutBucketLifecycleConfiguration": row(BUCKET, action="s3:PutLifecycleConfiguration"),
    "GetPublicAccessBlock": row(BUCKET, action="s3:GetBucketPublicAccessBlock"),
    "PutPublicAccessBlock": row(BUCKET, action="s3:PutBucketPublicAccessBlock"),
    "DeletePublicAccessBlock": row(BUCKET, action="s3:PutBucketPublicAccessBlock"),
    "ListBuckets": row(action="s3:ListAllMyBuckets"),
}  # fmt: skip

TAGS = {"tagging": "ec2:CreateTags"}
EC2 = {
    "CreateVpc": row("vpc/*", **TAGS),
    "CreateSubnet": row("subnet/*", "vpc/{VpcId}", **TAGS),
    "CreateRouteTable": row("route-table/*", "vpc/{VpcId}", **TAGS),
    "CreateSecurityGroup": row("security-group/*", "vpc/{VpcId}", **TAGS),
    "CreateNetworkAcl": row("network-acl/*", "vpc/{VpcId}", **TAGS),
    "CreateVpcEndpoint": row("vpc-endpoint/*", "vpc/{VpcId}", "route-table/{RouteTableIds}", "subnet/{SubnetIds}", **TAGS),
    "CreateInstanceConnectEndpoint": row(
        "instance-connect-endpoint/*", "subnet/{SubnetId}", "security-group/{SecurityGroupIds}", **TAGS
    ),
    "CreateInternetGateway": row("internet-gateway/*", **TAGS),
    "ImportKeyPair": row("key-pair/*", **TAGS),
    **same("AttachInternetGateway DetachInternetGateway", "internet-gateway/{InternetGatewayId}", "vpc/{VpcId}"),
    "DeleteInternetGateway": row("internet-gateway/{InternetGatewayId}"),
    "AssociateRouteTable": row("route-table/{RouteTableId}", "subnet/{SubnetId}"),
    **same("CreateRoute DeleteRoute DeleteRouteTable", "route-table/{RouteTableId}"),
    **same(
        "AuthorizeSecurityGroupIngress AuthorizeSecurityGroupEgress RevokeSecurityGroupIngress RevokeSecurityGroupEgress "
        "DeleteSecurityGroup",
        "security-group/{GroupId}",
    ),
    **same("CreateNetworkAclEntry DeleteNetworkAclEntry ReplaceNetworkAclEntry DeleteNetworkAcl", "network-acl/{NetworkAclId}"),
    "ReplaceNetworkAclAssociation": row("network-acl/{NetworkAclId}", "subnet_associated"),
    "DeleteSubnet": row("subnet/{SubnetId}"),
    **same("ModifyVpcAttribute DescribeVpcAttribute DeleteVpc", "vpc/{VpcId}"),
    "DeleteVpcEndpoints": row("vpc-endpoint/{VpcEndpointIds}"),
    "DeleteInstanceConnectEndpoint": row("instance-connect-endpoint/{InstanceConnectEndpointId}"),
    "DeleteKeyPair": row("key_pair_named"),
    "RunInstances": row("launched", **TAGS, more=details.launched_role),
    **same("StartInstances StopInstances TerminateInstances RebootInstances", "instance/{InstanceIds}"),
    **same("GetConsoleOutput ModifyInstanceAttribute", "instance/{InstanceId}"),
    "CancelSpotInstanceRequests": row("spot-instances-request/{SpotInstanceRequestIds}"),
    **same("CreateTags DeleteTags", "tagged"),
    **same(
        "DescribeImages DescribeInstanceConnectEndpoints DescribeInstanceStatus DescribeInstanceTypeOfferings "
        "DescribeInstanceTypes DescribeInstances DescribeInternetGateways DescribeKeyPairs DescribeManagedPrefixLists "
        "DescribeNetworkAcls DescribeNetworkInterfaces DescribeRouteTables DescribeSecurityGroups "
        "DescribeSpotInstanceRequests DescribeSubnets DescribeTags DescribeVolumes DescribeVpcEndpoints DescribeVpcs "
        "DescribeAvailabilityZones DescribeRegions"
    ),
}  # fmt: skip

# service as the signature names it -> (prefix of its actions, prefix of its ARNs, its rows)
TABLE: dict[str, tuple[str, str, dict[str, Row]]] = {
    "application-autoscaling": (
        "application-autoscaling",
        "arn:aws:application-autoscaling:{region}:{account}:",
        SCALABLE,
    ),
    "codebuild": ("codebuild", "arn:aws:codebuild:{region}:{account}:", CODEBUILD),
    "ec2": ("ec2", "arn:aws:ec2:{region}:{account}:", EC2),
    "ec2-instance-connect": ("ec2-instance-connect", "", CONNECT),
    "ecr": ("ecr", "arn:aws:ecr:{region}:{account}:", ECR),
    "iam": ("iam", "arn:aws:iam::{account}:", IAM),
    "lambda": ("lambda", "arn:aws:lambda:{region}:{account}:", LAMBDA),
    "logs": ("logs", "arn:aws:logs:{region}:{account}:", LOGS),
    "monitoring": ("cloudwatch", "arn:aws:cloudwatch:{region}:{account}:", CLOUDWATCH),
    "s3": ("s3", "", S3),
    "sagemaker": ("sagemaker", "arn:aws:sagemaker:{region}:{account}:", SAGEMAKER),
    "ssm": ("ssm", "", SSM),
    "sts": ("sts", "", STS),
    "tagging": ("tag", "", {"GetResources": row()}),
}
