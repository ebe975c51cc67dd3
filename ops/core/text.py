"""Text that others wrote, as it may be printed: a policy, an error or a log line can hold what a terminal would obey."""

import re

CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)  # and what turns text round


def escape_control_characters(text: str) -> str:
    """The text with such signs written out, as \\x1b; line ends and tabs stay."""
    return CONTROL.sub(lambda sign: repr(sign[0])[1:-1], text.replace("\r\n", "\n"))
