"""Where the parts of creations are in the wire form of a batch, and their metadata as JSON.

A message's fields are read one by one through Python objects, and metadata is a tree of them; here
they are found in the bytes, in one call for a batch. What is not as nearly all batches are is left
to whoever reads the messages: a row then stays 0.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from hyper_registry.model.rules import MAX_METADATA_BYTES, MAX_METADATA_DEPTH
from hyper_registry.registry.columns import Bytes, Ints

KIND = 0
"""1: what creates an entity, 2: what creates a relationship; 0: anything else, or unusual.

Column `2 * n` and the next are of field number n: where a text, a message or a double begins and
ends; where the first of a repeated field begins, with its tag, and the last one ends; or the value
of a number. Both are 0 where there is none.
"""

JSON, FEATURE, BODY = 32, 34, 36
"""Where these begin, and in the next column end: metadata as JSON, and the text of its `feature`.

The end of the JSON is 0 if numbers in it are not whole. The body is everything that a caller says
but the id, in the wire form.
"""

WIDTH = 38

# Wire types.
_VARINT, _EIGHT_BYTES, _SIZED = 0, 1, 2

_EXACT = 2.0**53
_UNUSUAL, _FRACTION = -1, -2
_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
_FEATURE = np.frombuffer(b"feature", dtype=np.uint8)
# What follows a backslash in place of a character below a space; 0: its number does.
_ESCAPES = np.zeros(32, dtype=np.uint8)
for _code, _letter in zip(b"\b\t\n\f\r", b"btnfr", strict=True):
    _ESCAPES[_code] = _letter


@numba.njit(cache=True, nogil=True)
def split(data: Bytes, tag: int, kinds: Ints, rows: Ints, out: Bytes) -> int:
    """Fills a row for each mutation, which are the elements of the field with this tag.

    The bytes are what protobuf's deterministic writer made, without fields that it does not know.
    A row of `kinds` says of a mutation that begins with the tag in its first column which kind it
    is, which number its metadata has, that of the last field of its body, and, as bits, which of
    its fields are repeated. JSON goes to `out`, which has six times the size of `data`; answers how
    much it is.
    """
    at = number = written = 0
    stack = np.zeros((MAX_METADATA_DEPTH + 1, 3), dtype=np.int64)
    while at < len(data):
        found, at = _varint(data, at)
        if found & 7 == _SIZED:
            size, at = _varint(data, at)
            if found == tag:
                written = _mutation(data, at, at + size, kinds, rows[number], stack, out, written)
                number += 1
            at += size
        elif found & 7 == _VARINT:
            _, at = _varint(data, at)
        else:
            at += 8 if found & 7 == _EIGHT_BYTES else 4
    return written


@numba.njit(cache=True, nogil=True)
def _varint(data: Bytes, at: int) -> Any:
    value = np.int64(0)
    shift = 0
    while data[at] & 0x80:
        value |= np.int64(data[at] & 0x7F) << shift
        shift += 7
        at += 1
    return value | np.int64(data[at]) << shift, at + 1


@numba.njit(cache=True, nogil=True)
def _mutation(
    data: Bytes, at: int, end: int, kinds: Ints, row: Ints, stack: Ints, out: Bytes, written: int
) -> int:
    if at == end:
        return written
    tag, at = _varint(data, at)
    _, at = _varint(data, at)
    for i in range(len(kinds)):
        if kinds[i, 0] == tag and _fields(data, at, end, kinds[i, 3], kinds[i, 4], row):
            metadata = 2 * kinds[i, 2]
            start, stop = row[metadata], row[metadata + 1]
            if stop:
                after = _json(data, start, stop, row, stack, out, written)
                if after == _UNUSUAL:
                    return written
                if after != _FRACTION:
                    row[JSON], row[JSON + 1] = written, after
                    written = after
            row[KIND] = kinds[i, 1]
    return written


@numba.njit(cache=True, nogil=True)
def _fields(data: Bytes, at: int, end: int, last: int, runs: int, row: Ints) -> bool:
    """Finds the fields of a message; answers whether it is as expected."""
    before = np.int64(0)
    row[BODY] = row[BODY + 1] = at
    while at < end:
        start = at
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        is_run = number < 16 and (runs >> number) & 1
        if number > 15 or number < before or (number == before and not is_run):
            return False
        if wire == _SIZED:
            size, at = _varint(data, at)
            # An empty message is as good as none, but does not look so.
            if size == 0 and not is_run:
                return False
            if number != before:
                row[2 * number] = start if is_run else at
            at += size
            row[2 * number + 1] = at
        elif wire == _EIGHT_BYTES:
            row[2 * number] = at
            at += 8
            row[2 * number + 1] = at
        elif wire == _VARINT:
            row[2 * number], at = _varint(data, at)
        else:
            return False
        if number == 1:
            row[BODY] = at
        if number <= last:
            row[BODY + 1] = at
        before = number
    return True


@numba.njit(cache=True, nogil=True)
def _json(data: Bytes, at: int, end: int, row: Ints, stack: Ints, out: Bytes, written: int) -> int:
    """Writes a Struct as JSON; answers where it ends, or why it did not.

    A level of the stack has where it ends, whether it is a list, and whether it has begun.
    """
    if end - at > MAX_METADATA_BYTES:
        return _UNUSUAL
    level, is_whole = 0, True
    stack[0, 0], stack[0, 1], stack[0, 2] = end, 0, 0
    out[written] = 0x7B
    written += 1
    while True:
        if at == stack[level, 0]:
            out[written] = 0x5D if stack[level, 1] else 0x7D
            written += 1
            level -= 1
            if level < 0:
                return written if is_whole else _FRACTION
            continue
        if stack[level, 2]:
            out[written] = 0x2C
            written += 1
        stack[level, 2] = 1
        if data[at] != 0x0A:
            return _UNUSUAL
        size, at = _varint(data, at + 1)
        stop = at + size
        is_feature = False
        if not stack[level, 1]:
            if at == stop or data[at] != 0x0A:
                return _UNUSUAL
            size, at = _varint(data, at + 1)
            written = _string(data, at, at + size, out, written)
            is_feature = level == 0 and np.array_equal(data[at : at + size], _FEATURE)
            at += size
            out[written] = 0x3A
            written += 1
            if at == stop or data[at] != 0x12:
                return _UNUSUAL
            size, at = _varint(data, at + 1)
            if at + size != stop:
                return _UNUSUAL
        # The value: `at` to `stop`.
        kind = data[at] if at < stop else 0x08
        if kind == 0x1A:
            size, at = _varint(data, at + 1)
            written = _string(data, at, at + size, out, written)
            if is_feature:
                row[FEATURE], row[FEATURE + 1] = at, at + size
            at += size
        elif kind == 0x11:
            after = _number(data, at + 1, out, written)
            if after == _UNUSUAL:
                return _UNUSUAL
            # What follows may still be unusual.
            if after == _FRACTION:
                is_whole = False
            else:
                written = after
            at += 9
        elif kind == 0x20:
            written = _word(b"true" if data[at + 1] else b"false", out, written)
            at += 2
        elif kind == 0x08:
            written = _word(b"null", out, written)
            at = stop
        elif kind == 0x2A or kind == 0x32:
            size, at = _varint(data, at + 1)
            level += 1
            if level >= MAX_METADATA_DEPTH:
                return _UNUSUAL
            stack[level, 0], stack[level, 1], stack[level, 2] = at + size, kind == 0x32, 0
            out[written] = 0x5B if kind == 0x32 else 0x7B
            written += 1
            if at + size != stop:
                return _UNUSUAL
            continue
        else:
            return _UNUSUAL
        if at != stop:
            return _UNUSUAL


@numba.njit(cache=True, nogil=True)
def _word(word: Any, out: Bytes, written: int) -> int:
    for i in range(len(word)):
        out[written + i] = word[i]
    return written + len(word)


@numba.njit(cache=True, nogil=True)
def _string(data: Bytes, at: int, end: int, out: Bytes, written: int) -> int:
    out[written] = 0x22
    written += 1
    for i in range(at, end):
        code = data[i]
        if code >= 0x20 and code != 0x22 and code != 0x5C:
            out[written] = code
            written += 1
            continue
        out[written] = 0x5C
        letter = _ESCAPES[code] if code < 0x20 else code
        if letter:
            out[written + 1] = letter
            written += 2
        else:
            out[written + 1] = 0x75
            out[written + 2] = out[written + 3] = 0x30
            out[written + 4] = 0x30 | code >> 4
            out[written + 5] = _HEX[code & 0xF]
            written += 6
    out[written] = 0x22
    return written + 1


@numba.njit(cache=True, nogil=True)
def _number(data: Bytes, at: int, out: Bytes, written: int) -> int:
    bits = np.empty(8, dtype=np.uint8)
    bits[:] = data[at : at + 8]
    number = bits.view(np.float64)[0]
    if not np.isfinite(number):
        return _UNUSUAL
    if not -_EXACT <= number <= _EXACT or number != np.floor(number):
        return _FRACTION
    whole = np.int64(number)
    if whole < 0:
        out[written] = 0x2D
        written += 1
        whole = -whole
    digits, rest = 1, whole
    while rest >= 10:
        rest //= 10
        digits += 1
    for i in range(digits):
        out[written + digits - 1 - i] = 0x30 + whole % 10
        whole //= 10
    return written + digits
