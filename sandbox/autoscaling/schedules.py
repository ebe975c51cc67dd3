"""The schedules of scheduled actions: at(), rate() and cron() expressions in Application Auto Scaling's syntax.

cron supports `*`, `?`, `,`, `-` and `/`; L, W and # are refused.
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

UNITS = {"minute": 60, "hour": 3600, "day": 86400}
MONTHS = {name.upper(): n for n, name in enumerate(calendar.month_abbr) if name}
DAYS = {name.upper(): (n + 1) % 7 + 1 for n, name in enumerate(calendar.day_abbr)}  # Sunday is 1
FIELDS: tuple[tuple[int, int, dict[str, int]], ...] = (
    (0, 59, {}), (0, 23, {}), (1, 31, {}), (1, 12, MONTHS), (1, 7, DAYS), (1970, 2199, {}),
)  # fmt: skip


def is_schedule_due(schedule: str, timezone: str | None, begun: datetime, since: datetime, until: datetime) -> bool:
    """Return whether an action put at `begun` is due in (since, until]. Raises ValueError for an invalid schedule."""
    expression_type, arguments = parse_schedule(schedule)
    zone = ZoneInfo(timezone or "UTC")
    if expression_type == "at":
        return since < datetime.fromisoformat(arguments).replace(tzinfo=zone) <= until
    if expression_type == "rate":
        every = parse_rate(arguments)
        return (until - begun) // every > (since - begun) // every
    wanted = parse_cron(arguments)
    minute = since.replace(second=0, microsecond=0) + timedelta(minutes=1)
    while minute <= until:
        if is_cron_minute(wanted, minute.astimezone(zone)):
            return True
        minute += timedelta(minutes=1)
    return False


def parse_schedule(schedule: str) -> tuple[str, str]:
    found = re.fullmatch(r"(at|rate|cron)\((.+)\)", schedule)
    if not found:
        raise ValueError(f"Invalid schedule expression: {schedule!r}")
    return found[1], found[2]


def validate_schedule(schedule: str, timezone: str | None) -> None:
    """Raise ValueError for an invalid schedule expression, KeyError for an unknown timezone."""
    moment = datetime.now(UTC)
    is_schedule_due(schedule, timezone, moment, moment, moment)


def parse_rate(arguments: str) -> timedelta:
    found = re.fullmatch(r"([1-9]\d*) (minute|hour|day)s?", arguments)
    if not found:
        raise ValueError(f"Invalid rate: {arguments!r}")
    return timedelta(seconds=int(found[1]) * UNITS[found[2]])


def parse_cron(arguments: str) -> list[set[int] | None]:
    """Return sets of minutes, hours, days of the month, months, days of the week (Sunday is 1) and years; None for `?`.

    Raises ValueError for an invalid expression.
    """
    fields = arguments.split()
    if len(fields) != len(FIELDS) or (fields[2] == "?") == (fields[4] == "?"):
        raise ValueError(
            f"Invalid cron: {arguments!r}: six fields are required, and a ? as exactly one of the two day fields"
        )
    return [None if text == "?" else parse_cron_field(text, *field) for text, field in zip(fields, FIELDS, strict=True)]


def parse_cron_field(text: str, low: int, high: int, names: dict[str, int]) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if first == "*":
            begin, end = low, high
        else:
            begin = parse_cron_value(first, names)
            end = parse_cron_value(last, names) if last else (high if step else begin)
        if not low <= begin <= end <= high:
            raise ValueError(f"Invalid cron field: {text!r}")
        found |= set(range(begin, end + 1, int(step or 1)))
    return found


def parse_cron_value(text: str, names: dict[str, int]) -> int:
    return names[text.upper()] if text.upper() in names else int(text)


def is_cron_minute(wanted: list[set[int] | None], moment: datetime) -> bool:
    day = moment.isoweekday() % 7 + 1
    have = (moment.minute, moment.hour, moment.day, moment.month, day, moment.year)
    return all(allowed is None or value in allowed for allowed, value in zip(wanted, have, strict=True))
