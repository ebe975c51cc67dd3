"""SageMaker: plans by equality, jobs that really run and really fail, releases that really answer."""


def test_missing_endpoint_is_reported_by_every_command(make_stack):
    cli = make_stack("noendpoint")
    for command in (
        ("sm.status",),
        ("sm.autoscale",),
        ("sm.logs",),
        ("sm.delete", "--confirm", "kennel-noendpoint"),
        ("sm.invoke", "README.md"),
    ):
        refused = cli(*command, ok=False)
        assert refused.code == 1, command
        assert "There is no endpoint kennel-noendpoint. Deploy one: invoke sm.deploy" in refused.err, command
