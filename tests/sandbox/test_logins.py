"""People log in with keys, with a role and a code, or with Identity Center: each from doctor to data.up, and what is said when it fails."""

import json
import re

import pytest

from ops.core import kept_sessions
from ops.core.aws import mfa
from ops.core.errors import AwsError
from ops.core.paths import ROOT
from tests.conftest import HOME, Cli, apply_roles

SERIAL = "arn:aws:iam::123456789012:mfa/person"


@pytest.fixture(scope="module")
def logins(control_sandbox):
    control_sandbox("logins")


@pytest.fixture
def log_in(logins, make_stack, sandbox, monkeypatch):
    """Return a function that makes a Cli of a stack with a profile, and the list of prompts, each answered with the code."""
    asked = []

    def answer(prompt, code="123456"):
        asked.append(prompt)
        return code

    monkeypatch.setattr(mfa, "ask_for_code", answer)
    stacks = []

    def make(stack, profile, more="", roles=True):
        stacks.append(stack)
        administrator = make_stack(stack, more, roles=roles)
        path = HOME / f"{stack}-{profile}.yaml"
        path.write_text(administrator.file.read_text().replace("aws: {", f"aws: {{profile: {profile}, "))
        return Cli(path), asked

    yield make
    for stack in (*stacks, ""):
        kept_sessions.drop_sessions(stack=stack)


PAGE = (ROOT / "runbooks/log-in.md").read_text()
SAID = [words.replace("kennel-demo-operator", "") for row in PAGE.splitlines() if row.startswith("   | `") for words in re.findall("`(.*?)`", row.split("|")[1])]  # fmt: skip


def check_roles(cli, code=0):
    """Return doctor's check of the roles. The page has a row for whatever it finds wrong."""
    ran = cli("doctor", "--json", ok=False)
    assert ran.code == code, ran.said
    check = next(check for check in json.loads(ran.out) if check["name"] == "roles")
    assert check["found"].endswith("can be assumed") or any(words in check["found"] for words in SAID)
    return check


@pytest.mark.parametrize("profile", ["keys", "mfa-role"])
def test_one_code_serves_from_doctor_to_data_up(log_in, profile):
    cli, asked = log_in("coded", profile)
    assert check_roles(cli)["found"] == "kennel-coded-operator can be assumed"
    cli("data.up")
    cli("net.status")  # of another role
    cli("sm.status", ok=False)
    (prompt,) = asked
    assert SERIAL in prompt


def test_role_of_a_profile_counts_where_a_trust_names_it(log_in, make_stack):
    cli, asked = log_in("named", "mfa-role")
    account = make_stack("named").account
    person = {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::123456789012:role/people"},
        "Action": "sts:AssumeRole",
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": person})
    name = account.settings.build_role_name("operator")
    account.call("iam", "update_assume_role_policy", RoleName=name, PolicyDocument=document)
    cli("data.up")
    assert len(asked) == 1


def test_code_is_not_asked_for_a_role_that_is_missing(log_in):
    cli, asked = log_in("roleless", "keys", roles=False)
    check = check_roles(cli)
    assert check["ok"]
    assert (check["found"], check["fix"]) == ("kennel-roleless-operator does not exist yet", "invoke iam.apply")
    assert asked == []


def test_permission_set_is_let_in_by_a_setting(log_in):
    cli, _ = log_in("centre", "sso")
    check = check_roles(cli, code=1)
    assert check["found"] == "kennel-centre-operator wants MFA, which sessions of Identity Center do not carry"
    assert check["fix"].startswith(
        "add Operators to iam.permission_sets, then as an administrator: INVOKE_AWS_TAKE_ROLES=false"
    )
    said = cli("data.up", ok=False).err
    assert "What is missing: invoke doctor" in said
    cli, asked = log_in("centre", "sso", "iam: {permission_sets: [Operators]}\n")
    assert check_roles(cli)["found"] == "kennel-centre-operator can be assumed"
    cli("data.up")
    assert asked == []


def test_trust_that_names_others_is_not_missing_mfa(log_in, make_stack):
    cli, _ = log_in("untrusted", "sso", "iam: {permission_sets: [Operators]}\n")
    account = make_stack("untrusted").account
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": trust})
    name = account.settings.build_role_name("operator")
    account.call("iam", "update_assume_role_policy", RoleName=name, PolicyDocument=document)
    check = check_roles(cli, code=1)
    assert check["found"].startswith(
        f"the trust policy of {name} does not admit arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Operators"
    )
    apply_roles(make_stack("untrusted"))


@pytest.mark.parametrize(
    ("code", "exit_code", "said"),
    [
        ("12345", 1, "The code of an MFA device has six digits. To fix it: run the same command again"),
        (
            "000000",
            4,
            "AWS refused the code: MultiFactorAuthentication failed with invalid MFA one time pass code. "
            "To fix it: wait for the next code, then run the same command again",
        ),
    ],
)
def test_wrong_code_is_one_sentence(log_in, monkeypatch, code, exit_code, said):
    cli, _ = log_in("miscoded", "keys")
    monkeypatch.setattr(mfa, "ask_for_code", lambda prompt: code)
    ran = cli("data.up", ok=False)
    assert (ran.code, ran.err.strip()) == (exit_code, said)


def test_code_without_a_terminal_is_one_sentence(log_in, monkeypatch):
    from ops.core.aws.profile import ask_for_code

    cli, _ = log_in("unattended", "keys")
    monkeypatch.setattr(mfa, "ask_for_code", ask_for_code)
    ran = cli("data.up", ok=False)
    assert ran.code == 1
    assert "there is no terminal to ask on. To fix it: run in a terminal: invoke doctor" in ran.err
    assert not check_roles(cli, code=1)["ok"]


def test_ended_session_of_a_user_asks_again(log_in, control_sandbox):
    cli, asked = log_in("again", "keys")
    cli("sm.status", ok=False)
    kept = [json.loads(path.read_text()) for path in kept_sessions.FOLDER.glob("*.json")]
    control_sandbox("expire", key=next(one["keys"]["access_key"] for one in kept if one["facts"]["role_arn"] == ""))
    kept_sessions.drop_sessions(stack="again")
    cli("sm.status", ok=False)
    assert len(asked) == 2


def test_session_of_a_role_cannot_get_a_session_token(logins, log_in):
    cli, _ = log_in("chained", "sso")
    with pytest.raises(AwsError, match="Cannot call GetSessionToken with session credentials"):
        cli.account.call("sts", "get_session_token")


def test_doctor_postpones_what_needs_missing_roles(make_stack):
    """Each says that it needs the role, and which command makes it: AccessDenied would look like a fault."""
    found = json.loads(make_stack("norolesyet", roles=False)("doctor", "--json", ok=False).out)
    postponed = {
        one["name"]: (one["found"], one["fix"]) for one in found if one["name"] in ("logs", "image", "concurrency")
    }
    assert len(postponed) == 3
    for said, fix in postponed.values():
        assert said.endswith("not checked: that needs the role operator")
        assert fix == "invoke iam.apply"
