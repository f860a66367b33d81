"""Protobuf by hand, for messages that are too large, or too foreign, for a generated class."""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def varint(number: int) -> bytes:
    """A number that is not negative."""
    # Its own: the server's brings the compiler along, half a second for every load generator.
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def text_field(number: int, value: str) -> bytes:
    """A field with text."""
    return bytes_field(number, value.encode())


def number_field(number: int, value: int) -> bytes:
    """A field with a number."""
    return varint(number << 3 | _VARINT) + varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """A field with bytes, text or a message."""
    return varint(number << 3 | _BYTES) + varint(len(value)) + value


def with_field(message: bytes, number: int, value: bytes) -> bytes:
    """A message with one more field."""
    return message + bytes_field(number, value)


def field_of(message: bytes, number: int) -> bytes:
    """The last field of this number, of bytes; empty if there is none."""
    found = b""
    for this, start, stop in _spans(message):
        if this == number:
            found = message[start:stop]
    return found


def number_of(message: bytes, number: int) -> int:
    """The last field of this number, which is a number; 0 if there is none."""
    found = 0
    for this, start, _ in _spans(message):
        if this == number:
            found, _ = _read(message, start)
    return found


def _spans(message: bytes) -> Iterator[tuple[int, int, int]]:
    at = 0
    while at < len(message):
        tag, at = _read(message, at)
        kind = tag & 7
        if kind == _BYTES:
            size, at = _read(message, at)
        elif kind == _VARINT:
            _, after = _read(message, at)
            size = after - at
        else:
            size = {_FIXED64: 8, _FIXED32: 4}[kind]
        yield tag >> 3, at, at + size
        at += size


def _read(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
