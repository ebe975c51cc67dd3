"""The page on an endpoint that does not scale, followed: scaling is suspended by a real call, under real load."""

import pytest

from ops.endpoint import scaling
from tests.e2e.test_incidents import Page
from tests.e2e.test_scaler import AAS, Load, activities, alarms, capacity, until


@pytest.mark.timeout(300)
def test_endpoint_not_scaling_page_resumes_scaling(demo_stack, inject_fault, digits):
    page = Page("endpoint-not-scaling", demo_stack, most="2")
    where = scaling.identify_resource(demo_stack.settings)
    demo_stack("sm.autoscale")
    inject_fault("clock", speed=60)
    until(lambda: capacity(demo_stack) == (1, 1))
    inject_fault("clock", speed=1)
    assert not page.confirmed()  # healthy
    assert page.verified()
    demo_stack.account.call(
        AAS, "register_scalable_target", **where, SuspendedState={"DynamicScalingOutSuspended": True}
    )  # fmt: skip
    before = len(activities(demo_stack))
    body = next((digits / "test" / "1").iterdir()).read_bytes()
    with Load(demo_stack.account, demo_stack.settings.endpoint_name, body) as load:
        load.each = 15
        inject_fault("clock", speed=20)
        until(lambda: alarms(demo_stack)[0] == "ALARM")
        assert page.confirmed()
        assert "! Scaling out is suspended." in demo_stack("sm.autoscale", "--explain", ok=False).out
        assert not page.verified()
        assert (capacity(demo_stack), len(activities(demo_stack))) == ((1, 1), before)
        assert page.works("resume")
        until(lambda: capacity(demo_stack)[1] == 2)
        load.each = 1
        until(lambda: alarms(demo_stack)[0] == "OK")
        assert page.verified()
        assert not page.confirmed()
    # The maximum raised, and back: the page says that Verify fails in between
    assert page.works("more")
    assert not page.verified()
    demo_stack("sm.autoscale")
    assert page.verified()
    inject_fault("clock", speed=60)
    until(lambda: capacity(demo_stack) == (2, 2))
