"""The Lambda function: a package that is the same every time, a plan by equality, limits that limit."""

import io
import os
import subprocess
import sys
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.core import plan as change
from ops.core.errors import AwsError, OpsError
from ops.core.plan import Change
from ops.function import plan
from ops.function.earlier_versions import MOST, format_description, parse_description
from ops.function.invocation import format_answer
from tests.conftest import settings_of

SETTINGS = settings_of(text="fn: {reserved: 10}")
CODE = plan.package_function()
CONFIG = {
    **plan.build_function_config(SETTINGS),
    "CodeSha256": plan.compute_code_sha256(CODE),
    "FunctionName": SETTINGS.function_name,
}
COMPLETE = {
    "config": CONFIG, "alias": "3", "alias_sha": plan.derive_fingerprint(CONFIG), "reserved": 10, "provisioned": 1,
    "provisioned_state": "READY", "unreserved": 990, "log_group": True,
}  # fmt: skip


def planned(settings=SETTINGS, **facts):
    steps = change.preview(plan.steps(plan.Facts(**{**COMPLETE, **facts}), CODE, settings))
    return [s.call for s in steps if isinstance(s, Change)]


def test_package_is_reproducible_with_the_handler_at_its_root():
    """The package is the same bytes every time, and holds the handler at its root."""
    assert plan.package_function() == CODE
    names = zipfile.ZipFile(io.BytesIO(CODE)).namelist()
    assert "handler.py" in names
    assert all("/" not in name for name in names)


def test_package_stays_small_and_starts_quickly(tmp_path):
    """Below 100 KB, and at most 0.35 s of CPU for the code outside the handler, in a new interpreter. Other programs run too, so one of eight is enough."""
    assert len(CODE) < 100_000
    zipfile.ZipFile(io.BytesIO(CODE)).extractall(tmp_path)
    program = "import time; import handler; print(time.process_time())"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "AWS_DEFAULT_REGION": "us-east-1"}

    def measure():
        return float(subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, check=True).stdout)

    assert any(measure() <= 0.35 for _ in range(8))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"class": "7", "probability": 0.5, "release": "a" * 64}, "7  0.500  release aaaaaaaaaaaa"),
        ({"class": "7", "probability": 0.5, "certain": True, "release": "a" * 64}, "7  0.500  release aaaaaaaaaaaa"),
        (
            {"class": "7", "probability": 0.5, "certain": False, "release": "a" * 64},
            "7  0.500  not certain  release aaaaaaaaaaaa",
        ),
        (
            {"statusCode": 503, "error": "busy", "message": "the queue is full; try again", "request_id": "1"},
            "The function answers 503: the queue is full; try again. Check the endpoint: invoke sm.status",
        ),
    ],
    ids=["without threshold", "certain", "not certain", "busy"],
)
def test_answer_is_printed_in_one_line(answer, text):
    assert format_answer(answer) == text


@pytest.mark.parametrize(
    ("facts", "calls"),
    [
        ({}, []),
        (
            {"config": {**CONFIG, "CodeSha256": "old"}, "alias_sha": "old"},
            ["update_function_code", "publish_version", "update_alias"],
        ),
        (
            {"config": {**CONFIG, "Timeout": 3}, "alias_sha": "old"},
            ["update_function_configuration", "publish_version", "update_alias"],
        ),
        ({"alias": None, "alias_sha": None}, ["publish_version", "create_alias"]),
        ({"reserved": None}, ["put_function_concurrency"]),
        ({"provisioned": None, "provisioned_state": ""}, ["put_provisioned_concurrency_config"]),
        ({"alias_sha": "of a version that a crash left behind"}, ["publish_version", "update_alias"]),
    ],
)
def test_function_deploy_plan_follows_the_facts(facts, calls):
    assert planned(**facts) == calls


class Versions:
    """A function of which the versions up to `newest` exist, except those that were deleted."""

    settings = SETTINGS

    def __init__(self, newest, deleted=()):
        self.newest, self.deleted = newest, deleted

    def call_or_none(self, service, call, missing, FunctionName, Qualifier):
        return None if int(Qualifier) > self.newest or Qualifier in self.deleted else {}


@pytest.mark.parametrize(
    ("earlier", "deleted", "version"),
    [(("3", "1"), (), "3"), (("3", "1"), ("3",), "1"), (("9", "3"), (), "3"), (None, (), "4"), (None, ("4",), "3")],
    ids=["refused between", "deleted", "newer deleted", "no record", "no record, deleted"],
)
def test_rollback_goes_to_the_newest_that_was_live(earlier, deleted, version):
    have = plan.Facts(alias="5", earlier=earlier)
    assert plan.choose_rollback_version(Versions(5, deleted), have) == version


def test_rollback_without_an_earlier_live_version_is_refused():
    with pytest.raises(OpsError, match="has no version that was live before version 5"):
        plan.choose_rollback_version(Versions(5), plan.Facts(alias="5", earlier=()))


@given(st.lists(st.one_of(st.just("deploy"), st.just("refused"), st.just("rollback")), max_size=MOST))
def test_alias_remembers_what_was_live(events):
    """Deployments, refused versions and roll-backs, against a list of what was live."""
    live, stack, newest = plan.Facts(unreserved=1000), [], 0
    for event in events:
        newest += event != "rollback"
        if event == "deploy":
            stack.append(str(newest))
            live = moved(plan.steps(live, CODE, SETTINGS), str(newest))
        elif event == "rollback" and len(stack) > 1:
            stack.pop()
            version = plan.choose_rollback_version(Versions(newest), live)
            live = moved(plan.rollback_steps(live, version, SETTINGS), version)
    assert live.alias == (stack[-1] if stack else None)
    assert live.earlier == (tuple(stack[-2::-1]) if stack else None)


def test_record_fits_into_a_description():
    versions = tuple(str(number) for number in range(100_000, 99_000, -1))
    assert len(format_description(versions)) <= 256
    assert parse_description(format_description(versions)) == versions[:MOST]
    assert parse_description("of an older Kennel") is None
    assert parse_description(format_description(())) == ()


def moved(steps, version):
    """Return the facts after the steps, of which the last that concerns the alias moves it to `version`."""
    answers = change.walk_steps(steps, lambda step: {"Version": version})
    made = [step for step in answers if isinstance(step, Change) and step.call.endswith("_alias")]
    assert made[-1].args["FunctionVersion"] == version
    return plan.Facts(alias=version, earlier=parse_description(made[-1].args["Description"]), unreserved=1000)


def test_first_deploy_creates_everything():
    steps = change.preview(plan.steps(plan.Facts(unreserved=1000), CODE, SETTINGS))
    assert [s.call for s in steps if isinstance(s, Change)] == [
        "create_log_group", "put_retention_policy", "create_function", "publish_version", "create_alias",
        "put_function_concurrency", "put_provisioned_concurrency_config",
    ]  # fmt: skip


def test_reservation_above_the_account_limit_is_rejected():
    """An account that cannot reserve so many executions gets an error before any call."""
    with pytest.raises(OpsError, match=r"fn\.reserved is 10, but this account can reserve 0 at most"):
        planned(reserved=None, unreserved=10)


def test_reserved_concurrency_can_be_zero_or_unset():
    """All calls can be stopped, or nothing reserved, on any account."""

    def with_reserved(value):
        return SETTINGS.model_copy(update={"fn": SETTINGS.fn.model_copy(update={"reserved": value, "provisioned": 0})})

    small = {"unreserved": 10, "provisioned": None, "provisioned_state": ""}
    assert planned(with_reserved(0), **{**small, "reserved": None}) == ["put_function_concurrency"]
    assert planned(with_reserved(None), **{**small, "reserved": None}) == []
    assert planned(with_reserved(None), **{**small, "reserved": 5}) == ["delete_function_concurrency"]


@pytest.mark.parametrize(
    ("reserved", "provisioned", "had", "calls"),
    [
        (3, 2, (10, 8), ["put_provisioned_concurrency_config", "put_function_concurrency"]),
        (10, 8, (3, 2), ["put_function_concurrency", "put_provisioned_concurrency_config"]),
        (3, 0, (10, 8), ["delete_provisioned_concurrency_config", "put_function_concurrency"]),
        (0, 8, (10, 8), ["delete_provisioned_concurrency_config", "put_function_concurrency"]),
        (0, 8, (0, None), []),
        (None, 8, (10, 2), ["delete_function_concurrency", "put_provisioned_concurrency_config"]),
    ],
)
def test_concurrency_changes_in_lambdas_order(reserved, provisioned, had, calls):
    """Lambda refuses a reservation below what is provisioned; 0 reserved stops all calls and provisions nothing."""
    fn = SETTINGS.fn.model_copy(update={"reserved": reserved, "provisioned": provisioned})
    settings = SETTINGS.model_copy(update={"fn": fn})
    state = "READY" if had[1] else ""
    assert planned(settings, reserved=had[0], provisioned=had[1], provisioned_state=state) == calls


def test_new_role_is_retried_and_other_errors_are_not():
    """A role made seconds ago is waited for; no other error is."""
    refusals = iter([AwsError("CreateFunction", "InvalidParameterValueException", f"The role {plan.NOT_YET}."), None])

    def answer(step):
        if isinstance(step, Change) and step.call == "create_function" and (error := next(refusals)):
            raise error
        return {"Version": "1"}

    walked = [
        getattr(s, "call", "wait")
        for s in change.walk_steps(plan.steps(plan.Facts(unreserved=1000, log_group=True), CODE, SETTINGS), answer)
    ]
    assert walked[:4] == ["create_function", "wait", "create_function", "wait"]
    with pytest.raises(AwsError, match="CodeStorageExceeded"):
        list(
            change.walk_steps(
                change.retry_until_trusted(
                    Change("lambda", "create_function", {}, ""), plan.NOT_YET, plan.ROLE_WAITS_S
                ),
                lambda s: (_ for _ in ()).throw(AwsError("C", "CodeStorageExceeded", "")),
            )
        )
