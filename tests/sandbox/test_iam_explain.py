"""iam.explain: AWS's denials and similar errors are parsed, the hop that fails is named, and the offered change does repair it."""

import json
import re

import pytest

from tests.unit.test_iam_explain import ACCOUNT, denied


@pytest.fixture(scope="module")
def cli(make_stack):
    made = make_stack("explain")
    made("iam.apply")
    return made


def test_explain_reads_the_message_from_the_command_line(cli, tmp_path):
    names = cli.settings
    who = f"arn:aws:sts::{ACCOUNT}:assumed-role/{names.build_role_name('operator')}/me"
    text = denied(who, "iam:PassRole", names.role_arn("lambda-invoke"))
    done = cli("iam.explain", text)
    assert "Hop 2 of 4" in done.out
    assert "Allowed today" in done.out
    assert "seconds old" in done.out
    file = tmp_path / "error.txt"
    file.write_text(denied(who, "iam:DeleteRole", names.role_arn("auditor")))
    done = cli("iam.explain", f"@{file}", "--json", ok=False)
    assert (done.code, json.loads(done.out)["hop"], json.loads(done.out)["denied"]) == (7, 1, True)
    assert not re.search(r"\d{12}", done.out)


def test_explain_without_roles_goes_by_the_files(make_stack):
    """As the page simulate-a-permission says: the denial of a fresh account is explained, not answered with another."""
    fresh = make_stack("explainfirst", roles=False)
    denial = fresh("sm.status", ok=False).err
    assert "sts:AssumeRole" in denial
    done = fresh("iam.explain", denial, ok=False)
    assert done.code == 7
    assert "goes by iam_policies/ as if it were applied" in done.err
    assert "Next: invoke iam.apply" in done.out


def test_flags_supply_what_the_message_omits(cli):
    flags = ("--principal", "operator", "--resource", f"arn:aws:s3:::{cli.settings.bucket}/elsewhere/x")
    done = cli("iam.explain", "AWS refused HeadObject: 403: Forbidden", *flags, ok=False)
    assert done.code == 7
    assert "kennel-explain-operator requests s3:GetObject on arn:aws:s3:::${bucket}" not in done.out
    assert '"Resource": "arn:aws:s3:::${bucket}/elsewhere/x"' in done.out


@pytest.mark.parametrize("text", ["nonsense", "@/nowhere", "-", "@/dev/zero"])
def test_unexplainable_text_is_rejected_without_a_traceback(cli, text):
    done = cli("iam.explain", text, ok=False)
    assert done.code == 1
    assert "Traceback" not in done.said
