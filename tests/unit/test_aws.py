"""The one door to AWS: whose account, which retries, what is logged, how long is waited."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from ops.core.aws.errors import explain_sdk_error, redact, shorten_for_log
from tests.conftest import Cli, write_settings


def test_missing_profile_names_the_command(tmp_path):
    cli = Cli(write_settings(tmp_path / "s.yaml", tmp_path / "sandbox", "none"))
    ran = cli("iam.audit", ok=False)
    assert ran.code == 1
    assert "There is no AWS profile 'sandbox'" in ran.err
    assert "invoke sandbox.up" in ran.err
    assert "Traceback" not in ran.err


def test_secrets_and_packages_never_reach_the_log():
    args = {
        "Environment": {"Variables": {"KEY": "s3cret"}},
        "Code": {"ZipFile": b"PK..."},
        "Text": "x" * 500,
        "Names": ["a", b"bb"],
    }
    assert shorten_for_log(args) == {
        "Environment": "...",
        "Code": {"ZipFile": "<5 bytes>"},
        "Text": "x" * 200 + "...",
        "Names": ["a", "<2 bytes>"],
    }


def test_secrets_are_redacted_from_error_messages():
    args = {
        "Environment": {"Variables": {"KEY": "long s3cret", "N": "7"}},
        "Keys": [{"AccessKeyId": "x" * 16}],
        "Name": "some name",
    }
    assert redact(f"7: 'long s3cret' of some name, {'x' * 16}", args) == "7: '...' of some name, ..."


@pytest.mark.parametrize(
    ("code", "minutes", "words"),
    [
        ("ExpiredToken", 0, "The session has expired: log in again"),
        ("ExpiredTokenException", 0, "The session has expired"),
        ("RequestExpired", 0, "The session has expired"),  # of EC2, which says it of a clock that is off, too
        ("RequestExpired", 30, "clock is wrong by +30 minutes"),
        ("RequestExpired", -7, "clock is wrong by -7 minutes"),
        ("RequestTimeTooSkewed", 30, "clock is wrong by +30 minutes"),
        ("RequestTimeTooSkewed", None, "clock is wrong, and AWS"),
    ],
)
def test_expired_session_and_wrong_clock_are_distinguished(code, minutes, words):
    """An expired session and a wrong clock give different messages."""
    from botocore.exceptions import ClientError

    headers = {}
    if minutes is not None:
        headers["date"] = format_datetime(datetime.now(UTC) - timedelta(minutes=minutes))
    answer = {"Error": {"Code": code, "Message": "No."}, "ResponseMetadata": {"HTTPHeaders": headers}}
    assert words in str(explain_sdk_error(ClientError(answer, "DescribeVpcs")))
