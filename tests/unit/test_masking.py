"""No key and no password of a URL is printed or kept: each test looks for a canary."""

import io
import json
import logging

import pytest
from botocore.exceptions import ClientError

from ops.core import task
from ops.core.aws.account import Account
from ops.core.aws.errors import build_aws_error
from ops.core.masking import identify_url, mask_keys, strip_url
from ops.core.plan import Change
from tests.conftest import Cli, settings_of, write_settings

SETTINGS = settings_of()

KEY = "ASIA" + "IOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TOKEN = "FwoGZXIvYXdzEBYaDCANARY" + "Zm9v/b+r" * 20 + "=="
TEXTS = [
    f"The key {KEY} does not exist",
    f"secret {SECRET}.",
    f"<SessionToken>{TOKEN}</SessionToken>",
    f'{{"SecretAccessKey": "{TOKEN}"}}',
    f"{{'x-amz-security-token': b'{TOKEN}', 'Host': 'h'}}",
    f"Credential={KEY}/20261201/us-east-1/iam/aws4_request, Signature={TOKEN}",
    f"https://b.s3.amazonaws.com/k?X-Amz-Credential={KEY}%2F20261201&X-Amz-Signature={TOKEN}&X-Amz-Expires=9",
]


@pytest.mark.parametrize("text", TEXTS)
def test_keys_are_masked_wherever_they_stand(text):
    masked = mask_keys(text)
    assert not any(canary in masked for canary in (KEY, SECRET, TOKEN))
    assert "..." in masked


@pytest.mark.parametrize(
    "text",
    [
        "arn:aws:iam::123456789012:role/kennel-demo-operator is not authorized to perform: sts:AssumeRole",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        f"Encoded authorization failure message: -{SECRET.replace('/', 'x')}-",
        "s3://kennel-demo-123456789012/datasets/0a1b2c3d4e5f/train/shard-00001.tar",
    ],
)
def test_text_without_keys_is_kept(text):
    assert mask_keys(text) == text


def test_aws_message_is_masked():
    error = build_aws_error(ClientError({"Error": {"Code": "InvalidKey", "Message": TEXTS[0]}}, "GetRole"))
    assert str(error) == "AWS refused GetRole: InvalidKey: The key ... does not exist"


def test_audit_log_is_masked(tmp_path, monkeypatch):
    (tmp_path / "aws").mkdir()
    (tmp_path / "aws/config").write_text("[profile sandbox]\naws_access_key_id = a\naws_secret_access_key = b\n")
    account = Account(settings_of(write_settings(tmp_path / "s.yaml", tmp_path, "s")), audit=tmp_path / "w/audit.jsonl")
    answer = {"Error": {"Code": "No", "Message": f"{KEY} with {SECRET}"}}

    def refuse(*_, **__):
        raise ClientError(answer, "PutObject")

    monkeypatch.setattr(account, "guard", lambda: None)
    monkeypatch.setattr(account, "client", lambda *_: type("Client", (), {"put_object": refuse}))
    with pytest.raises(task.OpsError):
        account.make_change(Change("s3", "put_object", {"Key": SECRET, "Tagging": f"token={KEY}"}, why="it is missing"))
    lines = (tmp_path / "w/audit.jsonl").read_text()
    assert [json.loads(line)["call"] for line in lines.splitlines()] == ["s3.put_object"] * 2
    assert KEY not in lines
    assert SECRET not in lines


def test_debug_output_is_masked(monkeypatch):
    written = io.StringIO()
    logger = logging.getLogger("botocore.canary")
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(written)])
    task.mask_debug_output()
    logger.warning("sending %s", {"X-Amz-Security-Token": TOKEN})
    assert written.getvalue() == "sending {'X-Amz-Security-Token': '...'}\n"


def test_url_is_printed_without_password_and_query():
    assert strip_url("https://me:canary@host:8443/a/b.zip?token=canary#canary") == "https://host:8443/a/b.zip"
    assert strip_url("https://host/a.zip") == identify_url("https://host/a.zip") == "https://host/a.zip"
    one, two = (identify_url(f"https://me:canary@host/a.zip?token=canary{number}") for number in (1, 2))
    assert one != two
    assert "canary" not in one


def test_password_of_sudo_is_not_printed(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from ops.box.access import build_ssh_options

    (tmp_path / "s.yaml").write_text("stack: {name: s, colour: t}\n")
    monkeypatch.setenv("INVOKE_SUDO_PASSWORD", "canary")
    ran = Cli(tmp_path / "s.yaml")("doctor", ok=False)
    assert "colour" in ran.err
    assert "canary" not in ran.said
    monkeypatch.setenv("INVOKE_EC2_USER", "me")
    options = build_ssh_options(SimpleNamespace(settings=SETTINGS), "i-1", None)["ProxyCommand"]
    assert "INVOKE_EC2_USER=me" in options
    assert "canary" not in options


def test_fetch_names_its_url_without_the_password(tmp_path):
    cli = Cli(write_settings(tmp_path / "s.yaml", tmp_path, "s"))
    url = "https://me:canary@127.0.0.1:9/a.zip?sig=canary"
    for words in (["--dry"], []):
        ran = cli(*words, "data.fetch", url, "--dir", str(tmp_path / "d"), ok=bool(words))
        assert "https://127.0.0.1:9/a.zip" in ran.out + ran.err
        assert "canary" not in ran.out + ran.err


@pytest.mark.parametrize(
    "text",
    [
        "{'x-amz-sso_bearer_token': 'CANARY'}",
        '"refreshToken": "CANARY"',
        "WebIdentityToken=CANARY",
        "'clientSecret': 'CANARY'",
    ],
)
def test_tokens_of_logins_are_masked(text):
    assert "CANARY" not in mask_keys(text)
