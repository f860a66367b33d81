"""JSON text as values."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from hyper_registry.model.errors import InvalidArgument

_BOM = b"\xef\xbb\xbf"
# orjson makes a double of an integer that has more than 64 bits, which is then another number. It
# refuses what no double holds, so what comes after it has at most 309 digits.
_LONG = re.compile(rb"[0-9]{19}")


def loads(data: bytes, field: str = "body") -> Any:
    """The value of a JSON text. Raises InvalidArgument that names `field`, the line and column."""
    data = data.removeprefix(_BOM)
    try:
        value = orjson.loads(data)
        return json.loads(data) if _LONG.search(data) else value
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InvalidArgument.of(field, f"not JSON at {place}: {error.msg}") from None
    except RecursionError:
        raise InvalidArgument.of(field, "not JSON that can be read: nested too deeply") from None
