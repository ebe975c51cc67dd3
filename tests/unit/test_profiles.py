"""Profiles that give no keys: each is answered with one sentence and the next command, in doctor and in other commands."""

import hashlib
import json
from datetime import UTC, datetime, timedelta

import botocore.session
import pytest
from botocore.exceptions import CredentialRetrievalError, EndpointConnectionError, ProxyConnectionError
from botocore.httpsession import URLLib3Session

from ops.core.aws.errors import explain_sdk_error
from ops.core.aws.profile import explain_missing_keys
from ops.core.aws.session import give_up_soon_without_network
from tests.conftest import Cli, settings_of, write_settings

ROLE = "role_arn = arn:aws:iam::123456789012:role/r\n"
SSO = "sso_account_id = 123456789012\nsso_role_name = r\nsso_region = us-east-1\n"
START = "sso_start_url = https://example.awsapps.com/start\n"
KEYS = "[profile keys]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = secret\n"
SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
LOG_IN, CHECK, CREATE = "aws sso login --profile p", "aws configure list --profile p", "aws configure --profile p"

PROCESS = "[profile p]\ncredential_process = "
ENDING = '{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": "c", "Expiration": "soon"}'

# The file of profiles, what the sentence says, the next command.
CASES = {
    "no file": (None, "There is no AWS profile 'p'", CREATE),
    "no such profile": ("[profile pp]\n", "There is no AWS profile 'p'", "Did you mean 'pp'?"),
    "no keys": ("[profile p]\nregion = us-east-1\n", "Profile 'p' has no keys", CREATE),
    "half a key": ("[profile p]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n", "aws_secret_access_key", CHECK),
    "SSO never logged in": (f"[profile p]\n{SSO}{START}", "Profile 'p' is not logged in", LOG_IN),
    "SSO session never logged in": (
        f"[profile p]\nsso_session = s\n{SSO.splitlines()[0]}\nsso_role_name = r\n[sso-session s]\nsso_region = us-east-1\n{START}",
        "Profile 'p' is not logged in", LOG_IN,
    ),
    "SSO session missing": (f"[profile p]\nsso_session = s\n{SSO}", "sso-session does not exist", CHECK),
    "SSO incomplete": (f"[profile p]\n{START}sso_region = us-east-1\n", "SSO settings are incomplete", "aws configure sso --profile p"),
    "SSO as the source": (f"[profile p]\n{ROLE}source_profile = q\n[profile q]\n{SSO}{START}", "not logged in", LOG_IN),
    "process fails": ("[profile p]\ncredential_process = sh -c 'echo no card >&2; exit 3'\n", "failed: no card", CHECK),
    "process prints text": ("[profile p]\ncredential_process = echo hello\n", "printed no JSON", CHECK),
    "process prints a list": ("[profile p]\ncredential_process = echo []\n", "printed no JSON", CHECK),
    "process without a version": ("[profile p]\ncredential_process = echo {}\n", "Version", CHECK),
    "process prints a wrong end": (f"{PROCESS}echo '{ENDING}'\n", "'p' is wrong: Unknown string format: soon.", CHECK),
    "process prints no text": (f"{PROCESS}printf '\\\\377'\n", "printed no JSON", CHECK),
    "process ends its sentence": (f"{PROCESS}sh -c 'echo No card. >&2; exit 3'\n", "failed: No card.", CHECK),
    "name with two dots": (f"[profile p]\n{ROLE}source_profile = a..b\n", '"a..b"', CHECK),
    "process missing": ("[profile p]\ncredential_process = /no/such/program\n", "/no/such/program", CHECK),
    "line without a value": (f"[profile p]\nregion = us-east-1\n{SECRET}\n", "config, line 3, is not valid", "invoke doctor"),
    "no section": (f"key = {SECRET}\n", "config, line 1, is not valid", "invoke doctor"),
    "not text": (b"[profile p]\n\xff\xfe\n", "config is not valid", "invoke doctor"),
    "source missing": (f"[profile p]\n{ROLE}source_profile = q\n", "'p' gives no keys", CHECK),
    "source loop": (
        f"[profile p]\n{ROLE}source_profile = q\n[profile q]\n{ROLE}source_profile = p\n", "reaches itself", CHECK
    ),
    "role without a source": (f"[profile p]\n{ROLE}", "'p' gives no keys", CHECK),
    "MFA without a terminal": (
        f"[profile p]\n{ROLE}mfa_serial = arn:aws:iam::123456789012:mfa/m\nsource_profile = keys\n{KEYS}",
        "code of an MFA device", "in a terminal",
    ),
    "web identity file missing": (f"[profile p]\n{ROLE}web_identity_token_file = /no/token\n", "/no/token", CHECK),
}  # fmt: skip


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home without any AWS file, and no instance to ask for keys."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


def write_profile(home, content):
    (home / "s.yaml").write_text(f"stack: {{name: s}}\naws: {{config_file: {home}/config, profile: p}}\n")
    if content is not None:
        (home / "config").write_bytes(content if isinstance(content, bytes) else content.encode())
    return Cli(home / "s.yaml")


@pytest.mark.parametrize("command", ["doctor", "net.status", "iam.apply"])
@pytest.mark.parametrize("case", CASES)
def test_profile_without_keys_is_one_sentence(case, command, home):
    content, problem, fix = CASES[case]
    ran = write_profile(home, content)(command, ok=False)
    said = ran.out + ran.err
    assert ran.code == 1
    assert problem in said
    assert fix in said
    assert "Traceback" not in said
    assert SECRET not in said
    assert command == "doctor" or len(said.strip().splitlines()) <= 3


def explain(error):
    return explain_missing_keys(error, settings_of(text="stack: {name: s}\naws: {profile: p}\n")).problem


def test_other_errors_are_not_blamed_on_a_process():
    """Cached logins are JSON with times too."""
    assert (
        explain(ValueError("Unknown string format: soon")) == "Profile 'p' gives no keys: Unknown string format: soon."
    )
    assert explain(KeyError("expiresAt")) == "Profile 'p' gives no keys: KeyError: 'expiresAt'."


def test_sentences_of_others_end_with_one_full_stop():
    failed = CredentialRetrievalError(provider="custom-process", error_msg="No card.")
    assert explain(failed).endswith("'p' failed: No card.")
    assert explain(OSError("../keys..pem is missing.")).endswith(": ../keys..pem is missing.")


def test_expired_login_says_how_to_log_in(home):
    """The cached token of a login is found by the hash of its start URL, and is over."""
    cache = home / ".aws/sso/cache"
    cache.mkdir(parents=True)
    over = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    url = "https://example.awsapps.com/start"
    token = {"startUrl": url, "region": "us-east-1", "accessToken": "t", "expiresAt": over}
    (cache / f"{hashlib.sha1(url.encode()).hexdigest()}.json").write_text(json.dumps(token))
    ran = write_profile(home, f"[profile p]\n{SSO}{START}")("net.status", ok=False)
    assert LOG_IN in ran.err


def test_doctor_lists_the_profile_as_a_failed_check(home):
    ran = write_profile(home, CASES["SSO never logged in"][0])("doctor", "--json", ok=False)
    (check,) = json.loads(ran.out)
    assert (check["name"], check["ok"]) == ("credentials", False)
    assert check["fix"].endswith(LOG_IN)


@pytest.mark.parametrize("where", ["endpoint_url", "sts"])
@pytest.mark.parametrize("host", ["127.0.0.1:1", "aws.invalid:443"], ids=["refused", "no such name"])
@pytest.mark.parametrize("command", ["net.status", "iam.diff", "data.up", "doctor"])
def test_unreachable_aws_is_one_sentence_soon(command, host, where, home, monkeypatch):
    """The SDK would try ten times, which takes a minute; what endpoint_url names is tried once, before the first call."""
    place = f"endpoint_url = http://{host}\n"
    services = f"services = local\n[services local]\nsts =\n  {place}" if where == "sts" else place
    send, sent = URLLib3Session.send, []
    monkeypatch.setattr(URLLib3Session, "send", lambda *args: sent.append(args) or send(*args))
    ran = write_profile(home, KEYS.replace("keys", "p") + "region = us-east-1\n" + services)(command, ok=False)
    said = (ran.out + ran.err).strip()
    assert ran.code == 1
    assert f"http://{host}" in said
    assert "Traceback" not in said
    assert len(sent) <= 2
    if command != "doctor":
        assert said.startswith("Cannot reach AWS")
        assert "invoke sandbox.up" in said if host.startswith("127") else "invoke doctor" in said
        assert len(said.splitlines()) == 1


def test_lost_connection_is_retried_once_aws_has_answered():
    session, lost = botocore.session.Session(), EndpointConnectionError(endpoint_url="https://sts.amazonaws.com")
    give_up_soon_without_network(session)

    def ask(attempts, error):
        session.emit("needs-retry.sts.GetCallerIdentity", attempts=attempts, caught_exception=error)

    ask(1, lost)
    with pytest.raises(EndpointConnectionError):
        ask(2, lost)
    ask(1, None)
    ask(9, lost)


def test_dead_local_proxy_is_not_taken_for_the_sandbox():
    proxy = str(explain_sdk_error(ProxyConnectionError(proxy_url="http://127.0.0.1:9")))
    assert "HTTPS_PROXY" in proxy
    assert "sandbox" not in proxy
    assert "sandbox.up" in str(explain_sdk_error(EndpointConnectionError(endpoint_url="http://127.0.0.1:9")))
    assert "sandbox" not in str(
        explain_sdk_error(EndpointConnectionError(endpoint_url="https://sts.amazonaws.com/?127.0.0.1"))
    )


def test_sandbox_in_another_folder_is_started_by_name(home):
    cli = Cli(write_settings(home / "s.yaml", home / "elsewhere", "none"))
    ran = cli("net.up", ok=False)
    assert ran.code == 1
    assert ran.err.endswith("elsewhere/aws/config. Is the sandbox running? To fix it: invoke sandbox.up\n")
