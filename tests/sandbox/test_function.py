"""The Lambda function: deployed, called before callers get it, rolled back, and its failures reported with an exit code."""

import io
import json
import zipfile

import pytest

from ops.function import plan


def zip_handler(source: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("handler.py", source)
    return packed.getvalue()


ANSWER = """
import json
def lambda_handler(event, context):
    status = 400 if "image" not in event else {status}
    return {{"statusCode": status, "headers": {{}}, "body": json.dumps({body})}}
"""
GOOD = zip_handler(ANSWER.format(status=200, body={"class": "7", "probability": 1.0, "release": "a" * 64}))
BUSY = zip_handler(ANSWER.format(status=503, body={"error": "busy", "message": "no healthy instance; try again"}))


def test_missing_function_is_reported(make_stack):
    cli = make_stack("nofunction")
    for command in (("lambda.status",), ("lambda.concurrency",), ("lambda.rollback",)):
        assert (
            "There is no function kennel-nofunction-classify. Create it: invoke lambda.deploy"
            in cli(*command, ok=False).err
        )


@pytest.fixture
def deploy(make_stack, monkeypatch):
    """Deploys a function with other code than that of lambda/."""
    cli = make_stack("functions", "fn: {provisioned: 0, reserved: 5}")

    def run(code, ok=True):
        monkeypatch.setattr(plan, "package_function", lambda: code)
        return cli("lambda.deploy", ok=ok)

    yield cli, run
    cli("lambda.down", "--yes")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('broken at import')", "RuntimeError: broken at import"),
        ("def lambda_handler(event, context): return undefined", "NameError: name 'undefined' is not defined"),
        ("handler = None", "lambda_handler"),
        ("def lambda_handler(event, context): return {'statusCode': 500, 'body': '{}'}", "answers 500"),
    ],
    ids=["import", "call", "name", "500"],
)
def test_deploy_keeps_the_alias_when_the_new_version_fails(deploy, source, reason):
    cli, run = deploy
    run(GOOD)
    live = json.loads(cli("lambda.status", "--json").out)["live"]
    refused = run(zip_handler(source), ok=False)
    assert refused.code == 1
    assert reason in refused.err
    assert "Alias live was not moved" in refused.err
    assert json.loads(cli("lambda.status", "--json").out)["live"] == live
    assert run(zip_handler(source), ok=False).code == 1  # a second try does not move it either
    run(GOOD)


def test_first_deploy_of_a_broken_handler_makes_no_alias(deploy):
    cli, run = deploy
    refused = run(zip_handler("import nothing_of_this_name"), ok=False).err
    assert "Alias live was not moved" in refused
    assert "not compared with the endpoint's scaling: There is no endpoint kennel-functions." in refused
    assert json.loads(cli("lambda.status", "--json").out)["live"] is None
    run(GOOD)


def test_rollback_moves_the_alias_and_deploy_forward_again(deploy):
    cli, run = deploy
    run(GOOD)
    first = json.loads(cli("lambda.status", "--json").out)["live"]
    assert f"no version that was live before version {first}" in cli("lambda.rollback", ok=False).err
    assert run(zip_handler("raise RuntimeError"), ok=False).code == 1  # a version between the two, which never was live
    run(BUSY)
    dry = cli("--dry", "lambda.rollback")
    assert "lambda.update_alias" in dry.err
    assert json.loads(cli("lambda.status", "--json").out)["live"] != first
    assert f"is version {first}" in cli("lambda.rollback").out
    assert json.loads(cli("lambda.status", "--json").out)["live"] == first
    assert "0 made" in cli("lambda.rollback", "--to", first).out
    assert (
        "no version that was live before" in cli("lambda.rollback", ok=False).err
    )  # the one rolled back from cannot be a target
    assert "has no version 99" in cli("lambda.rollback", "--to", "99", ok=False).err
    assert "--to takes the number of a version" in cli("lambda.rollback", "--to", "live", ok=False).err
    run(BUSY)


def test_invoke_exits_with_1_when_the_function_answers_an_error(deploy, pictures, tmp_path):
    cli, run = deploy
    run(BUSY)
    picture = next(pictures.rglob("*.png"))
    failed = cli("lambda.invoke", "--picture", str(picture), ok=False)
    assert failed.code == 1
    assert (
        "The function answers 503: no healthy instance; try again. Check the endpoint: invoke sm.status" in failed.out
    )
    assert json.loads(cli("lambda.invoke", "--picture", str(picture), "--json", ok=False).out)["statusCode"] == 503
    run(GOOD)
    assert cli("lambda.invoke", "--picture", str(picture)).out.startswith("7")
    large = tmp_path / "large.png"
    large.write_bytes(b"x" * 4_800_000)
    assert "at most 4,717,568 fit into an event" in cli("lambda.invoke", "--picture", str(large), ok=False).err


def test_stopped_function_can_be_deployed_again(deploy):
    """With a reservation of 0 the new version cannot be called; a deploy is how the function gets calls back."""
    cli, run = deploy
    run(GOOD)
    cli.account.client("lambda").put_function_concurrency(
        FunctionName=cli.settings.function_name, ReservedConcurrentExecutions=0
    )
    run(BUSY)
    assert json.loads(cli("lambda.status", "--json").out)["reserved"] == 5
    run(GOOD)
