"""The page on an endpoint that does not scale, followed: scaling is suspended by a real call, under real load."""

import pytest

from ops.endpoint import scaling
from tests.e2e.test_incidents import Page
from tests.e2e.test_scaler import AAS, Load, activities, alarms, capacity, until


@pytest.mark.timeout(300)
def test_endpoint_not_scaling_page_resumes_scaling(scaling_stack, inject_fault, digits):
    page = Page("endpoint-not-scaling", scaling_stack, most="2")
    where = scaling.identify_resource(scaling_stack.settings)
    scaling_stack("sm.autoscale")
    inject_fault("clock", speed=60)
    until(lambda: capacity(scaling_stack) == (1, 1))
    inject_fault("clock", speed=1)
    until(page.verified)  # healthy, once what tests before this one did is over
    assert not page.confirmed()
    scaling_stack.account.call(
        AAS, "register_scalable_target", **where, SuspendedState={"DynamicScalingOutSuspended": True}
    )  # fmt: skip
    before = len(activities(scaling_stack))
    body = next((digits / "test" / "1").iterdir()).read_bytes()
    with Load(scaling_stack.account, scaling_stack.settings.endpoint_name, body) as load:
        load.each = 15
        inject_fault("clock", speed=20)
        until(lambda: alarms(scaling_stack)[0] == "ALARM")
        assert page.confirmed()
        assert "! Scaling out is suspended." in scaling_stack("sm.autoscale", "--explain", ok=False).out
        assert not page.verified()
        assert (capacity(scaling_stack), len(activities(scaling_stack))) == ((1, 1), before)
        assert page.works("resume")
        until(lambda: capacity(scaling_stack)[1] == 2)
        load.each = 1
        until(lambda: alarms(scaling_stack)[0] == "OK")
        assert page.verified()
        assert not page.confirmed()
    # The maximum raised, and back: the page says that Verify fails in between
    assert page.works("more")
    assert not page.verified()
    scaling_stack("sm.autoscale")
    assert page.verified()
    inject_fault("clock", speed=60)
    until(lambda: capacity(scaling_stack) == (2, 2))
    scaling_stack("sm.autoscale", "--max-instances", "1")  # no instance is removed without requests
    until(lambda: capacity(scaling_stack) == (1, 1))
