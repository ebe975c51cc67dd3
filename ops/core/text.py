"""Escape text from elsewhere: a policy, an error or a log line can contain control characters for the terminal."""

import re

CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)  # and characters that change the direction of text


def escape_control_characters(text: str) -> str:
    """Return the text with control characters written out, as \\x1b; line ends and tabs stay."""
    return CONTROL.sub(lambda sign: repr(sign[0])[1:-1], text.replace("\r\n", "\n"))
