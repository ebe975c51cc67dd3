"""SageMaker: plans by equality, jobs that really run and really fail, releases that really answer."""


def test_an_endpoint_that_does_not_exist_is_said_not_to_exist(stacks):
    cli = stacks("noendpoint")
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
