"""Every call of the local AWS is decided on: identity, boundary, session, bucket, trust, PassRole; with AWS's own words."""

import botocore.config
import botocore.session
import pytest

from iampolicy import actions
from iampolicy.lint import arns
from sandbox.http.parsing import MODELS
from sandbox.iam.permissions import TABLE
from sandbox.iam.resource_lookup import RESOURCE_TYPES

ACCOUNT = "123456789012"
ROWS = [(service, operation) for service, (_, _, rows) in TABLE.items() for operation in rows]


def test_permission_table_names_known_operations_and_actions():
    session = botocore.session.Session()
    for service, (prefix, _, rows) in TABLE.items():
        names = set(session.get_service_model(MODELS.get(service, service)).operation_names)
        names |= {"InvokeEndpoint"} if service == "sagemaker" else {"OpenTunnel"}
        assert set(rows) <= names, service
        for operation, row in rows.items():
            action = row.action or f"{prefix}:{operation}"
            assert actions.is_known_action(action), action
            assert not row.tagging or actions.is_known_action(row.tagging), row.tagging


@pytest.mark.parametrize(("service", "operation"), ROWS)
def test_permission_table_arns_fit_their_actions(service, operation):
    prefix, start, rows = TABLE[service]
    row = rows[operation]
    action = row.action or f"{prefix}:{operation}"
    for template in row.arns:
        if callable(template) or template.startswith("{"):
            continue  # looked up, or given by the caller as a whole
        if template == "*":
            assert actions.is_unscopable(action) or not required(action), action
            continue
        whole = template if template.startswith("arn:") else start + template
        filled = whole.format_map(Filled(region="us-east-1", account=ACCOUNT, Path="/", Name="/x"))
        assert arns.can_reach(action, filled), f"{action} on {filled}"


class Filled(dict):
    def __missing__(self, key):
        return "x"


def required(action):
    return [kind for kind in actions.find_details(action)["resourceTypes"] if kind["required"]]


def test_ec2_resource_types_are_those_of_the_arns():
    from iampolicy.actions import list_resource_types

    known = {kind["key"] for kind in list_resource_types("ec2:CreateTags")}
    assert set(RESOURCE_TYPES.values()) <= known
