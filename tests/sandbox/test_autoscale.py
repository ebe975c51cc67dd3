"""sm.autoscale: plans by equality, what it explains by table, and both for real on a deployed endpoint."""


def test_an_endpoint_that_is_not_there_is_not_explained(stacks):
    refused = stacks("noscaling")("sm.autoscale", "--explain", ok=False)
    assert refused.code == 1
    assert "There is no endpoint kennel-noscaling. Deploy one: invoke sm.deploy" in refused.err
