"""Points in the history of a registry, as people say them: revisions and times.

| text | means |
|---|---|
| `1200` | that revision: a number without anything else is never a time |
| `2026-03-01`, `2026-03-01T09:30`, `2026-03-01 09:30:00+01:00` | ISO 8601; local without a zone |
| `90s`, `15m`, `2h`, `3d`, `1w`, `1h30m` | so long ago |
| `today`, `yesterday` | the beginning of that day, in the local time zone |
| `monday` to `sunday`, `mon` to `sun` | the last time that such a day began; today, if it is one |

The standard library reads what ISO 8601 allows, and refuses the rest. Libraries that read any text
guess: a bare `10` becomes the tenth of this month, a mistyped month the current one, and the past
that one reads is not the past that was meant.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import Final

from nexus_registry.settings import seconds_of

__all__ = ["Point", "parse_point"]

Point = int | datetime
"""A revision, or a time with a time zone."""

_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SHORT: Final = 3
_REVISION: Final = re.compile(r"[0-9]+")
_LARGEST: Final = (1 << 63) - 1


def parse_point(text: str, now: datetime) -> Point:
    """The revision or time that a text says; `now` has a time zone.

    Raises ValueError with what was expected.
    """
    word = text.strip().lower()
    if _REVISION.fullmatch(word):
        return _revision(word)
    try:
        if (seconds := seconds_of(word)) is not None:
            return now - timedelta(seconds=seconds)
        if (days := _days_ago(word, now.astimezone().date())) is not None:
            return _local(datetime.combine(now.astimezone().date() - days, datetime.min.time()))
        return _local(datetime.fromisoformat(word.upper()))
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            f"{text!r} is neither a revision nor a time such as 2026-03-01, 2026-03-01T09:30, 2h,"
            " 3d, yesterday or tuesday"
        ) from None


def _revision(digits: str) -> int:
    revision = int(digits) if len(digits) < 20 else _LARGEST + 1
    if not 1 <= revision <= _LARGEST:
        raise ValueError(f"revisions are 1 to {_LARGEST}, not {digits[:30]}")
    return revision


def _days_ago(word: str, today: date) -> timedelta | None:
    """How long ago the day that a word names began, in days; None if it names none."""
    if word in ("today", "yesterday"):
        return timedelta(days=int(word == "yesterday"))
    for number, name in enumerate(_DAYS):
        if word in (name, name[:_SHORT]):
            return timedelta(days=(today.weekday() - number) % len(_DAYS))
    return None


def _local(time: datetime) -> datetime:
    """The time, in the local time zone if it says none."""
    return time if time.tzinfo is not None else time.astimezone()
