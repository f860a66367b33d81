"""Messages, out."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from ose.registry.jsonform._enums import enum_of, form_of
from ose.registry.jsonform._types import (
    EXACT,
    WIDE,
    WRAPPERS,
    is_map,
    is_struct,
    message_of,
    new_message,
    type_of,
)
from ose.registry.jsonform._violations import FormError, Violation

JsonObject = dict[str, Any]
"""A JSON object: strings, numbers, booleans, lists and objects by name."""

_Encode = Callable[[Any], Any]
_MessageEncode = Callable[[Message], Any]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_encoders: dict[Descriptor, _MessageEncode] = {}
_field_encoders: dict[FieldDescriptor, _Encode] = {}


def to_dict(message: Message) -> JsonObject:
    """The JSON object of a message.

    Raises FormError for what JSON cannot hold: a number in a Struct that is not finite, a time out
    of the years 1 to 9999, a packed message of an unknown type.
    """
    return encoder_of(type_of(message))(message)  # type: ignore[no-any-return]


def field_to_json(message: Message, field: FieldDescriptor) -> Any:
    """The JSON value of one field of a message, set or not. Raises as `to_dict`."""
    if (encode := _field_encoders.get(field)) is None:
        encode = _field_encoders[field] = _field_encoder(field)
    return encode(getattr(message, field.name))


def encoder_of(descriptor: Descriptor) -> _MessageEncode:
    """What turns messages of this type into JSON values: made at the first use, then kept."""
    if (encoder := _encoders.get(descriptor)) is None:
        encoder = _ENCODERS.get(descriptor.full_name) or _plan_encoder(descriptor)
        _encoders[descriptor] = encoder
    return encoder


def _plan_encoder(descriptor: Descriptor) -> _MessageEncode:
    """Reads all fields at once, then converts those that are not what they should be."""
    names = tuple(field.name for field in descriptor.fields)
    read = _reader(names)
    optional, always = list[tuple[str, _Encode]](), list[tuple[str, _Encode]]()
    for field in descriptor.fields:
        convert = _field_encoder(field)
        if field.has_presence and not is_struct(field):
            optional.append((field.name, convert))
        elif convert is not _itself:
            always.append((field.name, convert))

    def encode(message: Message) -> JsonObject:
        form = dict(zip(names, read(message), strict=True))
        for name, convert in always:
            form[name] = convert(form[name])
        for name, convert in optional:
            if message.HasField(name):
                form[name] = convert(form[name])
            else:
                del form[name]
        return form

    return encode


def _reader(names: tuple[str, ...]) -> Callable[[Message], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda message: tuple(getattr(message, name) for name in names)


def _field_encoder(field: FieldDescriptor) -> _Encode:
    if is_map(field):
        return _map_encoder(field)
    one = _one_encoder(field)
    if not field.is_repeated:
        return one
    if one is _itself:
        return list
    if one is str:
        return lambda items: list(map(str, items))
    return lambda items: [one(item) for item in items]


def _map_encoder(field: FieldDescriptor) -> _Encode:
    entry = message_of(field).fields_by_name
    key, value = _key_encoder(entry["key"]), _one_encoder(entry["value"])
    if key is str and value is _itself:
        return lambda items: {str(name): items[name] for name in sorted(items)} if items else {}
    return lambda items: {key(name): value(item) for name, item in sorted(items.items())}


def _key_encoder(field: FieldDescriptor) -> _Encode:
    if field.type == FieldDescriptor.TYPE_BOOL:
        return lambda key: "true" if key else "false"
    return str


def _one_encoder(field: FieldDescriptor) -> _Encode:
    if field.message_type is None:
        return _scalar_encoder(field)
    descriptor = field.message_type
    if known := _ENCODERS.get(descriptor.full_name):
        return known
    # Looked up at the call: a message may contain itself.
    return lambda message: encoder_of(descriptor)(message)


# Scalars


def _scalar_encoder(field: FieldDescriptor) -> _Encode:
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        names = form_of(enum_of(field)).names
        return lambda number: names.get(number, number)
    if field.cpp_type in WIDE:
        return str
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return _encode_double
    if field.type == FieldDescriptor.TYPE_FLOAT:
        return _encode_float
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _encode_bytes
    return _itself


def _itself(value: Any) -> Any:
    return value


def _encode_double(value: float) -> Any:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _encode_float(value: float) -> Any:
    """The shortest decimal that is the same 32-bit float."""
    if not math.isfinite(value):
        return _encode_double(value)
    candidates = (float(f"{value:.{digits}g}") for digits in range(6, 9))
    same = (c for c in candidates if struct.unpack("f", struct.pack("f", c))[0] == value)
    return next(same, value)


def _encode_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode()


# Well-known types


def _encode_time(message: Any) -> str:
    """RFC 3339 in UTC with 0, 3, 6 or 9 digits of fraction."""
    moment = _moment(message.seconds)
    if not (nanos := message.nanos):
        return f"{moment}Z"
    if nanos % 1000:
        return f"{moment}.{nanos:09}Z"
    micros = nanos // 1000
    return f"{moment}.{micros:06}Z" if micros % 1000 else f"{moment}.{micros // 1000:03}Z"


# Records that were written together have the same second.
@lru_cache(maxsize=4096)
def _moment(seconds: int) -> str:
    try:
        return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]
    except OverflowError as error:
        raise FormError([Violation("", "a time outside of the years 1 to 9999")]) from error


def _encode_duration(message: Any) -> str:
    try:
        return message.ToJsonString()  # type: ignore[no-any-return]
    except ValueError as error:
        raise FormError([Violation("", str(error))]) from error


def _encode_mask(message: Any) -> str:
    return ",".join(message.paths)


def _encode_struct(message: Any) -> JsonObject:
    fields = message.fields
    return {key: _encode_any_value(fields[key]) for key in sorted(fields)}


def _encode_list(message: Any) -> list[Any]:
    return [_encode_any_value(value) for value in message.values]


def _encode_any_value(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        return _encode_number(value.number_value)
    if kind == "bool_value":
        return value.bool_value
    if kind == "struct_value":
        return _encode_struct(value.struct_value)
    if kind == "list_value":
        return _encode_list(value.list_value)
    return None


def _encode_number(number: float) -> float:
    if number.is_integer():
        exact = -EXACT <= number <= EXACT and (number or math.copysign(1, number) > 0)
        return int(number) if exact else number  # an integer has no -0
    if not math.isfinite(number):
        raise FormError([Violation("", f"JSON has no number {number}")])
    return number


def _encode_packed(message: Any) -> JsonObject:
    """A google.protobuf.Any: the object of what is in it, with its type."""
    if not message.type_url:
        return {}
    try:
        content = new_message(message.type_url)
        content.ParseFromString(message.value)
    except (KeyError, DecodeError) as error:
        raise FormError([Violation("", f"cannot unpack {message.type_url}")]) from error
    descriptor = type_of(content)
    value = encoder_of(descriptor)(content)
    if descriptor.full_name in _ENCODERS:
        return {"@type": message.type_url, "value": value}
    return {"@type": message.type_url, **value}


def _encode_wrapper(message: Any) -> Any:
    descriptor = cast("Descriptor", message.DESCRIPTOR)
    return _scalar_encoder(descriptor.fields_by_name["value"])(message.value)


_ENCODERS: Final[dict[str, _MessageEncode]] = {
    "google.protobuf.Timestamp": _encode_time,
    "google.protobuf.Duration": _encode_duration,
    "google.protobuf.FieldMask": _encode_mask,
    "google.protobuf.Struct": _encode_struct,
    "google.protobuf.ListValue": _encode_list,
    "google.protobuf.Value": _encode_any_value,
    "google.protobuf.Any": _encode_packed,
    **dict.fromkeys(WRAPPERS, _encode_wrapper),
}
