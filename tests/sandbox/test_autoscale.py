"""sm.autoscale: plans by equality, what it explains by table, and both for real on a deployed endpoint."""


def test_missing_endpoint_names_the_deploy_command(make_stack):
    refused = make_stack("noscaling")("sm.autoscale", "--explain", ok=False)
    assert refused.code == 1
    assert "There is no endpoint kennel-noscaling. Deploy one: invoke sm.deploy" in refused.err
