"""The constraints of AWS's service models, as the sandbox checks them at its door."""

import pytest

from sandbox.http import constraints, parameters, wording

LONG = "x" * 65


def find(service, operation, **params):
    shape = parameters.find_input_shape(service, operation)
    return list(constraints.find_violations(shape, params, ""))


@pytest.mark.parametrize(
    ("service", "operation", "params", "words"),
    [
        ("sagemaker", "DescribeEndpoint", {"EndpointName": "bad_name!"}, "at 'endpointName' failed to satisfy constraint: Member must satisfy reg"),
        ("sagemaker", "DescribeEndpoint", {}, "Value null at 'endpointName' failed to satisfy constraint: Member must not be null"),
        ("sagemaker", "DescribeEndpoint", {"EndpointName": LONG}, "Member must have length less than or equal to 63"),
        ("lambda", "PutProvisionedConcurrencyConfig", {"FunctionName": "f", "Qualifier": "live", "ProvisionedConcurrentExecutions": 0},
         "Value '0' at 'provisionedConcurrentExecutions' failed to satisfy constraint: Member must have value greater than or equal to 1"),
        ("logs", "GetLogEvents", {"logStreamName": "s", "limit": 10_001}, "Member must have value less than or equal to 10000"),
        ("sagemaker", "AddTags", {"ResourceArn": "arn:aws:sagemaker:us-east-1:123456789012:model/m", "Tags": [{"Key": "", "Value": "v"}]},
         "at 'tags.1.member.key' failed to satisfy constraint: Member must have length greater than or equal to 1"),
        ("iam", "CreateRole", {"RoleName": "a b", "AssumeRolePolicyDocument": "{}"}, r"at 'roleName' failed to satisfy constraint: Member must satisfy"),
    ],
)  # fmt: skip
def test_broken_constraint_is_named_in_aws_words(service, operation, params, words):
    assert any(words in found for found in find(service, operation, **params))


def test_valid_request_breaks_no_constraint():
    assert find("sagemaker", "DescribeEndpoint", EndpointName="kennel-demo") == []
    assert find("lambda", "GetAlias", FunctionName="kennel-demo-classify", Name="live") == []


def test_unknown_instance_type_lists_the_known_ones():
    """The value is inside a structure, whose name is part of the path."""
    (found,) = find(
        "sagemaker",
        "CreateTrainingJob",
        TrainingJobName="j",
        AlgorithmSpecification={"TrainingInputMode": "File"},
        RoleArn="arn:aws:iam::123456789012:role/some-role",
        OutputDataConfig={"S3OutputPath": "s3://bucket/prefix"},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
        ResourceConfig={"InstanceType": "ml.nonsense", "InstanceCount": 1, "VolumeSizeInGB": 1},
    )
    assert (
        "at 'resourceConfig.instanceType' failed to satisfy constraint: Member must satisfy enum value set: [" in found
    )
    assert "ml.m5.large" in found


def test_patterns_in_java_syntax_are_not_checked():
    assert constraints.compile_pattern(r"[\p{L}\p{Z}]*") is None


@pytest.mark.parametrize(
    ("service", "body", "words"),
    [
        ("sagemaker", b'{"message": "Could not find training job \'arn:x\'."}', "Requested resource not found."),
        ("iam", b"<Error><Message>Role nope not found</Message></Error>", "The role with name nope cannot be found."),
        ("ec2", b"<Message>The keypair &#x27;{&#x27;nope&#x27;}&#x27; does not exist.</Message>", "The key pair 'nope' does not exist"),
        ("ec2", b"<Message>The security group 'a' already exists</Message>", "already exists for VPC 'vpc-1'"),
        ("sagemaker", b'{"message": "something else"}', "something else"),
        ("s3", b"not a document", "not a document"),
    ],
)  # fmt: skip
def test_error_has_the_words_of_aws(service, body, words):
    assert words in wording.use_aws_words(service, "Describe", {"VpcId": "vpc-1"}, body).decode()
