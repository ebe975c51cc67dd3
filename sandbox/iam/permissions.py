"""Which permissions a call takes: operation -> action, ARN, context keys, roles passed. enforce.py decides on each.

An operation without a row here is not part of the sandbox: it is answered 501, and so nothing gets by undecided.
The rows of IAM and STS are in iam_permissions.py, those of S3 in s3_permissions.py.
"""

from __future__ import annotations

from sandbox.iam import resource_lookup
from sandbox.iam.iam_permissions import IAM, STS
from sandbox.iam.resource_lookup import Row, row, same
from sandbox.iam.s3_permissions import S3

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
        "scalable-target/*",
        keys=SCALING,
        tagging="application-autoscaling:TagResource",
        more=resource_lookup.scaling_role,
    ),
    **same(
        "DeregisterScalableTarget PutScalingPolicy DeleteScalingPolicy PutScheduledAction DeleteScheduledAction",
        "scalable-target/*",
        keys=SCALING,
    ),
    **same("DescribeScalableTargets DescribeScalingPolicies DescribeScalingActivities DescribeScheduledActions"),
}
CLOUDWATCH = {
    "PutMetricAlarm": row("alarm:{AlarmName}", tagging="cloudwatch:TagResource", more=resource_lookup.alarm_role),
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
    **same("BatchGetBuilds StopBuild", resource_lookup.builds_projects),
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
    "Invoke": row(resource_lookup.function_asked, action="lambda:InvokeFunction"),
    **same(
        "GetFunction GetFunctionConfiguration GetProvisionedConcurrencyConfig PutProvisionedConcurrencyConfig "
        "DeleteProvisionedConcurrencyConfig DeleteFunction GetPolicy",
        resource_lookup.function_asked,
    ),
    **same(
        "UpdateFunctionCode PublishVersion CreateAlias UpdateAlias GetAlias DeleteAlias PutFunctionConcurrency "
        "GetFunctionConcurrency DeleteFunctionConcurrency RemovePermission GetFunctionUrlConfig",
        "function:{FunctionName}",
    ),
    "AddPermission": row("function:{FunctionName}", keys={"lambda:Principal": "Principal"}),
    **same("GetAccountSettings ListFunctions"),
    "ListFunctionUrlConfigs": row("function:{FunctionName}"),
}
SSM = {
    "GetParameter": row(resource_lookup.parameter_named),
    "GetParametersByPath": row(resource_lookup.parameters_below),
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
        "AuthorizeSecurityGroupIngress AuthorizeSecurityGroupEgress", "security-group/{GroupId}", resource_lookup.rules_tagged, **TAGS
    ),
    **same("RevokeSecurityGroupIngress RevokeSecurityGroupEgress DeleteSecurityGroup", "security-group/{GroupId}"),
    **same("CreateNetworkAclEntry DeleteNetworkAclEntry ReplaceNetworkAclEntry DeleteNetworkAcl", "network-acl/{NetworkAclId}"),
    "ReplaceNetworkAclAssociation": row("network-acl/{NetworkAclId}", resource_lookup.subnet_associated),
    "DeleteSubnet": row("subnet/{SubnetId}"),
    **same("ModifyVpcAttribute DescribeVpcAttribute DeleteVpc", "vpc/{VpcId}"),
    "DeleteVpcEndpoints": row("vpc-endpoint/{VpcEndpointIds}"),
    "DeleteInstanceConnectEndpoint": row("instance-connect-endpoint/{InstanceConnectEndpointId}"),
    "DeleteKeyPair": row(resource_lookup.key_pair_named),
    "RunInstances": row(resource_lookup.launched, **TAGS, context=resource_lookup.of_launch, more=resource_lookup.launched_role),
    **same("StartInstances StopInstances TerminateInstances RebootInstances", "instance/{InstanceIds}"),
    **same("GetConsoleOutput ModifyInstanceAttribute", "instance/{InstanceId}"),
    "CancelSpotInstanceRequests": row("spot-instances-request/{SpotInstanceRequestIds}"),
    **same("CreateTags DeleteTags", resource_lookup.tagged),
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
