"""Commands that destroy something name the stack, the account and the region before they act, also when they ask nothing."""

import json
from functools import partial

import pytest

from ops.core import plan
from ops.network import facts
from ops.network import plan as network
from tests.sandbox.test_function import GOOD

NAMED = "Stack destroyed, account 123456789012, region us-east-1:\n"


def create_network(account):
    plan.apply(partial(network.steps, facts.read(account), account.settings), account, lambda line: None)


def create_function(account):
    role = account.settings.role_arn("lambda-invoke")
    code = {"Handler": "handler.lambda_handler", "Runtime": "python3.12", "Code": {"ZipFile": GOOD}}
    account.call("lambda", "create_function", FunctionName=account.settings.function_name, Role=role, **code)


def create_alarm(name, account):
    args = {"MetricName": "m", "Namespace": "n", "Period": 60, "EvaluationPeriods": 1, "Statistic": "Sum"}
    compared = {"Threshold": 1.0, "ComparisonOperator": "GreaterThanThreshold"}
    account.call("cloudwatch", "put_metric_alarm", AlarmName=name(account.settings), **args, **compared)


def create_user(account):
    account.call("iam", "create_user", UserName="destroyed-user")
    account.call("iam", "create_access_key", UserName="destroyed-user")


def create_role(account):
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    account.call("iam", "create_role", RoleName="destroyed-old", AssumeRolePolicyDocument=document)


@pytest.mark.parametrize(
    ("create", "command"),
    [
        (create_network, "net.down --yes"),
        (create_function, "lambda.down --yes"),
        (
            partial(create_alarm, lambda settings: f"{settings.endpoint_name}-5xx"),
            "sm.delete --confirm kennel-destroyed",
        ),
        (partial(create_alarm, lambda settings: settings.idle_alarm), "ec2.down"),
        (create_user, "iam.revoke destroyed-user --yes"),
        (create_role, "iam.prune --roles destroyed-old --confirm destroyed-old"),
    ],
    ids=["network", "function", "endpoint", "box", "user", "role"],
)
def test_destroying_command_names_its_stack_first(create, command, make_stack, inject_fault):
    cli = make_stack("destroyed")
    create(cli.account)
    if create is create_role:
        inject_fault("age", role="destroyed-old", days=200)
    said = cli(*command.split()).err
    before, named, after = said.partition(NAMED)
    assert named, said
    assert not [line for line in before.splitlines() if line.startswith(("+ ", "~ ", "- "))]
    assert NAMED not in after
