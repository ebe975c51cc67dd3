"""The Lambda function: a package that is the same every time, a plan by equality, limits that limit."""


def test_missing_function_is_reported(make_stack):
    cli = make_stack("nofunction")
    for command in (("lambda.status",), ("lambda.concurrency",)):
        assert (
            "There is no function kennel-nofunction-classify. Make it: invoke lambda.deploy"
            in cli(*command, ok=False).err
        )
