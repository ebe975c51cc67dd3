"""AWS's own words for errors that moto words in another way: people search for them, and programs match them.

A rule is (service, what moto says, what AWS says). The service is botocore's name. `{Name}` is a parameter of the call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import escape, unescape

from sandbox.state import ACCOUNT, REGION

ENTITIES = {"&#x27;": "'", "&#39;": "'", "&quot;": '"', "&#34;": '"'}
ARN = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:"
RULES = [
    ("sagemaker", r"Could not find training job '.*'\.?", "Requested resource not found."),
    ("sagemaker", r"Could not find (endpoint configuration|endpoint|model) '(arn:[^']*)'", r'Could not find \1 "\2"'),
    ("sagemaker", r'Could not find model "(?!arn:)(.*?)"', rf'Could not find model "{ARN}model/\1"'),
    (
        "sagemaker",
        r'Could not find endpoint configuration "(?!arn:)(.*?)"',
        rf'Could not find endpoint configuration "{ARN}endpoint-config/\1"',
    ),
    ("iam", r"Role (\S+) not found", r"The role with name \1 cannot be found."),
    ("iam", r"Instance profile (\S+) not found", r"Instance Profile \1 cannot be found."),
    ("iam", r"Policy (arn:\S+) not found", r"Policy \1 was not found."),
    ("ec2", r"VpcID (\S+) does not exist\.", r"The vpc ID '\1' does not exist"),
    (
        "ec2",
        r"The security group '(.*)' already exists",
        r"The security group '\1' already exists for VPC '{VpcId}'",
    ),
    ("ec2", r"The keypair '\{?'?([^'}]*)'?\}?' does not exist\.", r"The key pair '\1' does not exist"),
    ("ec2", r"The keypair '(.*)' already exists\.", "The keypair already exists"),
    (
        "application-autoscaling",
        r"No scalable target registered for (\S+)",
        "No scalable target {verb} for service namespace: {ServiceNamespace}, resource ID: {ResourceId}, "
        "scalable dimension: {ScalableDimension}",
    ),
]


def use_aws_words(service: str, operation: str, params: dict[str, Any], body: bytes) -> bytes:
    """Return an error reply's body, JSON or XML, with AWS's message where a rule has it."""
    rules = [(pattern, words) for name, pattern, words in RULES if name == service]
    if not rules:
        return body
    given = {"verb": "found" if operation.startswith("Deregister") else "registered"}
    given |= {name: value for name, value in params.items() if isinstance(value, str)}

    def reword(message: str) -> str:
        for pattern, words in rules:
            message = re.sub(pattern, words, message)
        return re.sub(r"\{(\w+)\}", lambda found: given.get(found[1], found[0]), message)

    return reword_json(body, reword) if body.lstrip()[:1] == b"{" else reword_xml(body, reword)


def reword_json(body: bytes, reword: Callable[[str], str]) -> bytes:
    try:
        found = json.loads(body)
    except ValueError:
        return body
    for name in ("message", "Message"):
        if isinstance(found.get(name), str):
            found[name] = reword(found[name])
    return json.dumps(found).encode()


def reword_xml(body: bytes, reword: Callable[[str], str]) -> bytes:
    def replace(found: re.Match[str]) -> str:
        return found[1] + escape(reword(unescape(found[2], ENTITIES))) + found[3]

    return re.sub(r"(<Message>)(.*?)(</Message>)", replace, body.decode(errors="replace"), flags=re.S).encode()
