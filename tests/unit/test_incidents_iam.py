"""IAM's incident pages, followed: an administrator makes the fault, as in AWS's console, and the page finds and repairs it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from iampolicy.account.snapshot import Principal, Snapshot
from iampolicy.policy.document import parse_policy
from iampolicy.policy.evaluate import Caller, Request, Rights, decide_request
from iampolicy.revoked_sessions import POLICY_NAME, build_deny_document, find_revocation_time
from ops.core import plan as change
from ops.core.errors import AwsError
from ops.iam import apply, diff, revocation, roles
from ops.iam.revocation import RevocationTarget
from tests.conftest import settings_of

SETTINGS = settings_of()
WANTED = roles.read_roles(SETTINGS)
NAME = SETTINGS.build_role_name("operator")
CUT = datetime(2026, 11, 24, 12, 0, 30, tzinfo=UTC)
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
ANYBODY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}],
}
ACCOUNT = SETTINGS.aws.account
ROLE = Principal("r", f"arn:aws:iam::{ACCOUNT}:role/r", ANYBODY)
USER = Principal("u", f"arn:aws:iam::{ACCOUNT}:user/u")
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role"


@pytest.mark.parametrize(
    ("p", "caller", "words"),
    [
        (USER, f"arn:aws:iam::{ACCOUNT}:user/other", ""),
        (USER, USER.arn, "revoke yourself"),
        (ROLE, f"{SESSION}/other/me", ""),
        (ROLE, f"{SESSION}/r/me", "revoke yourself"),
        (Principal("r", f"arn:aws:iam::{ACCOUNT}:user/r"), f"{SESSION}/r/me", ""),
        (replace(ROLE, arn=f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/x/r"), USER.arn, "managed by AWS"),
        (
            replace(ROLE, arn=f"arn:aws:iam::{ACCOUNT}:role/aws-reserved/sso.amazonaws.com/r"),
            USER.arn,
            "managed by AWS",
        ),
    ],
)
def test_protected_principals_cannot_be_revoked(p, caller, words):
    why = revocation.explain_revoke_refusal(p, caller)
    assert (words in why) if words else why == ""


def keys(count):
    return tuple({"AccessKeyId": f"K{n}", "CreateDate": CUT} for n in range(count))


def cut_off(p, moment=CUT):
    return replace(p, inline=p.inline | {POLICY_NAME: build_deny_document(moment)})


@pytest.mark.parametrize(
    ("p", "active", "password", "calls"),
    [
        (ROLE, 0, False, ["put_role_policy"]),
        (cut_off(ROLE), 0, False, ["put_role_policy"]),  # sessions of since then
        (USER, 2, False, ["update_access_key", "update_access_key", "put_user_policy"]),
        (USER, 0, False, ["put_user_policy"]),  # a key that is gone may have left sessions
        (cut_off(USER), 1, False, ["update_access_key", "put_user_policy"]),
        (cut_off(USER), 0, False, []),
        (cut_off(USER), 0, True, ["put_user_policy"]),  # anyone with the password may have signed in again
    ],
)
def test_revocation_plan_covers_sessions_keys_and_password(p, active, password, calls):
    made = change.preview(revocation.steps(RevocationTarget(p, keys(active), password), CUT))
    assert [step.call for step in made] == calls
    assert not [step for step in made if any(key["AccessKeyId"] in step.why for key in keys(active))]


def test_key_deleted_meanwhile_counts_as_inactive():
    """A key that was deleted meanwhile is as good as inactive."""
    made = []

    def answer(step):
        if step.call == "update_access_key":
            raise AwsError("UpdateAccessKey", "NoSuchEntity", "no such key")
        made.append(step.call)

    list(change.walk_steps(revocation.steps(RevocationTarget(USER, keys(1)), CUT), answer))
    assert made == ["put_user_policy"]


@pytest.mark.parametrize(
    ("issued", "denied"),
    [
        ("2026-11-24T12:00:29Z", True),
        ("2026-11-24T12:00:30Z", False),
        ("2026-11-24T13:00:00+00:00", False),
        (None, False),
    ],
)
def test_deny_covers_older_sessions_and_no_keys(issued, denied):
    """The deny is about older sessions alone, and not about keys."""
    rights = Rights((parse_policy("all", EVERYTHING), parse_policy("cut", build_deny_document(CUT))))
    context = {"aws:tokenissuetime": issued} if issued else {}
    decision = decide_request(Request(Caller(ROLE.arn), "s3:GetObject", "arn:aws:s3:::b/k", context), rights)
    assert (decision.effect == "explicitDeny") is denied
    assert decision.allowed is not denied


def deny(**more):
    one = build_deny_document(CUT)
    one["Statement"][0] |= more
    return one


BEFORE = {"aws:TokenIssueTime": "2026-11-24T12:00:30.000Z"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (deny(), CUT),
        (deny(Action=["*"], Resource=["*"], Condition={"DateLessThan": BEFORE}), CUT),  # as IAM's console writes it
        ({"Version": "2012-10-17", "Statement": deny()["Statement"][0]}, CUT),
        (deny(Effect="Allow"), None),
        (deny(Action="s3:*"), None),
        (deny(Condition={"DateLessThan": BEFORE, "Bool": {"aws:SecureTransport": "false"}}), None),
        (deny(Condition={"DateGreaterThan": BEFORE}), None),
        (deny(Condition={"DateLessThan": {"aws:TokenIssueTime": "yesterday"}}), None),
        (deny(Condition={"DateLessThan": {"aws:TokenIssueTime": [1]}}), None),
        (deny() | {"Statement": [*deny()["Statement"], EVERYTHING["Statement"][0]]}, None),
        ({"Statement": "*"}, None),
        ({}, None),
    ],
)
def test_only_the_exact_deny_is_recognised(text, found):
    assert find_revocation_time(replace(ROLE, inline={POLICY_NAME: text})) == found


@pytest.mark.parametrize(
    ("after", "left"),
    [
        (timedelta(minutes=-4), True),  # this machine's clock is behind
        (timedelta(minutes=-6), False),  # a date in the future denies everybody, and is not a revocation
        (timedelta(), True),
        (timedelta(hours=11, minutes=59), True),
        (timedelta(hours=12), False),
    ],
)
def test_revocation_is_kept_while_it_matters_and_removed_after(after, left):
    """A revocation is left alone as long as it matters, and removed afterwards."""
    have = roles.build_applied_snapshot(WANTED, SETTINGS)
    tags = {tag["Key"]: tag["Value"] for tag in SETTINGS.tags(NAME)}
    bare = replace(have.roles[NAME], tags=tags)
    moment = datetime.now(UTC) - after
    have = Snapshot({NAME: cut_off(bare, moment)}, policies=have.policies)
    wanted = [want for want in WANTED if want.role == "operator"]
    made = change.preview(apply.steps(have, wanted, SETTINGS))
    assert [step.call for step in made] == ([] if left else ["delete_role_policy"])
    found = diff.find_differences(have, roles.build_applied_snapshot(wanted, SETTINGS), SETTINGS, whole=False)
    assert (found == []) is left
    assert revocation.drop_revocations(have).roles[NAME].inline == ({} if left else have.roles[NAME].inline)
