"""An issue of a policy's text as a finding, and the words and signs that all the lint's parts share."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from iampolicy.finding import Finding

UNKNOWN, MISFIT, CONDITION, FORM, QUOTA = (
    "IAM-LINT-001",
    "IAM-LINT-002",
    "IAM-LINT-003",
    "IAM-LINT-004",
    "IAM-QUOTA-001",
)
UNSEEN = (
    "Cc",
    "Cf",
    "Co",
    "Cs",
    "Cn",
    "Zl",
    "Zp",
)  # control, format (zero width, bidi), private, half, unassigned, line ends
LONGEST = 120  # of a quoted text


def make_issue(rule: str, severity: str, message: str, fix: str, element: str = "") -> Finding:
    """Return a finding about a text, before it is known in which policy it stands and who holds that.

    `element` is the statement's element at fault, "" where it is the statement or the document.
    """
    return Finding(rule, severity, "", message, fix, element=element)


def quote_text(value: Any) -> str:
    """A quoted text, cut when it is long."""
    text = str(value)
    return escape_non_ascii(text if len(text) <= LONGEST else text[: LONGEST - 4] + " ...")


def escape_non_ascii(text: str) -> str:
    """A text as it can be printed: what is not plain ASCII stands as \\uXXXX."""
    return text if is_plain(text) else re.sub(r"[^ -~]", lambda sign: f"\\u{ord(sign[0]):04x}", text)


def is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def find_closest_word(word: str, known: Iterable[str]) -> str:
    """The known word that this one was meant to be, or "". The case does not count."""
    spelled = {one.lower(): one for one in known}
    found = get_close_matches(word.lower(), spelled, n=1, cutoff=0.6)
    return spelled[found[0]] if found else ""


def suggest_fix(word: str, otherwise: str) -> str:
    return f"write {word}" if word else otherwise


def find_strange_character(text: str, strict: bool) -> str:
    """The first sign that has no place in a policy, as `\\u200b ZERO WIDTH SPACE`; with `strict` any that is not ASCII.

    IAM takes policies up to U+00FF, and JSON's \\u lets the rest slip past it.
    """
    if is_plain(text):
        return ""
    for sign in text:
        unseen = unicodedata.category(sign) in UNSEEN or (sign != " " and sign.isspace())
        if ord(sign) > 0xFF or unseen or (strict and not sign.isascii()):
            name = unicodedata.name(sign, "a control character" if ord(sign) < 0xA0 else "no character")
            return f"\\u{ord(sign):04x} {name}"
    return ""


def check_characters(element: str, value: Any) -> Iterator[Finding]:
    """Signs that look like others or like nothing, in all texts of one element's value; `value` is not nested deep."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from check_text(element, str(key), True)
            yield from check_characters(element, inner)
    elif isinstance(value, list):
        for one in value:
            yield from check_characters(element, one)
    elif isinstance(value, str):
        yield from check_text(element, value, element not in ("Resource", "NotResource", "Condition", "Sid", "Id"))


def check_text(element: str, text: str, strict: bool) -> Iterator[Finding]:
    # Of an ARN all but the resource's own name is ASCII: that name, as a condition's value, may hold any of Latin-1.
    head = ":".join(text.split(":")[:5]) if text.startswith("arn:") else ""
    if found := find_strange_character(text, strict) or find_strange_character(head, True):
        yield make_issue(
            FORM, "high", f"{element} {quote_text(text)} holds {found}", "type it again with plain signs", element
        )
    if head and text != text.strip():
        yield make_issue(
            FORM, "medium", f"{element} '{quote_text(text)}' ends with a space, which counts", "delete it", element
        )
