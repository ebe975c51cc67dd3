"""One request with AWS's answer to it. The modules beside this one hold the requests of each service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """A request, and what AWS answers.

    `call` is boto3's SERVICE.METHOD. A case without `about` only prepares those after it, and is not scored.
    `<NAME>` in an argument is a value that an earlier case kept. `code` and `words` are regular expressions for AWS's
    error; `code` is "" where AWS carries the call out. Paths into an answer are names and numbers, with dots between.
    """

    call: str
    about: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""
    words: str = ""
    status: int = 0  # 0: not compared
    equals: Mapping[str, Any] = field(default_factory=dict)  # values of the answer, by their paths
    fields: str = ""  # names that AWS's answer has, with spaces between
    fields_at: str = ""  # path of the object that has them; "" is the answer itself
    keep: Mapping[str, str] = field(default_factory=dict)  # name -> path of a value for later cases
    until: Mapping[str, Any] = field(default_factory=dict)  # repeat the call until the answer has these values
    source: str = ""  # where AWS's answer is known from, if it is not the module's SOURCE


def prepare(
    call: str,
    args: Mapping[str, Any],
    *,
    keep: Mapping[str, str] | None = None,
    until: Mapping[str, Any] | None = None,
) -> Case:
    return Case(call, args=args, keep=keep or {}, until=until or {})


def refused(
    call: str, about: str, args: Mapping[str, Any], code: str, words: str = "", status: int = 400, source: str = ""
) -> Case:
    return Case(call, about, args, code, words, status, source=source)


def answered(
    call: str,
    about: str,
    args: Mapping[str, Any],
    status: int = 200,
    keep: Mapping[str, str] | None = None,
    **more: Any,
) -> Case:
    return Case(call, about, args, status=status, keep=keep or {}, **more)


def build_trust(principal: Mapping[str, str]) -> str:
    """Return a trust policy that lets the principal assume the role."""
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def build_policy(action: str, resource: str | list[str] = "*") -> str:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
