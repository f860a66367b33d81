"""Points in time: microseconds since 1970, UTC, as the log counts them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hyper_registry.model.errors import InvalidArgument

# The years 1 to 9999, as `google.protobuf.Timestamp` documents.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
_NANOS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(field: str, seconds: int, nanos: int) -> int:
    """The microsecond that a timestamp in a request's field is in. Raises InvalidArgument."""
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        raise InvalidArgument.of(
            f"{field}.seconds",
            f"{_FIRST_SECOND} to {_LAST_SECOND} (years 1 to 9999), got {seconds}",
        )
    if not 0 <= nanos < _NANOS:
        raise InvalidArgument.of(f"{field}.nanos", f"0 to {_NANOS - 1}, got {nanos}")
    return seconds * 1_000_000 + nanos // 1000


def shown(time: int) -> str:
    """A time as RFC 3339 in UTC, as protobuf's JSON has it: with 0, 3 or 6 decimals."""
    fits = "milliseconds" if time % 1000 == 0 else "microseconds"
    exact = "seconds" if time % 1_000_000 == 0 else fits
    return (_EPOCH + timedelta(microseconds=time)).isoformat(timespec=exact).replace("+00:00", "Z")
