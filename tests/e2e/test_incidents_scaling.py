"""The page on an endpoint that does not scale, followed: scaling is suspended by a real call, under real load."""

import pytest

from ops.endpoint import scaling
from tests.e2e.test_incidents import Page
from tests.e2e.test_scaler import AAS, Load, activities, alarms, capacity, until


@pytest.mark.timeout(300)
def test_endpoint_not_scaling(whole, drill, digits):
    page = Page("endpoint-not-scaling", whole, most="2")
    where = scaling.identify_resource(whole.settings)
    whole("sm.autoscale")
    drill("clock", speed=60)
    until(lambda: capacity(whole) == (1, 1))
    drill("clock", speed=1)
    assert not page.confirmed()  # healthy
    assert page.verified()
    whole.account.call(
        AAS, "register_scalable_target", **where, SuspendedState={"DynamicScalingOutSuspended": True}
    )  # fmt: skip
    before = len(activities(whole))
    body = next((digits / "test" / "1").iterdir()).read_bytes()
    with Load(whole.account, whole.settings.endpoint_name, body) as load:
        load.each = 15
        drill("clock", speed=20)
        until(lambda: alarms(whole)[0] == "ALARM")
        assert page.confirmed()
        assert "! Scaling out is suspended." in whole("sm.autoscale", "--explain", ok=False).out
        assert not page.verified()
        assert (capacity(whole), len(activities(whole))) == ((1, 1), before)
        assert page.works("resume")
        until(lambda: capacity(whole)[1] == 2)
        load.each = 1
        until(lambda: alarms(whole)[0] == "OK")
        assert page.verified()
        assert not page.confirmed()
    # The maximum raised, and back: the page says that Verify fails in between
    assert page.works("more")
    assert not page.verified()
    whole("sm.autoscale")
    assert page.verified()
    drill("clock", speed=60)
    until(lambda: capacity(whole) == (2, 2))
