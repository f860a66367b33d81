"""Revisions and times as people write them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_registry.arguments import POINT, read_of
from nexus_registry.points import parse_point

# A Wednesday, in winter time; in Kolkata it is Thursday already.
NOW = datetime(2026, 3, 4, 20, 30, tzinfo=UTC)


@pytest.fixture
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The local time zone of the parameter."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


in_zone = pytest.mark.parametrize("zone", ["Asia/Kolkata"], indirect=True)
in_berlin = pytest.mark.parametrize("zone", ["Europe/Berlin"], indirect=True)


def utc(text: str) -> datetime:
    """A time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize("text", ["1", "12", " 1200 ", "20260301", "9223372036854775807"])
def test_numbers_are_revisions(text: str) -> None:
    """A number is a revision, also one that could be read as a date."""
    assert parse_point(text, NOW) == int(text)


@in_zone
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01", "2026-02-28T18:30"),
        ("2026-03-01T09:30", "2026-03-01T04:00"),
        ("2026-03-01 09:30:15.25", "2026-03-01T04:00:15.250000"),
        ("2026-03-01T09:30Z", "2026-03-01T09:30"),
        ("2026-03-01t09:30z", "2026-03-01T09:30"),
        ("2026-03-01 09:30:00+01:00", "2026-03-01T08:30"),
        ("2026-03-01T09:30-0800", "2026-03-01T17:30"),
        ("20260301T093000Z", "2026-03-01T09:30"),
        ("2026-W10-1", "2026-03-01T18:30"),
        ("today", "2026-03-04T18:30"),
        ("Yesterday", "2026-03-03T18:30"),
        ("thursday", "2026-03-04T18:30"),
        ("wednesday", "2026-03-03T18:30"),
        ("wed", "2026-03-03T18:30"),
        ("FRI", "2026-02-26T18:30"),
    ],
)
@pytest.mark.usefixtures("zone")
def test_dates_and_days(text: str, expected: str) -> None:
    """What has no time zone is local (it is Thursday here); a day's name is its last beginning."""
    found = parse_point(text, NOW)
    assert isinstance(found, datetime)
    assert found.tzinfo is not None
    assert found == utc(expected)


@in_berlin
@pytest.mark.usefixtures("zone")
def test_days_are_as_long_as_they_are() -> None:
    """A day's beginning is by the clock on the wall, a length of time is not."""
    now = datetime(2026, 3, 30, 10, 0, tzinfo=UTC)  # a Monday; the clocks went on on Sunday
    assert parse_point("yesterday", now) == utc("2026-03-28T23:00")
    assert parse_point("today", now) == utc("2026-03-29T22:00")
    assert parse_point("2026-01-01", now) == utc("2025-12-31T23:00")
    assert parse_point("1d", now) == utc("2026-03-29T10:00")


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        ("3d", timedelta(days=3)),
        ("1w", timedelta(weeks=1)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        ("250ms", timedelta(milliseconds=250)),
    ],
)
def test_lengths_of_time_are_ago(text: str, ago: timedelta) -> None:
    """With a unit it is so long before now."""
    assert parse_point(text, NOW) == NOW - ago


@pytest.mark.parametrize(
    "text",
    ["", "0", "-1", "now", "tomorrow", "march", "10:00", "2026-13-01", "2026-03", "2026-02-30",
     "5x", "h", "2h ago", "1e3", "٣", "mond", "9999999d", "9" * 40, "9223372036854775808",
     "2026-03-01T25:00", "0001-01-01T00:00+23:00x"],
)  # fmt: skip
def test_nothing_is_guessed(text: str) -> None:
    """What is not exactly one of the forms is refused, and the refusal shows some."""
    with pytest.raises(ValueError, match=r"neither a revision nor a time|revisions are 1 to"):
        parse_point(text, NOW)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever is typed, it is a revision, a time with a zone, or a usage error."""
    try:
        found = POINT.convert(text, None, None)
    except click.UsageError:
        return
    assert isinstance(found, int) or found.utcoffset() is not None


def test_read_options() -> None:
    """A revision is read as one, a time as one; and nothing if nothing was said."""
    assert read_of(12, 3) == {"at_revision": 12, "min_revision": 3}
    assert read_of(NOW, None) == {"at_time": NOW}
    assert read_of(None, None) == {}
