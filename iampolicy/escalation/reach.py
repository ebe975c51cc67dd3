"""A snapshot as it is asked about at a moment: what each principal holds, and what is known of whoever asks and is asked about.

A role's session may have other tags than the role, and a text that the snapshot has not may say anything: what is not known counts
for the one who asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from iampolicy.account.snapshot import Principal, Snapshot
from iampolicy.escalation.missing_keys import without
from iampolicy.escalation.paths import TAGS
from iampolicy.escalation.permission_set import ADMINISTRATOR, NOBODYS_NAME, Holding, Sheet, Tags
from iampolicy.policy.conditions import Context, holds
from iampolicy.policy.document import CURRENT, Policy, matches_action, policy
from iampolicy.policy.evaluate import Request, Rights, decide

AWS = "arn:aws:iam::aws:policy/"
TAG = "aws:principaltag/"
NO_TAGS: Tags = {}


def stand_in(name: str, **what: object) -> tuple[str, Policy]:
    text = {"Version": CURRENT, "Statement": {"Effect": "Allow", "Resource": "*"} | what}
    return AWS + name, policy(AWS + name, text)


# What these come to is known without their text. docs.aws.amazon.com/aws-managed-policy/latest/reference/
WELL_KNOWN = dict([
    (ADMINISTRATOR, policy(ADMINISTRATOR, {"Version": CURRENT, "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})),
    stand_in("IAMFullAccess", Action="iam:*"),
    stand_in("PowerUserAccess", NotAction=["iam:*", "organizations:*", "account:*"]),
])  # fmt: skip


class Reach:
    def __init__(self, snapshot: Snapshot, now: datetime) -> None:
        self.snapshot = snapshot
        self.moment = {"aws:currenttime": now.isoformat(), "aws:epochtime": str(int(now.timestamp()))}
        self.sheets: dict[int, Sheet] = {}
        self.holdings: dict[tuple[object, ...], Holding] = {}
        self.by_arn: dict[str, Holding] = {}
        self.rights_of: dict[str, Rights] = {}
        self.lackable: dict[int, tuple[Policy, frozenset[str]]] = {}
        self.as_met: dict[tuple[int, str], tuple[Policy, Policy]] = {}
        self.known_of: dict[str, dict[str, str]] = {}
        self.tags = {p.arn: lowered(p.tags) for p in snapshot.principals()}
        # IAM's one big answer has no policy's: none here may be some there.
        self.tags |= {policy.arn: lowered(policy.tags) for policy in snapshot.policies.values() if policy.tags}

    def sheet(self, policy: Policy) -> Sheet:
        """By the statements' identity, which equal texts share; the sheet keeps them alive."""
        found = self.sheets.get(id(policy.statements))
        if found is None:
            found = self.sheets[id(policy.statements)] = Sheet(policy.statements)
        return found

    def of(self, p: Principal) -> Holding:
        if p.arn not in self.by_arn:
            self.by_arn[p.arn] = self.holding(self.rights(p), p)
        return self.by_arn[p.arn]

    def rights(self, p: Principal) -> Rights:
        if p.arn not in self.rights_of:
            held = self.raw(p)
            identity = tuple(self.met(policy, p) for policy in held.identity)
            self.rights_of[p.arn] = Rights(identity, self.met(held.boundary, p) if held.boundary else None)
        return self.rights_of[p.arn]

    def raw(self, p: Principal) -> Rights:
        """With what is well known of texts that are not there. A boundary of AWS's without text bounds nothing."""
        absent = [WELL_KNOWN[arn] for arn in p.attached if arn in WELL_KNOWN and arn not in self.snapshot.policies]
        return Rights((*self.snapshot.rights(p).identity, *absent), self.text(p.boundary) if p.boundary else None)

    def text(self, arn: str) -> Policy | None:
        """None when nobody knows it. The account's own policies are all in the snapshot: one that is not lets nothing through."""
        if arn in self.snapshot.policies or not arn.startswith(AWS):
            return self.snapshot.managed(arn)
        return WELL_KNOWN.get(arn)

    def holding(self, rights: Rights, p: Principal) -> Holding:
        """What the principal would hold with these rights."""
        sheets = tuple(self.sheet(self.met(policy, p)) for policy in rights.identity)
        bound = self.sheet(self.met(rights.boundary, p)) if rights.boundary else None
        personal = any(sheet.personal for sheet in (*sheets, *([bound] if bound else [])))
        key = (*map(id, sheets), id(bound), p.arn if personal else p.caller.account)
        if key not in self.holdings:
            known = self.about(p) if personal else self.moment
            self.holdings[key] = Holding(p.caller, sheets, bound, known, self.tags)
        return self.holdings[key]

    def about(self, p: Principal) -> dict[str, str]:
        """The context keys that are known of the caller."""
        if p.arn not in self.known_of:
            kind = "User" if p.trust is None else "AssumedRole"
            known = {"aws:principalarn": p.arn, "aws:principalaccount": p.caller.account, "aws:principaltype": kind}
            known |= {TAG + name: value for name, value in self.tags.get(p.arn, NO_TAGS).items() if not self.chooses(p, name)}  # fmt: skip
            self.known_of[p.arn] = self.moment | known | ({} if p.trust is not None else {"aws:username": p.name})
        return self.known_of[p.arn]

    def met(self, policy: Policy, p: Principal) -> Policy:
        """The policy as the principal's requests meet it, some of whose keys are certainly absent."""
        key = id(policy.statements)
        if key not in self.lackable:
            asked = (key for one in policy.statements for _, key, _ in one.conditions)
            self.lackable[key] = policy, frozenset(one for one in asked if one == "aws:username" or one.startswith(TAG))
        keys = self.lackable[key][1]
        if not keys:
            return policy
        if (key, p.arn) not in self.as_met:
            absent = frozenset(one for one in keys if self.absent(p, one))
            self.as_met[key, p.arn] = policy, without(policy, absent.__contains__)
        return Policy(policy.name, self.as_met[key, p.arn][1].statements)

    def absent(self, p: Principal, key: str) -> bool:
        if key == "aws:username":
            return p.trust is not None
        name = key.removeprefix(TAG)
        return name not in self.tags.get(p.arn, NO_TAGS) and not self.chooses(p, name)

    def chooses(self, p: Principal, name: str) -> bool:
        """Whether the principal may come with another value of the tag than its own: by tagging itself, or its session.

        AWS: a session's tag takes the place of the role's. docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html
        """
        own = self.raw(p)
        if self.tags_itself(p, own):
            return True
        conditions = (found for policy in own.identity for one in policy.statements for found in one.conditions)
        return brings(p.trust_policy, name, [value for _, key, values in conditions if key == TAG + name for value in values])  # fmt: skip

    def tags_itself(self, p: Principal, own: Rights) -> bool:
        """With the tags that it has."""
        actions = TAGS["user" if p.trust is None else "role"]
        if not any(action.lower() in self.sheet(policy).allows for policy in own.identity for action in actions):
            return False
        tags = self.tags.get(p.arn, NO_TAGS)
        known = {**self.moment, "aws:principalarn": p.arn, "aws:principalaccount": p.caller.account}
        known |= {TAG + name: value for name, value in tags.items()}
        identity = tuple(without(one, lambda key: key.startswith(TAG) and key not in known) for one in own.identity)
        rights = Rights(identity, own.boundary)
        asked = (Request(p.caller, action, p.arn, known) for action in actions)
        return any(decide(one, rights, possible=True).allowed for one in asked)


def brings(trust: Policy, name: str, wanted: Iterable[str]) -> bool:
    """Whether a trust lets one of the values, or any, into a session as this tag. What a service puts there nobody chooses."""
    about = [one for one in trust.statements if matches_action(one, "sts:TagSession")]
    if not any(one.allow for one in about):
        return False
    listed = [value for one in about for _, key, values in one.conditions if key == "aws:tagkeys" for value in values]
    spelled = next((one for one in listed if one.lower() == name), name)
    for value in [one.replace("*", NOBODYS_NAME) for one in wanted] or [NOBODYS_NAME]:
        known: Context = {f"aws:requesttag/{name}": value, "aws:tagkeys": [spelled]}
        fit = [one for one in about if holds(one, known, one.allow)[0]]
        people = (one for one in fit if one.allow and any(kind != "Service" for kind, _ in one.principals or ()))
        if any(people) and all(one.allow for one in fit):
            return True
    return False


def lowered(tags: Tags) -> Tags:
    return {name.lower(): value for name, value in tags.items()} if tags else NO_TAGS
