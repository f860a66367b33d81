"""Random request messages with values at and beyond every border, and paths into messages."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.struct_pb2 import Struct

M = TypeVar("M", bound=Message)

TEXTS = (
    *("", "a", "b", "r", "ai-ml", "service", "feature", "relationship", "uses", "1", "*"),
    *("name", "labels.k", "metadata.x", "versionConstraint", "metadata.", ".", "a.b.c", "id"),
    *("k=v", " ", "\n", "\0", "/", "🚀", "语" * 255, "x" * 256, "x" * 70_000),
)
INTEGERS = (0, 1, 2, 3, -1, 1000, 2**31 - 1, -(2**31))
LONG_INTEGERS = (*INTEGERS, 2**53 + 1, 2**63 - 1, -(2**63))
NUMBERS = (0.0, -0.0, 1.0, -1.0, 1e300, float("nan"), float("inf"), float("-inf"), 2.0**53 + 2)
ENUMS = (0, 1, 2, 3, 4, 8, 9, 99, -1, 2**31 - 1)

_IDS = ("a", "b", "c", "r")
_ORDINARY: dict[str, tuple[object, ...]] = {
    "id": _IDS,
    "ids": _IDS,
    "source_id": ("a", "b"),
    "target_id": ("a", "b"),
    "entity_id": _IDS,
    "relationship_id": ("r",),
    "type": ("service",),
    "name": ("a", "b", "n"),
    "paths": ("name", "version", "metadata.x", "labels.k", "weight", "*", "versionConstraint"),
    "regions": ("local", "eu", "us"),
    "at_revision": (0, 1, 2),
    "min_revision": (0, 1),
    "expected_revision": (0, 0, 2),
    "revision": (1, 2),
    "must_exist": (True,),
    "must_not_exist": (True,),
    "idempotency_key": ("", "k"),
    "weight": (0.0, 1.0),
}

_KINDS = FieldDescriptor
_SCALARS: dict[int, tuple[object, ...]] = {
    _KINDS.CPPTYPE_STRING: TEXTS,
    _KINDS.CPPTYPE_INT32: INTEGERS,
    _KINDS.CPPTYPE_INT64: LONG_INTEGERS,
    _KINDS.CPPTYPE_DOUBLE: NUMBERS,
    _KINDS.CPPTYPE_BOOL: (False, True),
    _KINDS.CPPTYPE_ENUM: ENUMS,
}


def nested(depth: int, lists: bool = False) -> Struct:
    """Metadata that is nested so deep."""
    outer = Struct()
    value = outer.fields["a"]
    for _ in range(depth - 1):
        value = value.list_value.values.add() if lists else value.struct_value.fields["a"]
    value.number_value = 1
    return outer


def fill(rng: random.Random, message: Message, depth: int = 0) -> None:
    """Sets some of a message's fields to random values."""
    for field in message.DESCRIPTOR.fields:
        if rng.random() < (0.35 if depth else 0.1):
            continue
        value: Any = getattr(message, field.name) if field.is_repeated else None
        if _is_map(field):
            for _ in range(rng.choice((0, 1, 2))):
                value[rng.choice(("k", "team"))] = rng.choice(("", "1"))
            if rng.random() < 0.1:
                for number in range(rng.choice((1, 65))):
                    value[rng.choice(TEXTS[:-1]) + str(number)] = rng.choice(TEXTS)
        elif field.is_repeated and field.message_type:
            for _ in range(rng.choice((1, 1, 2, 3))):
                fill(rng, value.add(), depth + 1)
        elif field.is_repeated:
            value.extend(_scalar(rng, field) for _ in range(rng.choice((0, 1, 2, 5))))
        elif field.message_type is None:
            setattr(message, field.name, _scalar(rng, field))
        elif field.message_type.full_name == "google.protobuf.Struct":
            getattr(message, field.name).CopyFrom(_metadata(rng))
        elif field.containing_oneof is None or rng.random() < 0.3:
            getattr(message, field.name).SetInParent()
            fill(rng, getattr(message, field.name), depth + 1)


def damaged(rng: random.Random, message: M) -> M | None:
    """The message after some of its bytes were changed; None if it can no longer be parsed."""
    data = bytearray(message.SerializeToString())
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(len(data) + 1)
        match rng.randrange(3):
            case 0:
                data[place : place + 1] = bytes((rng.randrange(256),))
            case 1:
                data[place:place] = rng.randbytes(rng.randrange(1, 5))
            case _:
                del data[place : place + rng.randrange(1, 5)]
    try:
        return type(message).FromString(bytes(data))
    except DecodeError:
        return None


def names_a_field(descriptor: Any, path: str) -> bool:
    """Whether a path leads to a field of a message, or into a map or metadata of it."""
    head, _, rest = path.partition(".")
    match = re.fullmatch(r"([a-z_]+)(\[\d+\])?", head)
    field = descriptor.fields_by_name.get(match[1]) if match else None
    if field is None:
        return bool(match) and match is not None and head in descriptor.oneofs_by_name
    if not rest:
        return True
    if _is_map(field) or field.message_type.full_name == "google.protobuf.Struct":
        return True
    return field.message_type is not None and names_a_field(field.message_type, rest)


def _is_map(field: Any) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _scalar(rng: random.Random, field: Any) -> Any:
    values = _SCALARS[field.cpp_type]
    # Mostly ordinary ones, so that requests get past the first check.
    ordinary = _ORDINARY.get(field.name, values[:2])
    return rng.choice(ordinary) if rng.random() < 0.95 else rng.choice(values)


_METADATA: tuple[Callable[[], Struct], ...] = (
    Struct,
    lambda: _struct(x=1.0, feature="ai-ml"),
    lambda: _struct(feature=["no", None, True]),
    lambda: _struct(x=float("nan")),
    lambda: _struct(x={"y": [float("-inf")]}),
    lambda: _struct(x=2.0**60),
    lambda: _struct(x="x" * 300_000),
    lambda: nested(32),
    lambda: nested(33),
    lambda: nested(40, lists=True),
    lambda: Struct.FromString(b"\x9b\x06" * 90 + b"\x9c\x06" * 90),
    lambda: Struct.FromString(b"\x0a\x03\x0a\x01x"),
)


def _metadata(rng: random.Random) -> Struct:
    return rng.choice(_METADATA[:3] if rng.random() < 0.9 else _METADATA)()


def _struct(**values: Any) -> Struct:
    struct = Struct()
    struct.update(values)
    return struct
