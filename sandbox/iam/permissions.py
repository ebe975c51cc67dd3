"""The permissions that a call needs: operation -> action, ARN, context keys, roles passed. enforce.py decides on each.

An operation without a row here is not part of the sandbox: it gets 501, so that no call is executed without a decision.
The rows of IAM and STS are in iam_permissions.py, those of S3 in s3_permissions.py.
"""

from __future__ import annotations

from sandbox.iam import resource_lookup
from sandbox.iam.iam_permissions import IAM, STS
from sandbox.iam.resource_lookup import Row, build_row, build_rows
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
    "CreateTrainingJob": build_row("training-job/{TrainingJobName}", keys=TRAINING, passes={"RoleArn": TO_SAGEMAKER}, **TAGGED),
    "CreateHyperParameterTuningJob": build_row(
        "hyper-parameter-tuning-job/{HyperParameterTuningJobName}",
        keys=TUNING,
        passes={"TrainingJobDefinition.RoleArn": TO_SAGEMAKER},
        **TAGGED,
    ),
    "CreateModel": build_row("model/{ModelName}", keys=VPC, passes={"ExecutionRoleArn": TO_SAGEMAKER}, **TAGGED),
    "CreateEndpointConfig": build_row(
        "endpoint-config/{EndpointConfigName}", keys={"sagemaker:InstanceTypes": "ProductionVariants.InstanceType"}, **TAGGED
    ),
    "CreateEndpoint": build_row("endpoint/{EndpointName}", "endpoint-config/{EndpointConfigName}", **TAGGED),
    "UpdateEndpoint": build_row("endpoint/{EndpointName}", "endpoint-config/{EndpointConfigName}"),
    **build_rows("AddTags ListTags DeleteTags", "{ResourceArn}"),
    **build_rows("DescribeTrainingJob StopTrainingJob", "training-job/{TrainingJobName}"),
    **build_rows(
        "DescribeHyperParameterTuningJob StopHyperParameterTuningJob ListTrainingJobsForHyperParameterTuningJob",
        "hyper-parameter-tuning-job/{HyperParameterTuningJobName}",
    ),
    **build_rows("DescribeModel DeleteModel", "model/{ModelName}"),
    **build_rows("DescribeEndpointConfig DeleteEndpointConfig", "endpoint-config/{EndpointConfigName}"),
    **build_rows("DescribeEndpoint DeleteEndpoint InvokeEndpoint UpdateEndpointWeightsAndCapacities", "endpoint/{EndpointName}"),
    **build_rows("ListTrainingJobs ListHyperParameterTuningJobs ListModels ListEndpoints ListEndpointConfigs"),
}  # fmt: skip

SCALABLE = {
    "RegisterScalableTarget": build_row(
        "scalable-target/*",
        keys=SCALING,
        tagging="application-autoscaling:TagResource",
        more=resource_lookup.list_scaling_needs,
    ),
    **build_rows(
        "DeregisterScalableTarget PutScalingPolicy DeleteScalingPolicy PutScheduledAction DeleteScheduledAction",
        "scalable-target/*",
        keys=SCALING,
    ),
    **build_rows("DescribeScalableTargets DescribeScalingPolicies DescribeScalingActivities DescribeScheduledActions"),
}
CLOUDWATCH = {
    "PutMetricAlarm": build_row(
        "alarm:{AlarmName}", tagging="cloudwatch:TagResource", more=resource_lookup.list_alarm_needs
    ),
    "DeleteAlarms": build_row("alarm:{AlarmNames}"),
    "DescribeAlarms": build_row("alarm:*"),
    "SetAlarmState": build_row("alarm:{AlarmName}"),
    "PutMetricData": build_row(keys={"cloudwatch:namespace": "Namespace"}),
    **build_rows("GetMetricData GetMetricStatistics ListMetrics"),
}
LOGS = {
    **build_rows("CreateLogGroup DescribeLogStreams PutRetentionPolicy DeleteLogGroup FilterLogEvents", "log-group:{logGroupName}:log-stream:"),
    **build_rows("CreateLogStream PutLogEvents GetLogEvents", "log-group:{logGroupName}:log-stream:{logStreamName}"),
    "DescribeLogGroups": build_row(),
}  # fmt: skip
CODEBUILD = {
    **build_rows("CreateProject UpdateProject", "project/{name}", passes={"serviceRole": "codebuild.amazonaws.com"}),
    **build_rows("StartBuild ListBuildsForProject", "project/{projectName}"),
    "BatchGetProjects": build_row("project/{names}"),
    **build_rows("BatchGetBuilds StopBuild", resource_lookup.resolve_project_arns),
}
ECR = {
    "CreateRepository": build_row("repository/{repositoryName}", tagging="ecr:TagResource"),
    **build_rows(
        "DescribeImages BatchCheckLayerAvailability GetDownloadUrlForLayer BatchGetImage InitiateLayerUpload UploadLayerPart "
        "CompleteLayerUpload PutImage DeleteRepository BatchDeleteImage",
        "repository/{repositoryName}",
    ),
    "DescribeRepositories": build_row("repository/{repositoryNames}"),
    "GetAuthorizationToken": build_row(),
}
LAMBDA = {
    "CreateFunction": build_row(
        "function:{FunctionName}", passes={"Role": "lambda.amazonaws.com"}, tagging="lambda:TagResource"
    ),
    "UpdateFunctionConfiguration": build_row("function:{FunctionName}", passes={"Role": "lambda.amazonaws.com"}),
    "Invoke": build_row(resource_lookup.resolve_function_arn, action="lambda:InvokeFunction"),
    **build_rows(
        "GetFunction GetFunctionConfiguration GetProvisionedConcurrencyConfig PutProvisionedConcurrencyConfig "
        "DeleteProvisionedConcurrencyConfig DeleteFunction GetPolicy",
        resource_lookup.resolve_function_arn,
    ),
    **build_rows(
        "UpdateFunctionCode PublishVersion CreateAlias UpdateAlias GetAlias DeleteAlias PutFunctionConcurrency "
        "GetFunctionConcurrency DeleteFunctionConcurrency RemovePermission GetFunctionUrlConfig",
        "function:{FunctionName}",
    ),
    "AddPermission": build_row("function:{FunctionName}", keys={"lambda:Principal": "Principal"}),
    **build_rows(
        "CreateFunctionUrlConfig UpdateFunctionUrlConfig",
        "function:{FunctionName}",
        keys={"lambda:FunctionUrlAuthType": "AuthType"},
    ),
    "DeleteFunctionUrlConfig": build_row("function:{FunctionName}"),
    **build_rows("GetAccountSettings ListFunctions"),
    "ListFunctionUrlConfigs": build_row("function:{FunctionName}"),
}
SSM = {
    "GetParameter": build_row(resource_lookup.resolve_parameter_arn),
    "GetParametersByPath": build_row(resource_lookup.resolve_parameter_path_arn),
}
CONNECT = {
    "SendSSHPublicKey": build_row(
        "arn:aws:ec2:{region}:{account}:instance/{InstanceId}", keys={"ec2:osuser": "InstanceOSUser"}
    ),
    "OpenTunnel": build_row(
        "arn:aws:ec2:{region}:{account}:instance-connect-endpoint/{instanceConnectEndpointId}",
        keys={
            "ec2-instance-connect:remotePort": "remotePort",
            "ec2-instance-connect:privateIpAddress": "privateIpAddress",
        },
    ),
}
TAGS = {"tagging": "ec2:CreateTags"}
EC2 = {
    "CreateVpc": build_row("vpc/*", **TAGS),
    "CreateSubnet": build_row("subnet/*", "vpc/{VpcId}", **TAGS),
    "CreateRouteTable": build_row("route-table/*", "vpc/{VpcId}", **TAGS),
    "CreateSecurityGroup": build_row("security-group/*", "vpc/{VpcId}", **TAGS),
    "CreateNetworkAcl": build_row("network-acl/*", "vpc/{VpcId}", **TAGS),
    "CreateVpcEndpoint": build_row("vpc-endpoint/*", "vpc/{VpcId}", "route-table/{RouteTableIds}", "subnet/{SubnetIds}", **TAGS),
    "CreateInstanceConnectEndpoint": build_row(
        "instance-connect-endpoint/*", "subnet/{SubnetId}", "security-group/{SecurityGroupIds}", **TAGS,
        more=resource_lookup.list_connect_endpoint_needs,
    ),
    "CreateInternetGateway": build_row("internet-gateway/*", **TAGS),
    "ImportKeyPair": build_row("key-pair/*", **TAGS),
    **build_rows("AttachInternetGateway DetachInternetGateway", "internet-gateway/{InternetGatewayId}", "vpc/{VpcId}"),
    "DeleteInternetGateway": build_row("internet-gateway/{InternetGatewayId}"),
    "AssociateRouteTable": build_row("route-table/{RouteTableId}", "subnet/{SubnetId}"),
    **build_rows("CreateRoute DeleteRoute DeleteRouteTable", "route-table/{RouteTableId}"),
    **build_rows(
        "AuthorizeSecurityGroupIngress AuthorizeSecurityGroupEgress", "security-group/{GroupId}", resource_lookup.resolve_tagged_rule_arns, **TAGS
    ),
    **build_rows("RevokeSecurityGroupIngress RevokeSecurityGroupEgress DeleteSecurityGroup", "security-group/{GroupId}"),
    **build_rows("CreateNetworkAclEntry DeleteNetworkAclEntry ReplaceNetworkAclEntry DeleteNetworkAcl", "network-acl/{NetworkAclId}"),
    "ReplaceNetworkAclAssociation": build_row("network-acl/{NetworkAclId}", resource_lookup.resolve_acl_subnet_arn),
    "DeleteSubnet": build_row("subnet/{SubnetId}"),
    **build_rows("ModifyVpcAttribute DescribeVpcAttribute DeleteVpc", "vpc/{VpcId}"),
    "DeleteVpcEndpoints": build_row("vpc-endpoint/{VpcEndpointIds}"),
    "DeleteInstanceConnectEndpoint": build_row("instance-connect-endpoint/{InstanceConnectEndpointId}"),
    "DeleteKeyPair": build_row(resource_lookup.resolve_key_pair_arn),
    "RunInstances": build_row(
        resource_lookup.resolve_launch_arns,
        **TAGS,
        context=resource_lookup.derive_launch_context,
        more=resource_lookup.list_launch_needs,
    ),
    **build_rows("StartInstances StopInstances TerminateInstances RebootInstances", "instance/{InstanceIds}"),
    **build_rows("GetConsoleOutput ModifyInstanceAttribute", "instance/{InstanceId}"),
    "CancelSpotInstanceRequests": build_row("spot-instances-request/{SpotInstanceRequestIds}"),
    **build_rows("CreateTags DeleteTags", resource_lookup.resolve_tagged_arns),
    **build_rows(
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
    "tagging": ("tag", "", {"GetResources": build_row()}),
}
