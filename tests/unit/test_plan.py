"""Plans: a dry run and a run walk one generator, and a plan must not decide on an unknown response."""

import contextlib
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.core import plan, pricing, running
from ops.core.errors import AwsError, OpsError
from ops.core.plan import Change, PlanError, Unknown, Wait
from tests.conftest import settings_of

SETTINGS = settings_of()


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


class FreeLease:
    """The lease of a stack that no other command changes."""

    def __init__(self):
        self.checked = 0

    def check(self):
        self.checked += 1

    hold = contextlib.nullcontext


class FakeAccount:
    def __init__(self):
        self.log = []
        self.lease = FreeLease()

    def make(self, step):
        self.log.append(step.call)
        return {"Vpc": {"VpcId": "vpc-1"}}

    def wait(self, step):
        return step.until(self)


def test_last_line_printed_is_the_call_that_failed():
    """Each line is printed before its call, so the last line is the call that failed."""
    account, order = FakeAccount(), []
    account.make_change = lambda step: order.append(f"call {step.call}") or {"Vpc": {"VpcId": "vpc-1"}}
    assert plan.apply(two_steps, account, lambda line: order.append(line)) == 2
    assert order == ["+ ec2.create_vpc: first", "call create_vpc", "+ ec2.create_subnet: second", "call create_subnet"]


def recorded(steps):
    """Return what applying the steps calls, and the error that ends it."""
    account, called = FakeAccount(), []
    account.settings = SETTINGS
    account.make_change = lambda step: called.append(step.call) or {"Vpc": {"VpcId": "vpc-1"}}
    try:
        plan.apply(steps, account, lambda line: None)
    except OpsError as error:
        return called, str(error)
    return called, ""


def test_fault_in_the_second_step_changes_nothing():
    def steps():
        yield Change("ec2", "create_vpc", {}, why="first")
        raise OpsError("There is no price for it. Set another type.")

    assert recorded(steps) == ([], "There is no price for it. Set another type.")


@given(st.lists(st.sampled_from(["create_vpc", "delete_vpc", "wait", "retry", "refuse"]), max_size=8))
def test_run_makes_all_changes_of_a_plan_or_none(kinds):
    """A plan that the preview refuses anywhere makes no call; any other makes each of its changes once, in order."""

    def steps():
        for kind in kinds:
            if kind == "refuse":
                raise OpsError("refused")
            if kind == "wait":
                yield Wait("a thing", lambda account: None, why="it comes")
            elif kind == "retry":
                yield from plan.retry_until_trusted(Change("iam", "create_role", {}, why="a role"), "not yet", [1.0])
            else:
                answer = yield Change("ec2", kind, {}, why=kind)
                yield Change("ec2", "create_tags", {"Resources": [answer["Vpc"]["VpcId"]]}, why="tag it")

    called = {"wait": [], "retry": ["create_role"]}
    whole = list(itertools.chain.from_iterable(called.get(kind, [kind, "create_tags"]) for kind in kinds))
    assert recorded(steps) == (([], "refused") if "refuse" in kinds else (whole, ""))


def test_plan_without_steps_is_walked_once():
    walks = []

    def steps():
        walks.append(1)
        yield from ()

    assert recorded(steps) == ([], "")
    assert len(walks) == 1


def test_unknown_price_stops_no_plan():
    def steps():
        rate = pricing.price_instances("sagemaker", "ml.nope.large")
        yield Change("sagemaker", "create_endpoint", {}, why="start it", dollars_per_hour=rate)

    assert recorded(steps) == (["create_endpoint"], "")
    assert plan.format_step(next(steps())) == "+ sagemaker.create_endpoint: start it  $?/h"


def test_wait_sends_its_result():
    seen = []

    def steps():
        seen.append((yield Wait("a thing", lambda account: {"id": "x"}, why="it comes")))

    assert plan.apply(steps, FakeAccount(), lambda line: None) == 0
    assert seen[1:] == [{"id": "x"}]  # after the preview's own answer


def test_waits_compare_by_subject_and_reason():
    assert Wait("a", lambda account: None, why="b") == Wait("a", lambda account: "x", why="b")


def test_dry_run_counts_and_prices_without_a_call(capsys):
    lines = []

    def steps():
        yield Change("ec2", "run_instances", {}, why="a box", dollars_per_hour=0.5)
        yield Wait("box", lambda account: 1 / 0, why="it boots")

    assert plan.print_dry_run(plan.preview(steps()), lines.append) == 1
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
    plan.print_dry_run([Change("s", "call", {}, why="why", **change)], lines.append)
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


def test_prices_of_another_region_are_reported_once(monkeypatch, capsys):
    pricing.read_prices.cache_clear()
    monkeypatch.setattr(running, "region", "eu-central-1")
    assert [pricing.price_instances("sagemaker", "ml.m5.large") for _ in range(2)] == [0.115, 0.115]
    pricing.price_alarm()
    assert capsys.readouterr().err == (
        "ops/core/pricing.toml has no prices of eu-central-1: those shown are of us-east-1, and differ by some per cent.\n"
    )


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
