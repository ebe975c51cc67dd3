"""Lint issues as findings, and the text helpers that all parts of the lint share."""

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
)  # control, format (zero width, bidi), private use, surrogate, unassigned, line ends
LONGEST = 120  # characters of a quoted text


def make_issue(rule: str, severity: str, message: str, fix: str, element: str = "") -> Finding:
    """Return a finding about a text, before its policy and principal are known.

    `element` is the statement's element at fault, "" where it is the statement or the document.
    """
    return Finding(rule, severity, "", message, fix, element=element)


def quote_text(value: Any) -> str:
    """Return a printable quote of the value, cut when it is long."""
    text = str(value)
    return escape_non_ascii(text if len(text) <= LONGEST else text[: LONGEST - 4] + " ...")


def escape_non_ascii(text: str) -> str:
    """Return the text with everything that is not printable ASCII as \\uXXXX."""
    return text if is_plain(text) else re.sub(r"[^ -~]", lambda sign: f"\\u{ord(sign[0]):04x}", text)


def is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def find_closest_word(word: str, known: Iterable[str]) -> str:
    """Return the known word closest to this one, compared without case, or ""."""
    spelled = {one.lower(): one for one in known}
    found = get_close_matches(word.lower(), spelled, n=1, cutoff=0.6)
    return spelled[found[0]] if found else ""


def suggest_fix(word: str, otherwise: str) -> str:
    return f"write {word}" if word else otherwise


def describe_strange_character(text: str, strict: bool) -> str:
    """Return the first character that a policy must not contain, as `\\u200b ZERO WIDTH SPACE`; with `strict`, any outside ASCII.

    IAM accepts policies up to U+00FF, but JSON's \\u escapes bypass that check.
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
    """Report look-alike and invisible characters in all texts of one element's value, which must not be nested deep."""
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
    # All of an ARN except the resource's own name is ASCII; that name, like a condition's value, may contain any of Latin-1.
    head = ":".join(text.split(":")[:5]) if text.startswith("arn:") else ""
    if found := describe_strange_character(text, strict) or describe_strange_character(head, True):
        yield make_issue(
            FORM, "high", f"{element} {quote_text(text)} contains {found}", "type it again in plain ASCII", element
        )
    if head and text != text.strip():
        yield make_issue(
            FORM,
            "medium",
            f"{element} '{quote_text(text)}' begins or ends with a space, which is significant",
            "delete it",
            element,
        )
