"""The Lambda function: a package that is the same every time, a plan by equality, limits that limit."""

import io
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.core import plan as change
from ops.core.errors import ROLLED_BACK, AwsError, OpsError
from ops.core.paths import ROOT
from ops.core.plan import Change
from ops.function import canary, kill_switch, logs, metrics, page, plan, preflight, url
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


def limit_calls(steps):
    return [
        (step.call, step.args.get("ReservedConcurrentExecutions"))
        for step in change.preview(steps)
        if isinstance(step, Change)
    ]


@pytest.mark.parametrize("code", ["old", CONFIG["CodeSha256"]], ids=["other code", "same code"])
def test_kill_switch_changes_limits_only(code):
    have = plan.Facts(**{**COMPLETE, "config": {**CONFIG, "CodeSha256": code}, "alias_sha": "old"})
    stop = [("delete_provisioned_concurrency_config", None), ("put_function_concurrency", 0)]
    assert limit_calls(kill_switch.stop_steps(have, SETTINGS)) == stop
    stopped = replace(have, reserved=0, provisioned=None, provisioned_state="")
    assert limit_calls(kill_switch.stop_steps(stopped, SETTINGS)) == []
    resume = [("put_function_concurrency", 10), ("put_provisioned_concurrency_config", None)]
    assert limit_calls(kill_switch.resume_steps(stopped, SETTINGS)) == resume
    assert limit_calls(kill_switch.resume_steps(have, SETTINGS)) == []


@pytest.mark.parametrize(
    ("facts", "text", "reason"),
    [
        ({}, "fn: {reserved: 0, provisioned: 0}", "fn.reserved is 0, which stops all calls"),
        ({"alias": None}, "fn: {reserved: 3}", "has no alias live yet. Create it: invoke lambda.deploy"),
        ({"reserved": 0, "unreserved": 100}, "fn: {reserved: 3}", "this account can reserve 0 at most"),
    ],
    ids=["settings stop", "no alias", "quota"],
)
def test_resume_refuses_limits_that_admit_nothing(facts, text, reason):
    with pytest.raises(OpsError, match=re.escape(reason)):
        change.preview(kill_switch.resume_steps(plan.Facts(**{**COMPLETE, **facts}), settings_of(text=text)))


class Answers:
    """An account that answers every listing with the next of these pages."""

    settings = SETTINGS

    def __init__(self, *pages):
        self.pages = list(pages)

    def list_all(self, service, call, key, **args):
        return self.pages.pop(0)


def test_metrics_keep_minutes_in_which_all_calls_were_throttled():
    first, second = (datetime(2026, 1, 1, 12, minute, tzinfo=UTC) for minute in (0, 1))
    found = {"invocations": {first: 8.0}, "throttles": {second: 3.0}, "p99_ms": {first: 41.26}}
    results = [{"Id": name, "Timestamps": list(one), "Values": list(one.values())} for name, one in found.items()]
    points, failed = metrics.read_metrics(Answers(results), 15)
    assert [(one["minute"], one["invocations"], one["throttles"], one["p99_ms"]) for one in points] == [
        ("12:00", 8.0, 0.0, 41.3),
        ("12:01", 0.0, 3.0, 0.0),
    ]
    assert failed == ["12:01"]
    assert metrics.describe_metrics(points).endswith(
        "Throttles: 3. See what the limits admit: invoke lambda.concurrency"
    )


def test_errors_of_the_log_are_those_of_lambda_too():
    lines = [
        "Task timed out after 3.00 seconds\n",
        "END RequestId: 7",
        "KeyError: 'x'",
        "RequestId: 7 Error: Runtime exited",
    ]
    events = [
        {"eventId": str(n), "timestamp": n, "logStreamName": "2026/01/01/[3]abc", "message": line}
        for n, line in enumerate(lines)
    ]
    assert [line for _, line in logs.read_log(Answers(events), 15, errors=True)] == [lines[0].rstrip(), *lines[2:]]
    assert next(logs.read_log(Answers(events), 15, errors=False)) == ("[3]abc", lines[0].rstrip())


@pytest.mark.parametrize(
    ("size", "found", "foreign", "severities"),
    [
        (99_999, {"cpu_s": 0.35}, [], []),
        (100_000, {"cpu_s": 0.35}, [], ["error"]),
        (9, {"cpu_s": 0.36}, [], ["warning"]),
        (9, {"error": "ImportError: x"}, ["x"], ["error", "error"]),
    ],
    ids=["sound", "large", "slow", "broken"],
)
def test_preflight_findings_at_its_limits(size, found, foreign, severities):
    assert [one.severity for one in preflight.list_findings(size, found, foreign)] == severities


def test_shipped_handler_imports_only_what_lambda_has():
    assert preflight.find_foreign_imports(ROOT / "lambda") == set()


def describe_alias_changes(steps):
    found = [step.args for step in steps if isinstance(step, Change) and step.call == "update_alias"]
    return [(one["FunctionVersion"], one.get("RoutingConfig", {}).get("AdditionalVersionWeights")) for one in found]


def walk_canary(outcome):
    """The steps of a deploy with a canary, whose watch ends with `outcome`."""

    def answer(step):
        if isinstance(step, change.Wait) and step.what == "the canary" and outcome:
            raise outcome
        return {"Version": "5"}

    return change.walk_steps(plan.steps(plan.Facts(**{**COMPLETE, "alias_sha": "old"}), CODE, SETTINGS, 10), answer)


def test_canary_gets_its_share_and_then_all_calls():
    assert describe_alias_changes(walk_canary(None)) == [("3", {"5": 0.1}), ("5", {})]


@pytest.mark.parametrize(
    "outcome",
    [
        change.WaitFailed("1 of 7 calls of version 5 ended in an error."),
        AwsError("GetMetricData", "AccessDenied", "no"),
    ],
    ids=["errors", "blind"],
)
def test_canary_that_fails_gets_no_more_calls(outcome):
    walked = []
    with pytest.raises(OpsError, match="Alias live is back on version 3") as error:
        for step in walk_canary(outcome):
            walked.append(step)
    assert describe_alias_changes(walked) == [("3", {"5": 0.1}), ("3", {})]
    assert error.value.code == ROLLED_BACK


@pytest.mark.parametrize(
    ("facts", "percent", "calls"),
    [
        ({"alias": None, "alias_sha": None}, 10, ["publish_version", "create_alias"]),
        ({"alias_sha": "old", "reserved": 0}, 10, ["publish_version", "update_alias", "put_function_concurrency"]),
        ({"canary": True}, 0, ["update_alias"]),
    ],
    ids=["first deploy", "stopped", "interrupted"],
)
def test_canary_needs_callers_and_a_version_before(facts, percent, calls):
    steps = change.preview(plan.steps(plan.Facts(**{**COMPLETE, **facts}), CODE, SETTINGS, percent))
    assert [step.call for step in steps if isinstance(step, Change)] == calls


def test_rollback_ends_an_interrupted_canary():
    have = plan.Facts(**{**COMPLETE, "canary": True, "earlier": ("2",)})
    version = plan.choose_rollback_version(Versions(5), have)
    steps = change.preview(plan.rollback_steps(have, version, SETTINGS))
    assert (version, describe_alias_changes(steps)) == ("3", [("3", {})])


@pytest.mark.parametrize(("percent", "bake_s"), [(51, 300), (-1, 300), (10, 0)])
def test_canary_share_is_refused_unless_it_can_be_watched(percent, bake_s):
    with pytest.raises(OpsError):
        canary.check_share(percent, bake_s)


@pytest.mark.parametrize(
    ("errors", "line", "reason"),
    [
        (1.0, "", "1 of 4 calls of version 5 ended in an error"),
        (0.0, '{"request_id": "x", "status": 500}', "Version 5 answered 1 times with 500"),
        (0.0, '{"request_id": "x", "status": 503}', ""),
        (0.0, "500", ""),
    ],
    ids=["error", "500", "endpoint busy", "other line"],
)
def test_canary_watch_counts_errors_and_answers_500(errors, line, reason):
    at = datetime(2026, 1, 1, tzinfo=UTC)
    counts = [
        {"Id": name, "Timestamps": [at], "Values": [value]} for name, value in (("calls", 4.0), ("errors", errors))
    ]
    events = [
        {"eventId": version, "timestamp": 0, "logStreamName": f"2026/01/01/[{version}]abc", "message": text}
        for version, text in (("5", line), ("3", '{"status": 500}'))
    ]
    watch = canary.Watch({"FunctionName": "f", "Name": "live"}, "5", 300)
    if reason:
        with pytest.raises(change.WaitFailed, match=reason):
            watch(Answers(counts, events))
    else:
        assert watch(Answers(counts, events)) == "4 calls, no error"


OURS = {"FunctionUrl": "https://x.lambda-url.us-east-1.on.aws/", **url.CONFIG}


@pytest.mark.parametrize(
    ("have", "calls"),
    [
        (None, ["create_function_url_config"]),
        (OURS, []),
        (
            {
                **OURS,
                "Cors": {
                    **url.CORS,
                    "AllowHeaders": ["X-Amz-Date", *url.CORS["AllowHeaders"][:-2], "X-AMZ-Security-Token"],
                },
            },
            [],
        ),
        ({**OURS, "AuthType": "NONE"}, ["update_function_url_config"]),
        ({**OURS, "Cors": None}, ["update_function_url_config"]),
    ],
    ids=["missing", "ours", "other case", "open", "no CORS"],
)
def test_function_url_plan_follows_the_facts(have, calls):
    steps = change.preview(url.steps(plan.Facts(**COMPLETE), have, SETTINGS))
    assert [step.call for step in steps] == calls
    assert all(step.args["AuthType"] == "AWS_IAM" and step.args["Qualifier"] == "live" for step in steps)


def test_page_escapes_what_it_is_given():
    text = page.render_page("https://x/</script><b>", "us-east-1", "<i>")
    assert text.count("</script>") == 1
    assert "<i>" not in text
    assert "{DATA}" not in text
    assert not re.search(r"(src|href)=.?https?:|@import|<link", text)  # one self-contained file
