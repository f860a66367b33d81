"""Messages, in."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from ose.registry.jsonform._enums import WORD_START, enum_of, form_of
from ose.registry.jsonform._types import EXACT, WRAPPERS, is_map, message_of, new_message, type_of
from ose.registry.jsonform._violations import (
    FormError,
    Path,
    UnknownField,
    Violation,
    refuse,
    written,
)

_M = TypeVar("_M", bound=Message)
_Decode = Callable[[Any, Path, "list[Violation]"], Any]
_MessageDecode = Callable[[Any, Message, Path, "list[Violation]"], None]

# What is nested deeper cannot be sent: a level takes three messages, of which protobuf reads 100.
_MAX_NESTING: Final = 30
_INTEGER_TEXT: Final = re.compile(r"-?[0-9]{1,20}")
_NUMBER_TEXT: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_TIME: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SPECIAL_NUMBERS: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_INTEGER_RANGES: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


class FieldForm(NamedTuple):
    """How a field is read: `read(value, message, path, violations)` sets it in a message.

    `group` names the oneof that it is of, if any.
    """

    descriptor: FieldDescriptor
    name: str
    group: str | None
    takes_null: bool
    read: _MessageDecode


_fields: dict[Descriptor, dict[str, FieldForm]] = {}
_decoders: dict[Descriptor, _MessageDecode] = {}


def from_dict(data: object, message: _M, *, path: str = "", ignore_unknown: bool = False) -> _M:
    """Fills `message` in from a JSON object and answers it; what is absent stays as it is.

    `path` stands before the paths in errors. Unknown names are refused unless `ignore_unknown`; the
    check does not reach into a Struct, whose keys are free. A null counts as absent. Raises
    FormError with every violation; `message` is then left partly filled in.
    """
    violations: list[Violation] = []
    _decoder_of(type_of(message))(data, message, path, violations)
    if ignore_unknown:
        violations = [found for found in violations if not isinstance(found, UnknownField)]
    if violations:
        raise FormError(violations)
    return message


def fields_of(descriptor: Descriptor) -> Mapping[str, FieldForm]:
    """The fields of a message type, by each name that JSON may call them by."""
    if (fields := _fields.get(descriptor)) is None:
        fields = {}
        for field in descriptor.fields:
            fields[field.json_name] = fields[field.name] = _field_form(field)
        _fields[descriptor] = fields
    return fields


def _decoder_of(descriptor: Descriptor) -> _MessageDecode:
    """What fills messages of this type in from JSON values: made at the first use, then kept."""
    if (decoder := _decoders.get(descriptor)) is None:
        decoder = _DECODERS.get(descriptor.full_name) or _plan_decoder(descriptor)
        _decoders[descriptor] = decoder
    return decoder


def _plan_decoder(descriptor: Descriptor) -> _MessageDecode:
    fields = fields_of(descriptor)
    what = f"an object ({descriptor.name})"

    def decode(data: Any, message: Message, path: Path, violations: list[Violation]) -> None:
        if not isinstance(data, Mapping):
            refuse(violations, path, what, data)
            return
        seen: dict[str, Any] = {}
        for key, value in data.items():
            form = fields.get(key)
            if form is None:
                problem = f"{descriptor.name} has no such field"
                violations.append(UnknownField(written((path, key)), problem))
                continue
            _, name, group, takes_null, read = form
            if value is None and not takes_null:
                continue
            if clash := seen.get(name) or (group and seen.get(group)):
                violations.append(Violation(written((path, key)), f"given together with {clash!r}"))
                continue
            seen[name] = key
            if group:
                seen[group] = key
            read(value, message, (path, key), violations)

    return decode


def _field_form(field: FieldDescriptor) -> FieldForm:
    if is_map(field):
        read = _map_decoder(field)
    elif field.is_repeated:
        read = _list_decoder(field)
    elif field.message_type is not None:
        read = _member_decoder(field.name, field.message_type)
    else:
        read = _value_decoder(field)
    oneof = field.containing_oneof
    group = f"oneof {oneof.name}" if oneof and not oneof.name.startswith("_") else None
    is_value = field.message_type is not None and (
        field.message_type.full_name == "google.protobuf.Value"
    )
    return FieldForm(field, field.name, group, is_value and not field.is_repeated, read)


def _value_decoder(field: FieldDescriptor) -> _MessageDecode:
    name, one = field.name, _scalar_decoder(field)

    def decode(data: Any, message: Message, path: Path, violations: list[Violation]) -> None:
        value = one(data, path, violations)
        if value is not None:
            setattr(message, name, value)

    return decode


def _member_decoder(name: str, descriptor: Descriptor) -> _MessageDecode:
    def decode(data: Any, message: Message, path: Path, violations: list[Violation]) -> None:
        member: Message = getattr(message, name)
        member.SetInParent()
        _decoder_of(descriptor)(data, member, path, violations)

    return decode


def _list_decoder(field: FieldDescriptor) -> _MessageDecode:
    name, descriptor = field.name, field.message_type
    one = _scalar_decoder(field) if descriptor is None else None

    def decode(data: Any, message: Message, path: Path, violations: list[Violation]) -> None:
        if not isinstance(data, list | tuple):
            return refuse(violations, path, "a list", data)
        target = getattr(message, name)
        for position, item in enumerate(data):
            where = (path, position)
            if descriptor is not None:
                _decoder_of(descriptor)(item, target.add(), where, violations)
            elif one is not None and (value := one(item, where, violations)) is not None:
                target.append(value)
        return None

    return decode


def _map_decoder(field: FieldDescriptor) -> _MessageDecode:
    name, entry = field.name, message_of(field).fields_by_name
    key_of, descriptor = _key_decoder(entry["key"]), entry["value"].message_type
    one = _scalar_decoder(entry["value"]) if descriptor is None else None

    def decode(data: Any, message: Message, path: Path, violations: list[Violation]) -> None:
        if not isinstance(data, Mapping):
            return refuse(violations, path, "an object", data)
        target = getattr(message, name)
        for text, item in data.items():
            where = (path, text)
            key = key_of(text, where, violations)
            if key is None:
                continue
            if descriptor is not None:
                _decoder_of(descriptor)(item, target[key], where, violations)
            elif one is not None and (value := one(item, where, violations)) is not None:
                target[key] = value
        return None

    return decode


def _key_decoder(field: FieldDescriptor) -> _Decode:
    if field.type != FieldDescriptor.TYPE_BOOL:
        return _scalar_decoder(field)

    def decode(value: Any, path: Path, violations: list[Violation]) -> Any:
        if value in ("true", "false"):
            return value == "true"
        return refuse(violations, path, 'the key "true" or "false"', value)

    return decode


# Scalars


def _scalar_decoder(field: FieldDescriptor) -> _Decode:
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return _enum_decoder(field)
    if field.cpp_type in _INTEGER_RANGES:
        return _integer_decoder(*_INTEGER_RANGES[field.cpp_type])
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return _decode_double
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _decode_bool
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _decode_bytes
    return _decode_string


def _enum_decoder(field: FieldDescriptor) -> _Decode:
    form = form_of(enum_of(field))

    def decode(value: Any, path: Path, violations: list[Violation]) -> Any:
        if isinstance(value, str):
            number = form.numbers.get(value.lower())
            if number is not None:
                return number
        elif isinstance(value, int) and not isinstance(value, bool) and -(2**31) <= value < 2**31:
            return value
        return refuse(violations, path, form.expected, value)

    return decode


def _decode_bool(value: Any, path: Path, violations: list[Violation]) -> Any:
    return value if isinstance(value, bool) else refuse(violations, path, "true or false", value)


def _decode_string(value: Any, path: Path, violations: list[Violation]) -> Any:
    if not isinstance(value, str):
        quoted = isinstance(value, int | float) and not isinstance(value, bool)
        hint = " (write it in quotes)" if quoted else ""
        return refuse(violations, path, f"a string{hint}", value)
    if not _is_unicode(value):
        problem = "expected valid Unicode, got a lone surrogate"
        return violations.append(Violation(written(path), problem))
    return value


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decode_bytes(value: Any, path: Path, violations: list[Violation]) -> Any:
    if isinstance(value, str):
        try:
            padded = value.replace("-", "+").replace("_", "/").rstrip("=")
            return base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
        except (binascii.Error, ValueError):
            pass
    return refuse(violations, path, "bytes in base64", value)


def _decode_double(value: Any, path: Path, violations: list[Violation]) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    elif isinstance(value, str):
        if value in _SPECIAL_NUMBERS:
            return _SPECIAL_NUMBERS[value]
        if _NUMBER_TEXT.fullmatch(value):
            return float(value)
    return refuse(violations, path, "a number", value)


def _integer_decoder(low: int, high: int) -> _Decode:
    def decode(value: Any, path: Path, violations: list[Violation]) -> Any:
        number = _integer(value)
        if number is not None and low <= number <= high:
            return number
        return refuse(violations, path, f"an integer from {low} to {high}", value)

    return decode


def _integer(value: object) -> int | None:
    match value:
        case bool():
            return None
        case int():
            return value
        case float() if value.is_integer():
            return int(value)
        case str() if _INTEGER_TEXT.fullmatch(value):
            return int(value)
    return None


# Well-known types


def _decode_time(data: Any, message: Any, path: Path, violations: list[Violation]) -> None:
    """RFC 3339. The message's own reader takes six times as long."""
    found = _TIME.fullmatch(data) if isinstance(data, str) else None
    if found is not None:
        moment, fraction, zone = found.groups()
        try:
            since = datetime.fromisoformat(moment + zone.replace("Z", "+00:00")) - _EPOCH
        except ValueError:
            pass
        else:
            message.seconds = since.days * 86400 + since.seconds
            message.nanos = int((fraction or "").ljust(9, "0"))
            return
    refuse(violations, path, "a time such as 2025-01-01T00:00:00Z", data)


def _decode_duration(data: Any, message: Any, path: Path, violations: list[Violation]) -> None:
    if isinstance(data, str):
        try:
            message.FromJsonString(data)
        except (ValueError, OverflowError):
            pass
        else:
            return
    refuse(violations, path, "a duration such as 1.5s", data)


def _decode_mask(data: Any, message: Any, path: Path, violations: list[Violation]) -> None:
    paths = data.split(",") if isinstance(data, str) else data
    if not isinstance(paths, list) or not all(isinstance(item, str) for item in paths):
        return refuse(violations, path, "field names with commas between them", data)
    for item in paths:
        if item := item.strip():
            first, dot, rest = item.partition(".")
            message.paths.append(WORD_START.sub("_", first).lower() + dot + rest)
    return None


def _decode_struct(data: Any, message: Any, path: Path, violations: list[Violation]) -> None:
    _fill_struct(data, message, path, violations, _MAX_NESTING)


def _decode_list(data: Any, message: Any, path: Path, violations: list[Violation]) -> None:
    _fill_list(data, message, path, violations, _MAX_NESTING)


def _decode_value(data: Any, message: Any, path: Path, violations: list[Violation]) -> None:
    _fill_value(data, message, path, violations, _MAX_NESTING)


def _fill_struct(
    data: Any, message: Any, path: Path, violations: list[Violation], levels: int
) -> None:
    if not isinstance(data, Mapping):
        return refuse(violations, path, "an object", data)
    fields = message.fields
    for key, item in data.items():
        where = (path, key)
        if isinstance(key, str) and _is_unicode(key):
            _fill_value(item, fields[key], where, violations, levels)
        else:
            refuse(violations, where, "a key that is a string (write it in quotes)", key)
    return None


def _fill_list(
    data: Any, message: Any, path: Path, violations: list[Violation], levels: int
) -> None:
    if not isinstance(data, list | tuple):
        return refuse(violations, path, "a list", data)
    for position, item in enumerate(data):
        _fill_value(item, message.values.add(), (path, position), violations, levels)
    return None


def _fill_value(
    data: Any, message: Any, path: Path, violations: list[Violation], levels: int
) -> None:
    if isinstance(data, str):
        if (text := _decode_string(data, path, violations)) is not None:
            message.string_value = text
    elif isinstance(data, bool):
        message.bool_value = data
    elif isinstance(data, int | float):
        if (problem := _number_problem(data)) is not None:
            violations.append(Violation(written(path), problem))
        else:
            message.number_value = data
    elif data is None:
        message.null_value = 0
    elif isinstance(data, Mapping | list | tuple):
        if levels == 0:
            violations.append(Violation(written(path), f"nested more than {_MAX_NESTING} deep"))
        elif isinstance(data, Mapping):
            message.struct_value.SetInParent()
            _fill_struct(data, message.struct_value, path, violations, levels - 1)
        else:
            message.list_value.SetInParent()
            _fill_list(data, message.list_value, path, violations, levels - 1)
    else:
        refuse(violations, path, "a JSON value", data)


def _number_problem(number: float) -> str | None:
    if isinstance(number, int):
        if not -EXACT <= number <= EXACT:
            return "integers beyond 2^53 are not kept exactly: write it as a string"
    elif not math.isfinite(number):
        return f"JSON has no number {number}: write it as a string"
    return None


def _decode_packed(data: Any, message: Any, path: Path, violations: list[Violation]) -> None:
    if not isinstance(data, Mapping):
        return refuse(violations, path, "an object", data)
    if not data:
        return None
    where, url = (path, "@type"), data.get("@type")
    if not isinstance(url, str):
        return refuse(violations, where, "the name of a type", url)
    try:
        content = new_message(url)
    except KeyError:
        return refuse(violations, where, "a type that is known here", url)
    rest = {key: value for key, value in data.items() if key != "@type"}
    descriptor = type_of(content)
    if descriptor.full_name in _DECODERS:
        rest = rest.get("value")  # type: ignore[assignment]
    _decoder_of(descriptor)(rest, content, path, violations)
    message.type_url, message.value = url, content.SerializeToString(deterministic=True)
    return None


def _decode_wrapper(data: Any, message: Any, path: Path, violations: list[Violation]) -> None:
    one = _scalar_decoder(message.DESCRIPTOR.fields_by_name["value"])
    if (value := one(data, path, violations)) is not None:
        message.value = value


_DECODERS: Final[dict[str, _MessageDecode]] = {
    "google.protobuf.Timestamp": _decode_time,
    "google.protobuf.Duration": _decode_duration,
    "google.protobuf.FieldMask": _decode_mask,
    "google.protobuf.Struct": _decode_struct,
    "google.protobuf.ListValue": _decode_list,
    "google.protobuf.Value": _decode_value,
    "google.protobuf.Any": _decode_packed,
    **dict.fromkeys(WRAPPERS, _decode_wrapper),
}
