"""The Lambda function: a package that is the same every time, a plan by equality, limits that limit."""


def test_no_function_is_said_to_be_none(stacks):
    cli = stacks("nofunction")
    for command in (("lambda.status",), ("lambda.concurrency",)):
        assert (
            "There is no function kennel-nofunction-classify. Create it: invoke lambda.deploy"
            in cli(*command, ok=False).err
        )
