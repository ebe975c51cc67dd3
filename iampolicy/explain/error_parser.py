"""Parse the error text of a denial: principal, action, resource, failed hop, and the layer that AWS blames. The text is untrusted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from iampolicy.key_patterns import KEY_ID

LONGEST = 65_536  # characters; EC2's encoded messages have a few thousand
ROLE_ARN = re.compile(r"arn:[\w-]{3,12}:iam::\d{12}:role/[\w+=,.@/-]{1,600}")
CALLER_ARN = re.compile(r"arn:[\w-]{3,12}:(?:iam|sts)::\d{12}:(?:role|user|assumed-role)/[\w+=,.@/-]{1,600}")
OBJECT_ARN = re.compile(r"arn:[\w-]{3,12}:s3:::([a-z0-9][a-z0-9.-]{1,62})/?([^\"\s]{0,1024})")
JOB_TRANSFER = re.compile(r"(?:Data|Checkpoint|Artifact) (download|upload) failed")
LISTINGS = ("ListObjectsV2", "ListObjects", "ListObjectVersions", "ListBucket")
PLACE = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,62})/?([^\"\s]{0,1024})")
ACTION = re.compile(r"[a-z0-9-]{2,40}:[A-Za-z0-9]{2,80}")
REFUSED = re.compile(r"AWS refused (\w{1,80})|when calling the (\w{1,80}) operation")
LAMBDA, SAGEMAKER, CODEBUILD = "lambda.amazonaws.com", "sagemaker.amazonaws.com", "codebuild.amazonaws.com"
# The ends of a request in AWS's text; the last is what Kennel adds to a denied AssumeRole.
LIMITS = (
    " because no ", " with an explicit deny", ". Encoded authorization", " Encoded authorization", " Each command assumes its own role",
)  # fmt: skip
ADDED = re.compile(r"\.? Find out why: invoke runbook\.show iam-denied")  # what Kennel appends to a denial
# AWS's name of a layer -> its name here; layers outside the account's IAM keep AWS's name
LAYERS = {
    "identity-based": "identity",
    "permissions boundary": "boundary",
    "session": "session",
    "resource-based": "resource",
    "role trust": "trust",
    "service control": "service control policy",
    "resource control": "resource control policy",
    "VPC endpoint": "VPC endpoint policy",
}
UNSEEN = frozenset({"service control policy", "resource control policy", "VPC endpoint policy", "session"})


@dataclass(frozen=True)
class Question:
    """A request that AWS decided. `who` is an ARN, a service (the caller in hop 3; the owner of the acting role in hop 4), or "".

    `action` and `resource` are "" where the text does not name them.
    """

    hop: int
    action: str = ""
    resource: str = ""
    who: str = ""
    context: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Denial:
    """A denial; `questions` are in the order in which AWS checks them, and the first that fails is the cause.

    `layer` is the one that AWS blames, "" if the text does not name it; `policy` is the ARN that AWS may add. `encoded` means that
    the rest is in EC2's encoded message.
    """

    kind: str
    questions: tuple[Question, ...]
    layer: str = ""
    policy: str = ""
    encoded: bool = False


def clean_message(text: str) -> str:
    """Return the text printable, on one line, without what Kennel added and anything that looks like an access key's id."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[:LONGEST]).split())
    return KEY_ID.sub(r"\1*", ADDED.sub("", line))


def parse(text: str) -> Denial | None:
    """Return the denial that the text describes, or None when it has no known form."""
    line = clean_message(text)
    for reader in (
        parse_assume_failure,
        parse_pass_role,
        parse_not_authorized,
        parse_lambda_trust,
        parse_lambda_rights,
        parse_empty_listing,
        parse_model_data,
        parse_encoded_denial,
        parse_job_transfer,
        parse_plain_denial,
    ):
        if found := reader(line):
            return found
    return None


def parse_pass_role(line: str) -> Denial | None:
    """Parse a denied iam:PassRole, which is a hop of its own; its text is like that of any other denial."""
    found = parse_not_authorized(line)
    if not found or found.questions[0].action.lower() != "iam:passrole":
        return None
    asked = found.questions[0]
    return Denial("PassRole", (Question(2, "iam:PassRole", asked.resource, asked.who),), found.layer, found.policy)


def parse_not_authorized(line: str) -> Denial | None:
    """Parse User: ARN is not authorized to perform: ACTION on resource: ARN because no ... policy allows the ACTION action"""
    before, found, after = line.partition(" is not authorized to perform")
    action = ACTION.search(after[:200])
    if not found or not action:
        return None
    ends = [place for limit in LIMITS if (place := after.find(limit)) >= 0]
    request, reason = after[: min(ends, default=len(after))], after[min(ends, default=len(after)) :]
    _, on, resource = request[action.end() :].partition("resource:")
    resource = resource.strip(" .,;\"'}\\")[:2048]
    who = before.rpartition(" ")[2].rpartition(">")[2].strip("\"'")[:2048]
    layer = next((name for aws_name, name in LAYERS.items() if aws_name in reason[:120]), "")
    blamed = re.search(r"policy: (arn:\S{1,400})|boundary: (arn:\S{1,400})", reason[:800])
    return Denial(
        "not authorized",
        (Question(1, action[0], resource if on and resource else "*", who if who.startswith("arn:") else ""),),
        layer,
        (blamed[1] or blamed[2]).rstrip(".,\"'}") if blamed else "",
        "Encoded authorization" in line,
    )


def parse_lambda_trust(line: str) -> Denial | None:
    if "cannot be assumed by Lambda" not in line:
        return None
    return Denial("Lambda cannot assume the role", (build_trust_question(extract_role_arn(line), LAMBDA),))


def parse_lambda_rights(line: str) -> Denial | None:
    found = re.search(r"execution role does not have permissions to call (\w{2,80}) on (\w{2,40})", line)
    if not found:
        return None
    action = f"{found[2].lower()}:{found[1]}"
    return Denial(
        "the function's role lacks a permission", (Question(4, action, "*", extract_role_arn(line) or LAMBDA),)
    )


def parse_assume_failure(line: str) -> Denial | None:
    if "CodeBuild is not authorized to perform: sts:AssumeRole" in line:
        return Denial("the role cannot be assumed", (build_trust_question(extract_role_arn(line), CODEBUILD),))
    if "Could not assume role" not in line and "unable to perform: sts:AssumeRole" not in line:
        return None
    service = re.search(r"([a-z0-9.-]{2,60}\.amazonaws\.com)", line)
    return Denial(
        "the role cannot be assumed",
        (build_trust_question(extract_role_arn(line), service[1] if service else SAGEMAKER),),
    )


def build_trust_question(role: str, service: str) -> Question:
    return Question(3, "sts:AssumeRole", role, service)


def extract_role_arn(line: str) -> str:
    found = ROLE_ARN.search(line)
    return found[0].rstrip(".,") if found else ""


def parse_empty_listing(line: str) -> Denial | None:
    """Parse SageMaker's message that there are no objects, which it also gives when the role may not list them."""
    found = PLACE.search(line)
    if "No S3 objects found" not in line or not found:
        return None
    bucket, prefix, role = f"arn:aws:s3:::{found[1]}", found[2], extract_role_arn(line) or SAGEMAKER
    under = (("s3:prefix", prefix),)
    reads = Question(4, "s3:GetObject", f"{bucket}/{prefix}*", role)
    return Denial("nothing found at s3://", (Question(4, "s3:ListBucket", bucket, role, under), reads))


def parse_model_data(line: str) -> Denial | None:
    found = PLACE.search(line)
    if "Could not access model data" not in line or not found:
        return None
    bucket, key, role = f"arn:aws:s3:::{found[1]}", found[2].rstrip("."), extract_role_arn(line) or SAGEMAKER
    folder = key.endswith("/") or not key
    questions = [build_trust_question(extract_role_arn(line), SAGEMAKER)]
    questions += [Question(4, "s3:ListBucket", bucket, role, (("s3:prefix", key),))] if folder else []
    questions += [Question(4, "s3:GetObject", f"{bucket}/{key}" + ("*" if folder else ""), role)]
    return Denial("model data at s3:// is not accessible", tuple(questions))


def parse_encoded_denial(line: str) -> Denial | None:
    """Parse EC2's denial, which does not name principal and action."""
    if "Encoded authorization failure message" not in line and "UnauthorizedOperation" not in line:
        return None
    return Denial(
        "EC2 does not name the denied request", (Question(1, f"ec2:{extract_operation(line)}"),), encoded=True
    )


def parse_job_transfer(line: str) -> Denial | None:
    """Parse the failure of a job whose role may not read its input or write its output: S3 names neither role nor action."""
    found, place = JOB_TRANSFER.search(line), PLACE.search(line)
    if not found or not place or not is_plain_denial(line):
        return None
    operation = extract_operation(line) or ("GetObject" if found[1] == "download" else "PutObject")
    asked = build_s3_question(4, operation, place, extract_role_arn(line) or SAGEMAKER)
    return Denial("a job may not reach s3://", (asked,))


def parse_plain_denial(line: str) -> Denial | None:
    """Parse S3's denial, which is only Access Denied, or Forbidden for HEAD, whose response has no text.

    What else was pasted may name the caller and the object.
    """
    if not is_plain_denial(line):
        return None
    caller, place = CALLER_ARN.search(line), PLACE.search(line) or OBJECT_ARN.search(line)
    who = caller[0].rstrip(".,") if caller else ""
    operation = extract_operation(line)
    asked = build_s3_question(1, operation, place, who) if place else Question(1, f"s3:{operation}", who=who)
    return Denial("access denied, without principal and action", (asked,))


def is_plain_denial(line: str) -> bool:
    return re.search(r"Access ?Denied|\b403\b|Forbidden", line) is not None


def build_s3_question(hop: int, operation: str, place: re.Match[str], who: str) -> Question:
    """Return the question of an operation on s3://BUCKET/KEY; a listing is of the bucket, with the key as its prefix."""
    bucket, key = f"arn:aws:s3:::{place[1]}", place[2].rstrip(".,:;)'")
    if operation in LISTINGS:
        return Question(hop, f"s3:{operation}", bucket, who, (("s3:prefix", key),))
    return Question(hop, f"s3:{operation}", f"{bucket}/{key or '*'}", who)


def extract_operation(line: str) -> str:
    found = REFUSED.search(line)
    return (found[1] or found[2]) if found else ""
