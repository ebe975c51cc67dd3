"""Kept sessions of roles: whose they are, how long they are used, and which files are trusted."""

import json
import os
import stat
from datetime import UTC, datetime, timedelta

import botocore.session
import botocore.utils
import pytest

from ops.core.aws.profile import identify_source
from ops.core.aws.role_credentials import RETRIED, RoleCredentials, is_session_refused
from ops.core.aws.session import parse_timestamp
from ops.core.kept_sessions import KeptSession, drop_sessions
from tests.conftest import settings_of

FACTS = {
    "stack": "s",
    "account": "1",
    "role_arn": "r",
    "session_name": "me",
    "source": "p",
    "region": "x",
    "endpoint": "",
}


def make_keys(minutes=60.0, key="ASIA1"):
    end = datetime.now(UTC) + timedelta(minutes=minutes)
    return {"access_key": key, "secret_key": "secret", "token": "token", "expiry_time": end.isoformat()}


@pytest.fixture
def kept(tmp_path):
    session = KeptSession(FACTS, tmp_path / "work" / "sessions")
    session.write(make_keys())
    return session


def test_kept_session_is_read_back_by_its_owner_alone(kept):
    assert kept.read()["access_key"] == "ASIA1"
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("fact", FACTS)
def test_session_of_other_facts_is_another(kept, fact):
    assert KeptSession(FACTS | {fact: "other"}, kept.path.parent).read() is None


@pytest.mark.parametrize(("minutes", "used"), [(-1, False), (4.9, False), (5.1, True), (60, True), (60 * 40, False)])
def test_session_is_not_used_close_to_its_end(kept, minutes, used):
    kept.write(make_keys(minutes))
    assert (kept.read() is not None) == used


def break_text(path):
    path.write_text('{"facts": ')


def put_link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def put_pipe(path):
    path.unlink()
    os.mkfifo(path, 0o600)


def put_other_facts(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"facts": FACTS | {"role_arn": "other"}}))


def put_local_time(path):
    content = json.loads(path.read_text())
    content["keys"]["expiry_time"] = (datetime.now() + timedelta(hours=1)).isoformat()
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "spoil",
    [break_text, put_link, put_pipe, put_other_facts, put_local_time, lambda path: path.chmod(0o644), lambda path: path.write_text("[]"),
     lambda path: path.write_text("[" * 100_000), lambda path: path.write_bytes(b"\xff")],
    ids=["text", "link", "pipe", "facts", "time", "mode", "list", "depth", "bytes"],
)  # fmt: skip
def test_file_that_is_not_right_is_no_session(kept, spoil):
    spoil(kept.path)
    assert kept.read() is None
    kept.write(make_keys(key="ASIA2"))
    assert kept.read()["access_key"] == "ASIA2"
    assert not kept.path.is_symlink()


def test_folder_that_others_can_read_is_closed(kept):
    kept.path.parent.chmod(0o755)
    kept.write(make_keys())
    assert stat.S_IMODE(kept.path.parent.stat().st_mode) == 0o700


def test_folder_that_is_a_link_keeps_nothing(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sessions").symlink_to("elsewhere")
    KeptSession(FACTS, tmp_path / "sessions").write(make_keys())
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_sessions_of_one_stack_are_dropped(kept):
    folder = kept.path.parent
    other = KeptSession(FACTS | {"stack": "t"}, folder)
    other.write(make_keys())
    (folder / "broken.json").write_text("?")
    drop_sessions(folder, stack="s", account="1")
    assert [path.name for path in folder.iterdir()] == [other.path.name]


def test_sessions_that_have_ended_are_removed(kept):
    kept.write(make_keys(-1))
    KeptSession(FACTS | {"stack": "t"}, kept.path.parent).write(make_keys())
    assert not kept.path.exists()


def identify(tmp_path, text):
    (tmp_path / "config").write_text(text)
    session = botocore.session.Session(profile="p")
    session.set_config_variable("config_file", str(tmp_path / "config"))
    session.set_config_variable("credentials_file", str(tmp_path / "credentials"))
    return identify_source(session, settings_of(text="stack: {name: s}\naws: {profile: p}\n"))


def test_source_is_who_the_profile_is_without_its_secrets(tmp_path):
    chained = "[profile p]\nrole_arn = r\nsource_profile = q\n[profile q]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
    first = identify(tmp_path, chained.format("AKIA1", "x"))
    assert identify(tmp_path, chained.format("AKIA1", "y")) == first
    assert identify(tmp_path, chained.format("AKIA2", "x")) != first
    assert identify(tmp_path, chained.format("AKIA1", "x") + "[profile z]\n") == first
    looped = "[profile p]\nsource_profile = p\nsso_session = a\n[sso-session a]\nsso_start_url = {}\n"
    assert identify(tmp_path, looped.format("https://one")) != identify(tmp_path, looped.format("https://two"))


REFUSED = ({}, {"Error": {"Code": "ExpiredToken", "Message": ""}})


def test_refused_session_is_replaced_once(kept):
    opened = iter([make_keys(key="ASIA2"), make_keys(key="ASIA3")])
    credentials = RoleCredentials(kept, lambda: next(opened))
    assert credentials.get_frozen_credentials().access_key == "ASIA1"
    request = {"context": {}}
    assert credentials.retry_with_new_session(REFUSED, request) == 0
    assert credentials.get_frozen_credentials().access_key == "ASIA2"
    assert credentials.retry_with_new_session(REFUSED, request) is None
    assert (
        credentials.retry_with_new_session(REFUSED, {"context": {}}) == 0
    )  # one that was sent with the old keys at the same time
    assert credentials.get_frozen_credentials().access_key == "ASIA2"
    assert kept.read()["access_key"] == "ASIA2"


def test_session_that_was_just_opened_is_not_replaced(kept):
    kept.drop()
    credentials = RoleCredentials(kept, make_keys)
    credentials.get_frozen_credentials()
    request = {"context": {}}
    assert credentials.retry_with_new_session(REFUSED, request) is None
    assert RETRIED not in request["context"]


@pytest.mark.parametrize(
    ("code", "message", "refused"),
    [
        ("ExpiredTokenException", "", True),
        ("RequestExpired", "Request has expired.", True),
        ("InvalidClientTokenId", "", True),
        ("AuthFailure", "AWS was not able to validate the provided access credentials.", True),
        ("AccessDenied", "not authorized with an explicit deny in an identity-based policy", True),
        ("AuthFailure", "Not authorized for images: [ami-1]", False),
        ("AccessDenied", "because no identity-based policy allows it", False),
        ("Throttling", "", False),
    ],
)
def test_only_answers_about_the_session_drop_it(code, message, refused):
    assert is_session_refused({"Error": {"Code": code, "Message": message}}) == refused


@pytest.mark.parametrize(
    "text",
    ["2026-12-01T07:26:11Z", "2026-12-01T07:26:11.123Z", "2026-12-01T07:26:11+00:00", "1764573971", 1764573971, "Tue, 01 Dec 2026 07:26:11 GMT", "20261201T072611Z"],
)  # fmt: skip
def test_timestamps_are_read_as_botocore_does(text):
    """The usual form takes a shorter way: an account of 1,000 roles has 10,000 of them in one answer."""
    found, theirs = parse_timestamp(text), botocore.utils.parse_timestamp(text)
    assert (found, found.utcoffset()) == (theirs, theirs.utcoffset())


def test_text_that_is_no_timestamp_is_refused():
    with pytest.raises(ValueError, match="Invalid timestamp"):
        parse_timestamp("2026-13-01T07:26:11Z")
