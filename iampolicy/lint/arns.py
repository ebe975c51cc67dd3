"""Check for ARNs that their actions cannot act on: an Allow that grants nothing, or a Deny that denies nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from iampolicy import actions
from iampolicy.finding import Finding
from iampolicy.lint.issue import FORM, MISFIT, make_issue, quote_text
from iampolicy.policy.document import VARIABLE, compile_arn_glob, has_misplaced_variable

PARTITIONS = re.compile(r"aws(-[a-z-]+)?|.*[*?$].*")
LEFT_OVER = re.compile(
    r"<[A-Za-z_ -]+>|\{\{[^{}]*\}\}|%[A-Z_]+%|\b(?:YOUR|REPLACE)[-_][A-Z_-]+|\bACCOUNT[-_]?ID\b|\$\{[^:}*?$]*\}"
)
HALF_VARIABLE = re.compile(r"\$(?:aws|s3|saml):|(?<!\$)\{(?:aws|s3|saml):")
LOG_GROUP = re.compile(r"arn:[^:]*:logs:[^:]*:[^:]*:log-group:[^:]*[^:*]")
TAGGING_LOGS = ("logs:tagresource", "logs:untagresource", "logs:listtagsforresource")
FIRST_PARTS = 5  # partition, service, region and account contain no colon


def check_placeholders(element: str, text: str) -> Iterator[Finding]:
    """Report placeholders that were never filled in, and variables that IAM does not recognise."""
    if "$" not in text and "<" not in text and "{" not in text and "%" not in text and not LEFT_OVER.search(text):
        return
    if found := LEFT_OVER.search(text):
        yield make_issue(
            FORM, "high", f"{element} {quote_text(text)} still has the placeholder {found[0]}", "replace it", element
        )
    if HALF_VARIABLE.search(text):
        yield make_issue(
            FORM,
            "low",
            f"{element} {quote_text(text)}: a policy variable has the form ${{aws:...}}",
            "write $ and { }",
            element,
        )
    for variable in VARIABLE.findall(text):
        key = variable.partition(",")[0].strip()
        if key.lower().startswith("aws:") and not actions.find_key_type(key):
            yield make_issue(
                FORM,
                "medium",
                f"{element} {quote_text(text)}: unknown policy variable {quote_text(key)}",
                "correct its name",
                element,
            )


def explain_malformed(arn: str) -> str:
    """Return what is wrong with the form of a resource, or ""."""
    if not arn.startswith("arn:"):
        return "is neither an ARN nor *"
    parts = arn.split(":", FIRST_PARTS)
    if not PARTITIONS.fullmatch(parts[1]):
        return f"has the partition '{quote_text(parts[1])}'; there are aws, aws-cn, aws-us-gov"
    if has_misplaced_variable(arn):
        return "has a policy variable before its fifth colon, where AWS does not substitute it"
    if len(parts) <= FIRST_PARTS and "*" not in arn:
        return f"has {len(parts)} parts; an ARN has six: arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE"
    if len(parts) > FIRST_PARTS and parts[4].isdigit() and len(parts[4]) != 12:
        return f"has the account {parts[4]}; an account has 12 digits"
    return ""


def check_resources(resources: Sequence[str], patterns: Sequence[str], allow: bool, bare: bool) -> Iterator[Finding]:
    """Check the resources of a statement with Action. With `bare`, accept strings that are not ARNs, as some services do."""
    arns = [one for one in resources if one.startswith("arn:")]
    for one in resources:
        if one != "*" and (one.startswith("arn:") or not bare) and (wrong := explain_malformed(one)):
            yield make_issue(MISFIT, "high", f"Resource {quote_text(one)} {wrong}", "write the ARN in full", "Resource")
    yield from check_log_groups(arns, patterns, allow)
    known = [pattern for pattern in patterns if pattern == "*" or list_target_arns(pattern) is not None]
    if len(arns) < len(resources) or len(known) < len(patterns) or "*" in known or any(map(explain_malformed, arns)):
        return
    useless = [arn for arn in arns if not any(can_reach(pattern, arn) for pattern in known)]
    for arn in useless:
        yield make_misfit_issue(arn, known[0] if len(known) == 1 else "", known)
    idle = [pattern for pattern in known if not any(can_reach(pattern, arn) for arn in arns)]
    if len(useless) == len(arns):
        return  # already reported for each resource
    for pattern in idle:
        yield make_issue(
            MISFIT,
            # An Allow that allows nothing is harmless; a Deny that denies nothing is a security hole.
            "high" if list_target_arns(pattern) or not allow else "medium",
            f"{quote_text(pattern)} never applies: {describe_targets(pattern)}, and no Resource here is one",
            "move it to a statement with the resources that it acts on",
            "Action",
        )


def check_log_groups(arns: Sequence[str], patterns: Sequence[str], allow: bool) -> Iterator[Finding]:
    """Report log groups without a trailing `:*`, which the requests of all actions except the tagging ones have.

    AWS's reference of actions omits it: docs.aws.amazon.com/AmazonCloudWatch/latest/logs/iam-access-control-overview-cwl.html
    """
    log_actions = [one for one in patterns if one.lower().startswith("logs:") and one.lower() not in TAGGING_LOGS]
    for arn in arns if log_actions else ():
        if LOG_GROUP.fullmatch(arn) and not any(
            compile_arn_glob(other).fullmatch(f"{arn}:log-stream:") for other in arns
        ):
            message = f"Resource {quote_text(arn)} does not match requests for {quote_text(log_actions[0])}: their log groups end with :*"
            yield make_issue(MISFIT, "medium" if allow else "high", message, f"write {quote_text(arn)}:*", "Resource")


def make_misfit_issue(arn: str, single: str, patterns: Sequence[str]) -> Finding:
    one = single or next((p for p in patterns if list_target_arns(p)), patterns[0])
    reason = (
        f"{quote_text(one)} {describe_targets(one).removeprefix('it ')}"
        if single
        else f"no action of the statement acts on it: {quote_text(one)} {describe_targets(one).removeprefix('it ')}"
    )
    better = next((other for other in suggest_arns(arn) if any(can_reach(p, other) for p in patterns)), "")
    if not better and not any(list_target_arns(p) for p in patterns):
        better = "*"
    return make_issue(
        MISFIT,
        "high",
        f"Resource {quote_text(arn)} matches nothing: {reason}",
        f"write {better}" if better else "name a resource that it acts on",
        "Resource",
    )


def describe_targets(pattern: str) -> str:
    found = sorted(list_target_arns(pattern) or (), key=len)
    names = [actions.PLACE.sub(lambda place: place[0][2:-1], arn.replace("${Partition}", "aws")) for arn in found[:2]]
    return f"it acts on {' or '.join(names)}" if names else "it takes no resource but *"


def suggest_arns(arn: str) -> Iterator[str]:
    """Yield ARNs that were probably intended, the most likely first."""
    parts = arn.split(":", FIRST_PARTS)
    if len(parts) <= FIRST_PARTS:
        return
    yield f"{arn.removesuffix('/')}/*"
    yield arn.partition("/")[0]
    yield ":".join([*parts[:3], "", *parts[4:]])
    yield ":".join([*parts[:3], "", "", parts[5]])
    yield ":".join([*parts[:3], parts[3] or "*", parts[4] or "*", parts[5]])


@lru_cache(10_000)
def list_target_arns(pattern: str) -> tuple[str, ...] | None:
    """Return the ARNs, as AWS's reference writes them, that the pattern's actions act on; None if it covers no known action."""
    covered = actions.list_matching_actions(pattern)
    found = [one["arn"] for action in covered for one in actions.list_resource_types(action)]
    return tuple(dict.fromkeys(found)) if covered else None


@lru_cache(100_000)
def can_reach(pattern: str, arn: str) -> bool:
    return any(can_meet(arn, target) for target in list_target_arns(pattern) or ())


def can_meet(arn: str, target: str) -> bool:
    """Return whether some ARN matches both a policy's pattern and the target.

    The target is a row of states, one bit each. The pattern is read character by character, for all states at once.
    """
    leads, holds, narrow, last = compile_target(target)

    def extend(at: int) -> int:
        return at | ((at & holds) << 1)

    at = extend(1)
    for sign in split_pattern(arn):
        if sign == "*":
            at = (1 << last + 1) - (at & -at)  # the first reached state and all after it
        elif sign == "?":
            at = extend((at & ~holds & ~(1 << last)) << 1 | at & holds)
        else:
            at = extend((at & leads.get(sign, 0)) << 1 | at & (holds & ~narrow if sign in ":/" else holds))
        if not at:
            return False
    return bool(at >> last & 1)


@lru_cache(20_000)
def compile_target(target: str) -> tuple[dict[str, int], int, int, int]:
    """Return (states by the character they expect, wildcard states, those of them that exclude : and /, the last state)."""
    leads: dict[str, int] = {}
    holds = narrow = at = colons = 0
    for piece in re.split(r"((?:\$\{[^}]*\}|\*)+)", target):
        if piece.startswith(("${", "*")):
            holds |= 1 << at
            # A bucket's name contains no slash, so an object's ARN never matches a bucket.
            narrow |= 1 << at if colons < FIRST_PARTS or piece == "${BucketName}" else 0
            at += 1
            continue
        for sign in piece:
            leads[sign] = leads.get(sign, 0) | 1 << at
            colons += sign == ":"
            at += 1
    return leads, holds, narrow, at


def split_pattern(arn: str) -> list[str]:
    """Return the pattern's characters, with each policy variable as `*`."""
    plain = VARIABLE.sub("*", arn) if "${" in arn else arn
    return list(re.sub(r"\*+", "*", plain))
