"""Plans: a dry run and a run walk one generator, and a plan must not decide on an unknown response."""

import math

import pytest

from ops.core import plan, pricing
from ops.core.errors import AwsError
from ops.core.plan import Change, PlanError, Unknown, Wait
from tests.conftest import settings_of


def two_steps():
    answer = yield Change("ec2", "create_vpc", {}, why="first")
    yield Change("ec2", "create_subnet", {"VpcId": answer["Vpc"]["VpcId"]}, why="second")


def test_preview_passes_unknown_responses_on():
    first, second = plan.preview(two_steps())
    assert (first.call, second.call) == ("create_vpc", "create_subnet")
    assert str.__str__(second.args["VpcId"]) == "<VpcId>"


@pytest.mark.parametrize(
    "decide",
    [bool, len, list, int, lambda u: u == "x", lambda u: u != "x", lambda u: u < "x", lambda u: "x" in u],
    ids=["truth", "count", "iterate", "number", "equal", "differ", "order", "contain"],
)
def test_unknown_response_cannot_be_decided_on(decide):
    with pytest.raises(PlanError, match="read it as a fact first"):
        decide(Unknown("<answer>")["Vpc"])


def test_unknown_response_can_be_printed_and_be_a_key():
    assert f"{Unknown('<answer>')['GroupId']}" == "<GroupId>"
    assert {Unknown("<a>"): 1}


def test_error_is_thrown_into_the_steps():
    def steps():
        for zone in ("a", "b"):
            try:
                yield Change("ec2", "run_instances", {"zone": zone}, why=zone)
                return
            except AwsError:
                continue

    def answer(step):
        if step.args["zone"] == "a":
            raise AwsError("RunInstances", "InsufficientInstanceCapacity", "none left")
        return {}

    assert [s.why for s in plan.walk_steps(steps(), answer)] == ["a", "b"]


def test_uncaught_error_ends_the_plan():
    def answer(step):
        raise AwsError("CreateVpc", "VpcLimitExceeded", "five are enough")

    with pytest.raises(AwsError, match="VpcLimitExceeded"):
        list(plan.walk_steps(two_steps(), answer))


class FakeAccount:
    def __init__(self):
        self.log = []

    def make(self, step):
        self.log.append(step.call)
        return {"Vpc": {"VpcId": "vpc-1"}}

    def wait(self, step):
        return step.until(self)


def test_last_line_printed_is_the_call_that_failed():
    """Each line is printed before its call, so the last line is the call that failed."""
    account, order = FakeAccount(), []
    account.make_change = lambda step: order.append(f"call {step.call}") or {"Vpc": {"VpcId": "vpc-1"}}
    assert plan.apply(two_steps(), account, lambda line: order.append(line)) == 2
    assert order == ["+ ec2.create_vpc: first", "call create_vpc", "+ ec2.create_subnet: second", "call create_subnet"]


def test_wait_sends_its_result():
    seen = []

    def steps():
        seen.append((yield Wait("a thing", lambda account: {"id": "x"}, why="it comes")))

    assert plan.apply(steps(), FakeAccount(), lambda line: None) == 0
    assert seen == [{"id": "x"}]


def test_waits_compare_by_subject_and_reason():
    assert Wait("a", lambda account: None, why="b") == Wait("a", lambda account: "x", why="b")


def test_dry_run_counts_and_prices_without_a_call(capsys):
    lines = []

    def steps():
        yield Change("ec2", "run_instances", {}, why="a box", dollars_per_hour=0.5)
        yield Wait("box", lambda account: 1 / 0, why="it boots")

    assert plan.print_dry_run(steps(), lines.append) == 1
    assert lines[0] == "+ ec2.run_instances: a box  $0.500/h"
    assert lines[-3:] == [
        "This adds $0.500 an hour, $12.00 a day (list price; ops/core/pricing.toml).",
        "Plan: 1 to add, 0 to change, 0 to remove.",
        "1 to make; nothing was touched",
    ]


@pytest.mark.parametrize(
    ("change", "line", "costs"),
    [
        ({"dollars_per_hour": -0.115}, "-$0.115/h", ["This saves $0.115 an hour, $2.76 a day"]),
        ({"dollars_per_hour": math.nan}, "$?/h", ["This adds $? an hour, $? a day"]),
        ({"dollars_per_hour": 0.23, "dollars_at_most": 0.23}, "$0.230/h", ["The job costs at most $0.23 in all"]),
        ({"dollars_per_hour": math.nan, "dollars_at_most": math.nan}, "$?/h", ["The job costs at most $? in all"]),
    ],
)
def test_dry_run_says_what_changes_cost(change, line, costs):
    lines = []
    plan.print_dry_run((step for step in [Change("s", "call", {}, why="why", **change)]), lines.append)
    assert lines == [
        f"+ s.call: why  {line}",
        *(f"{cost} (list price; ops/core/pricing.toml)." for cost in costs),
        "Plan: 1 to add, 0 to change, 0 to remove.",
        "1 to make; nothing was touched",
    ]


def test_unknown_price_is_nan_and_prints_a_question_mark():
    unknown = pricing.price_instances("sagemaker", "ml.nope.large", 3)
    assert math.isnan(unknown)
    assert (pricing.format_price(unknown, 2), pricing.round_price(unknown, 2)) == ("?", None)
    assert pricing.price_instances("sagemaker", "ml.m5.large", 2) == 0.23


def test_settings_build_the_role_arn():
    assert settings_of().role_arn("ec2-box") == "arn:aws:iam::123456789012:role/kennel/demo/kennel-demo-ec2-box"


@pytest.mark.parametrize(
    ("call", "sign"),
    [
        ("create_vpc", "+"),
        ("put_role_policy", "+"),
        ("run_instances", "+"),
        ("update_endpoint", "~"),
        ("modify_vpc_attribute", "~"),
        ("stop_instances", "~"),
        ("delete_role", "-"),
        ("terminate_instances", "-"),
        ("revoke_security_group_egress", "-"),
    ],
)
def test_a_line_of_a_plan_has_the_sign_of_its_call(call, sign):
    assert plan.format_step(Change("x", call, {}, why="why")).startswith(f"{sign} x.{call}: ")
