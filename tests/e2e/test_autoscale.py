"""sm.autoscale: plans by equality, what it explains by table, and both for real on a deployed endpoint."""

import json
from datetime import date, timedelta

import pytest

from ops.core.paths import ROOT
from tests.unit.test_autoscale import SCHEDULE


@pytest.mark.timeout(300)
def test_autoscale_applies_and_reverts_metric_and_schedule(demo_stack, inject_fault):
    """By its own settings it is right; by others it has drifted, and is brought there, and back."""
    other = type(demo_stack)(demo_stack.file.with_name("wholeclocked.yaml"))
    coming = SCHEDULE.replace(
        "2026-12-01", str(date.today() + timedelta(days=30))
    )  # One that has passed asks for nothing.
    assert coming != SCHEDULE
    more = "endpoint:\n  scaling_metric: concurrency\n" + coming.split("\n", 1)[1]
    other.file.write_text(demo_stack.file.read_text() + more)
    demo_stack("sm.autoscale")
    assert demo_stack("sm.autoscale").out.startswith("Scaling between 1 and 4 instances. 0 made")
    explained = other("sm.autoscale", "--explain", "--json", ok=False)
    assert explained.code == 7
    assert [
        one["message"].split(".")[0] for one in json.loads(explained.out)["findings"] if one["severity"] == "error"
    ] == [
        "It has no scaling policy for concurrency",
        "There is a second policy, kennel-whole-invocations, left from another metric: invoke sm",
        "The scheduled action kennel-whole-morning is missing",
        "The scheduled action kennel-whole-launch is missing",
    ]
    inject_fault("fault", operation="PutScalingPolicy", do="error", code="ConcurrentUpdateException", message="pending")
    assert "Wait until invoke sm.status says InService" in other("sm.autoscale", ok=False).err
    assert "Scaling between 1 and 4 instances. 4 made" in other("sm.autoscale").out
    assert "Scaling between 1 and 4 instances. 0 made" in other("sm.autoscale").out
    said = other("sm.autoscale", "--explain").out
    assert said.startswith("kennel-whole scales with its load: ")
    assert "Adds instances after 3 ten-second points in a row above 2 requests at once each; latest points: " in said
    back = demo_stack("sm.autoscale").err
    assert back.count("delete_scheduled_action") == 2
    assert "- application-autoscaling.delete_scaling_policy: scale by invocations instead of concurrency" in back
    assert demo_stack("sm.autoscale", "--explain", ok=False).out.startswith("kennel-whole scales with its load: ")


def test_limits_that_do_not_fit_need_a_reason(demo_stack):
    """The shipped limits fit the release that the demo measured; those of the original do not, in a dry run either."""
    assert demo_stack("sm.capacity").out.rstrip().endswith("Function, scaling and instances agree.")
    other = type(demo_stack)(demo_stack.file.with_name("wholeoriginal.yaml"))
    other.file.write_text(demo_stack.file.read_text() + (ROOT / "original.example.yaml").read_text())
    for words in (("sm.autoscale",), ("lambda.deploy",), ("--dry", "sm.autoscale"), ("--dry", "lambda.deploy")):
        refused = other(*words, ok=False)
        assert refused.code == 7
        assert "fn.reserved and the endpoint's scaling do not fit each other, and nothing was changed." in refused.err
    allowed = other("--dry", "sm.autoscale", "--because", "to compare")
    assert "Warning: The function admits" in allowed.err
    assert "track 20 invocations per instance and minute" in allowed.err
