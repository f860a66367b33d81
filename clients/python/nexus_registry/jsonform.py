"""Messages of the API as JSON values and back.

This is the JSON that the HTTP API and `--output json` speak. It is the protobuf JSON mapping with
the following choices:

- names are the proto's own, in snake_case; camelCase is taken on input as well;
- an enum value is its short lower-case name (`"healthy"`); the full name
  (`"HEALTH_STATUS_HEALTHY"`), the short name in any case and the number are taken as well;
- scalars, lists and maps are always there; messages and optional scalars that are not set are left
  out, and nothing is ever null. A `google.protobuf.Struct` (`metadata`) is always an object;
- 64-bit integers are strings, as the mapping says; numbers are taken as well;
- the keys of maps and Structs are sorted;
- numbers inside a Struct that are integral and at most 2^53 are integers. Larger integers, which
  a double would not keep exactly, are refused on input;
- a field mask keeps its paths as they are (a path may hold a user's metadata key); a first segment
  in camelCase is taken on input.

Messages are converted by a plan that is made once for each message type from its descriptor. The
functions are safe to call from several threads.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeVar, cast

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

__all__ = ["FormError", "JsonObject", "Violation", "enum_name", "from_dict", "to_dict"]

JsonObject = dict[str, Any]
"""A JSON object: strings, numbers, booleans, lists and objects by name."""

_M = TypeVar("_M", bound=Message)
_Encode = Callable[[Any], Any]
_Path = Any
_Decode = Callable[[Any, _Path, "list[Violation]"], Any]
_MessageEncode = Callable[[Message], Any]
_MessageDecode = Callable[[Any, Message, _Path, "list[Violation]"], None]

_EXACT: Final = 2**53
_MAX_NESTING: Final = 100
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_INTEGER_TEXT: Final = re.compile(r"-?[0-9]{1,20}")
_NUMBER_TEXT: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_FULL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
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
_WIDE: Final = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with one field: `path` such as `metadata.tags[2]`, and `description`.

    `path` is empty where the whole value is meant.
    """

    path: str
    description: str

    def __str__(self) -> str:
        return f"{self.path}: {self.description}" if self.path else self.description


class FormError(ValueError):
    """A value does not have the form of the message. `violations` names every field at fault."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(map(str, violations)))
        self.violations = tuple(violations)


def to_dict(message: Message) -> JsonObject:
    """The JSON object of a message.

    Raises FormError for what JSON cannot hold: a number in a Struct that is not finite, a time out
    of the years 1 to 9999, a packed message of an unknown type.
    """
    return _message_encoder(_type_of(message))(message)  # type: ignore[no-any-return]


def from_dict(data: object, message: _M, *, path: str = "", ignore_unknown: bool = False) -> _M:
    """Fills `message` in from a JSON object and answers it; what is absent stays as it is.

    `path` stands before the paths in errors. Unknown names are refused unless `ignore_unknown`; the
    check does not reach into a Struct, whose keys are free. A null counts as absent. Raises
    FormError with every violation; `message` is then left partly filled in.
    """
    violations: list[Violation] = []
    _message_decoder(_type_of(message))(data, message, path, violations)
    if ignore_unknown:
        violations = [found for found in violations if not isinstance(found, _Unknown)]
    if violations:
        raise FormError(violations)
    return message


def enum_name(enum: EnumDescriptor, number: int) -> str:
    """The short lower-case name of an enum value; the digits of a number that has no name."""
    return _enum_plan(enum).names.get(number, str(number))


class _Unknown(Violation):
    """A name that the message does not have."""


# --- Enums ----------------------------------------------------------------------------------------


class _EnumPlan(NamedTuple):
    names: dict[int, str]
    numbers: dict[str, int]
    expected: str


_enum_plans: dict[EnumDescriptor, _EnumPlan] = {}


def _enum_plan(enum: EnumDescriptor) -> _EnumPlan:
    if (plan := _enum_plans.get(enum)) is None:
        prefix = _WORD_START.sub("_", enum.name).upper() + "_"
        shared = all(value.name.startswith(prefix) for value in enum.values)
        cut = len(prefix) if shared else 0
        names: dict[int, str] = {}
        numbers: dict[str, int] = {}
        for value in enum.values:
            names.setdefault(value.number, value.name[cut:].lower())
            numbers[value.name.lower()] = numbers[value.name[cut:].lower()] = value.number
        shown = [name for number, name in names.items() if number]
        plan = _enum_plans[enum] = _EnumPlan(names, numbers, f"one of {', '.join(shown)}")
    return plan


def _enum_encoder(enum: EnumDescriptor) -> _Encode:
    names = _enum_plan(enum).names
    return lambda number: names.get(number, number)


def _enum_decoder(enum: EnumDescriptor) -> _Decode:
    plan = _enum_plan(enum)

    def decode(value: Any, path: _Path, violations: list[Violation]) -> Any:
        if isinstance(value, str):
            number = plan.numbers.get(value.lower())
            if number is not None:
                return number
        elif isinstance(value, int) and not isinstance(value, bool) and -(2**31) <= value < 2**31:
            return value
        return _refuse(violations, path, plan.expected, value)

    return decode


# --- Scalars --------------------------------------------------------------------------------------


def _refuse(violations: list[Violation], path: _Path, expected: str, value: object) -> None:
    """Notes what was expected and what came; answers None, which no decoder answers otherwise."""
    violations.append(Violation(_written(path), f"expected {expected}, got {_describe(value)}"))


def _describe(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return repr(value if len(value) <= 60 else value[:57] + "...")
        case Mapping():
            return "an object"
        case list() | tuple():
            return "a list"
        case _:
            return f"a {type(value).__name__}"


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


def _decode_bool(value: Any, path: _Path, violations: list[Violation]) -> Any:
    return value if isinstance(value, bool) else _refuse(violations, path, "true or false", value)


def _decode_string(value: Any, path: _Path, violations: list[Violation]) -> Any:
    if not isinstance(value, str):
        quoted = isinstance(value, int | float) and not isinstance(value, bool)
        hint = " (write it in quotes)" if quoted else ""
        return _refuse(violations, path, f"a string{hint}", value)
    if not _is_unicode(value):
        problem = "expected valid Unicode, got a lone surrogate"
        return violations.append(Violation(_written(path), problem))
    return value


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decode_bytes(value: Any, path: _Path, violations: list[Violation]) -> Any:
    if isinstance(value, str):
        try:
            padded = value.replace("-", "+").replace("_", "/").rstrip("=")
            return base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
        except (binascii.Error, ValueError):
            pass
    return _refuse(violations, path, "bytes in base64", value)


def _decode_double(value: Any, path: _Path, violations: list[Violation]) -> Any:
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
    return _refuse(violations, path, "a number", value)


def _integer_decoder(low: int, high: int) -> _Decode:
    def decode(value: Any, path: _Path, violations: list[Violation]) -> Any:
        number = _integer(value)
        if number is not None and low <= number <= high:
            return number
        return _refuse(violations, path, f"an integer from {low} to {high}", value)

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


def _scalar_encoder(field: FieldDescriptor) -> _Encode:
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return _enum_encoder(_enum_of(field))
    if field.cpp_type in _WIDE:
        return str
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return _encode_double
    if field.type == FieldDescriptor.TYPE_FLOAT:
        return _encode_float
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _encode_bytes
    return _itself


def _scalar_decoder(field: FieldDescriptor) -> _Decode:
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return _enum_decoder(_enum_of(field))
    if field.cpp_type in _INTEGER_RANGES:
        return _integer_decoder(*_INTEGER_RANGES[field.cpp_type])
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return _decode_double
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _decode_bool
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _decode_bytes
    return _decode_string


def _enum_of(field: FieldDescriptor) -> EnumDescriptor:
    enum = field.enum_type
    assert enum is not None, field.full_name
    return enum


def _message_of(field: FieldDescriptor) -> Descriptor:
    message = field.message_type
    assert message is not None, field.full_name
    return message


# --- Messages, out --------------------------------------------------------------------------------

_encoders: dict[Descriptor, _MessageEncode] = {}


def _type_of(message: Message) -> Descriptor:
    return cast("Descriptor", message.DESCRIPTOR)


def _message_encoder(descriptor: Descriptor) -> _MessageEncode:
    """What turns messages of this type into JSON values: made at the first use, then kept."""
    if (encoder := _encoders.get(descriptor)) is None:
        encoder = _ENCODERS.get(descriptor.full_name) or _plan_encoder(descriptor)
        _encoders[descriptor] = encoder
    return encoder


def _plan_encoder(descriptor: Descriptor) -> _MessageEncode:
    plan = [
        (field.name, field.has_presence and not _is_struct(field), _field_encoder(field))
        for field in descriptor.fields
    ]

    def encode(message: Message) -> JsonObject:
        return {
            name: convert(getattr(message, name))
            for name, optional, convert in plan
            if not optional or message.HasField(name)
        }

    return encode


def _is_struct(field: FieldDescriptor) -> bool:
    return (
        field.message_type is not None
        and field.message_type.full_name == "google.protobuf.Struct"
        and field.containing_oneof is None
    )


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _field_encoder(field: FieldDescriptor) -> _Encode:
    if _is_map(field):
        entry = _message_of(field).fields_by_name
        key, value = _key_encoder(entry["key"]), _one_encoder(entry["value"])
        return lambda items: {key(name): value(item) for name, item in sorted(items.items())}
    one = _one_encoder(field)
    if field.is_repeated:
        return lambda items: [one(item) for item in items]
    return one


def _key_encoder(field: FieldDescriptor) -> _Encode:
    if field.type == FieldDescriptor.TYPE_BOOL:
        return lambda key: "true" if key else "false"
    return str


def _one_encoder(field: FieldDescriptor) -> _Encode:
    if field.message_type is None:
        return _scalar_encoder(field)
    descriptor = field.message_type
    # Looked up at the call: a message may contain itself.
    return lambda message: _message_encoder(descriptor)(message)


# --- Messages, in ---------------------------------------------------------------------------------

_decoders: dict[Descriptor, _MessageDecode] = {}


def _message_decoder(descriptor: Descriptor) -> _MessageDecode:
    """What fills messages of this type in from JSON values: made at the first use, then kept."""
    if (decoder := _decoders.get(descriptor)) is None:
        decoder = _DECODERS.get(descriptor.full_name) or _plan_decoder(descriptor)
        _decoders[descriptor] = decoder
    return decoder


class _FieldPlan(NamedTuple):
    name: str
    oneof: str | None
    takes_null: bool
    decode: _MessageDecode
    """Sets the field of the message that it is given."""


def _plan_decoder(descriptor: Descriptor) -> _MessageDecode:
    fields: dict[str, _FieldPlan] = {}
    for field in descriptor.fields:
        plan = _field_plan(field)
        fields[field.json_name] = plan
        fields[field.name] = plan
    what = f"an object ({descriptor.name})"

    def decode(data: Any, message: Message, path: _Path, violations: list[Violation]) -> None:
        if not isinstance(data, Mapping):
            _refuse(violations, path, what, data)
            return
        seen: dict[str, Any] = {}
        for key, value in data.items():
            plan = fields.get(key)
            if plan is None:
                problem = f"{descriptor.name} has no such field"
                violations.append(_Unknown(_written((path, key)), problem))
            elif value is None and not plan.takes_null:
                continue
            elif clash := seen.get(plan.name) or (plan.oneof and seen.get(plan.oneof)):
                violations.append(
                    Violation(_written((path, key)), f"given together with {clash!r}")
                )
            else:
                seen[plan.name] = seen[plan.oneof or plan.name] = key
                plan.decode(value, message, (path, key), violations)

    return decode


def _written(path: _Path) -> str:
    """A path as it is shown, such as `metadata.tags[2]`.

    A path is the text that stands before all of it, or a pair of a path and a key. That is cheap to
    make for every field; only those of violations are ever written out.
    """
    keys = []
    while isinstance(path, tuple):
        path, key = path
        keys.append(key)
    text: str = path
    for key in reversed(keys):
        if isinstance(key, int):
            text = f"{text}[{key}]"
        elif isinstance(key, str) and _PLAIN_KEY.fullmatch(key):
            text = f"{text}.{key}" if text else key
        else:
            text = f'{text}["{key}"]'
    return text


def _field_plan(field: FieldDescriptor) -> _FieldPlan:
    if _is_map(field):
        decode = _map_decoder(field)
    elif field.is_repeated:
        decode = _list_decoder(field)
    elif field.message_type is not None:
        decode = _member_decoder(field.name, field.message_type)
    else:
        decode = _value_decoder(field)
    oneof = field.containing_oneof
    group = f"oneof {oneof.name}" if oneof and not oneof.name.startswith("_") else None
    value = field.message_type is not None and (
        field.message_type.full_name == "google.protobuf.Value"
    )
    return _FieldPlan(field.name, group, value and not field.is_repeated, decode)


def _value_decoder(field: FieldDescriptor) -> _MessageDecode:
    name, one = field.name, _scalar_decoder(field)

    def decode(data: Any, message: Message, path: _Path, violations: list[Violation]) -> None:
        value = one(data, path, violations)
        if value is not None:
            setattr(message, name, value)

    return decode


def _member_decoder(name: str, descriptor: Descriptor) -> _MessageDecode:
    def decode(data: Any, message: Message, path: _Path, violations: list[Violation]) -> None:
        member: Message = getattr(message, name)
        member.SetInParent()
        _message_decoder(descriptor)(data, member, path, violations)

    return decode


def _list_decoder(field: FieldDescriptor) -> _MessageDecode:
    name, descriptor = field.name, field.message_type
    one = _scalar_decoder(field) if descriptor is None else None

    def decode(data: Any, message: Message, path: _Path, violations: list[Violation]) -> None:
        if not isinstance(data, list | tuple):
            return _refuse(violations, path, "a list", data)
        target = getattr(message, name)
        for position, item in enumerate(data):
            where = (path, position)
            if descriptor is not None:
                _message_decoder(descriptor)(item, target.add(), where, violations)
            elif one is not None and (value := one(item, where, violations)) is not None:
                target.append(value)
        return None

    return decode


def _map_decoder(field: FieldDescriptor) -> _MessageDecode:
    name, entry = field.name, _message_of(field).fields_by_name
    key_of, descriptor = _key_decoder(entry["key"]), entry["value"].message_type
    one = _scalar_decoder(entry["value"]) if descriptor is None else None

    def decode(data: Any, message: Message, path: _Path, violations: list[Violation]) -> None:
        if not isinstance(data, Mapping):
            return _refuse(violations, path, "an object", data)
        target = getattr(message, name)
        for text, item in data.items():
            where = (path, text)
            key = key_of(text, where, violations)
            if key is None:
                continue
            if descriptor is not None:
                _message_decoder(descriptor)(item, target[key], where, violations)
            elif one is not None and (value := one(item, where, violations)) is not None:
                target[key] = value
        return None

    return decode


def _key_decoder(field: FieldDescriptor) -> _Decode:
    if field.type != FieldDescriptor.TYPE_BOOL:
        return _scalar_decoder(field)

    def decode(value: Any, path: _Path, violations: list[Violation]) -> Any:
        if value in ("true", "false"):
            return value == "true"
        return _refuse(violations, path, 'the key "true" or "false"', value)

    return decode


# --- Well-known types -----------------------------------------------------------------------------


def _encode_time(message: Any) -> str:
    """RFC 3339 in UTC with 0, 3, 6 or 9 digits of fraction. Twice as fast as the message's own."""
    try:
        moment = (_EPOCH + timedelta(seconds=message.seconds)).isoformat()[:19]
    except OverflowError as error:
        raise FormError([Violation("", "a time outside of the years 1 to 9999")]) from error
    if not (nanos := message.nanos):
        return f"{moment}Z"
    digits = f"{nanos:09}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{moment}.{digits}Z"


def _encode_duration(message: Any) -> str:
    try:
        return message.ToJsonString()  # type: ignore[no-any-return]
    except ValueError as error:
        raise FormError([Violation("", str(error))]) from error


def _decode_time(data: Any, message: Any, path: _Path, violations: list[Violation]) -> None:
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
    _refuse(violations, path, "a time such as 2025-01-01T00:00:00Z", data)


def _decode_duration(data: Any, message: Any, path: _Path, violations: list[Violation]) -> None:
    if isinstance(data, str):
        try:
            message.FromJsonString(data)
        except (ValueError, OverflowError):
            pass
        else:
            return
    _refuse(violations, path, "a duration such as 1.5s", data)


def _encode_mask(message: Any) -> str:
    return ",".join(message.paths)


def _decode_mask(data: Any, message: Any, path: _Path, violations: list[Violation]) -> None:
    paths = data.split(",") if isinstance(data, str) else data
    if not isinstance(paths, list) or not all(isinstance(item, str) for item in paths):
        return _refuse(violations, path, "field names with commas between them", data)
    for item in paths:
        if item := item.strip():
            first, dot, rest = item.partition(".")
            message.paths.append(_WORD_START.sub("_", first).lower() + dot + rest)
    return None


def _encode_struct(message: Any) -> JsonObject:
    return {key: _encode_any_value(value) for key, value in sorted(message.fields.items())}


def _encode_list(message: Any) -> list[Any]:
    return [_encode_any_value(value) for value in message.values]


def _encode_any_value(value: Any) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return _encode_number(value.number_value)
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _encode_struct(value.struct_value)
        case "list_value":
            return _encode_list(value.list_value)
    return None


def _encode_number(number: float) -> float:
    if number.is_integer():
        exact = -_EXACT <= number <= _EXACT and (number or math.copysign(1, number) > 0)
        return int(number) if exact else number  # an integer has no -0
    if not math.isfinite(number):
        raise FormError([Violation("", f"JSON has no number {number}")])
    return number


def _decode_struct(data: Any, message: Any, path: _Path, violations: list[Violation]) -> None:
    _fill_struct(data, message, path, violations, _MAX_NESTING)


def _decode_list(data: Any, message: Any, path: _Path, violations: list[Violation]) -> None:
    _fill_list(data, message, path, violations, _MAX_NESTING)


def _decode_value(data: Any, message: Any, path: _Path, violations: list[Violation]) -> None:
    _fill_value(data, message, path, violations, _MAX_NESTING)


def _fill_struct(
    data: Any, message: Any, path: _Path, violations: list[Violation], levels: int
) -> None:
    if not isinstance(data, Mapping):
        return _refuse(violations, path, "an object", data)
    fields = message.fields
    for key, item in data.items():
        where = (path, key)
        if isinstance(key, str) and _is_unicode(key):
            _fill_value(item, fields[key], where, violations, levels)
        else:
            _refuse(violations, where, "a key that is a string (write it in quotes)", key)
    return None


def _fill_list(
    data: Any, message: Any, path: _Path, violations: list[Violation], levels: int
) -> None:
    if not isinstance(data, list | tuple):
        return _refuse(violations, path, "a list", data)
    for position, item in enumerate(data):
        _fill_value(item, message.values.add(), (path, position), violations, levels)
    return None


def _fill_value(
    data: Any, message: Any, path: _Path, violations: list[Violation], levels: int
) -> None:
    if isinstance(data, str):
        if (text := _decode_string(data, path, violations)) is not None:
            message.string_value = text
    elif isinstance(data, bool):
        message.bool_value = data
    elif isinstance(data, int | float):
        if (problem := _number_problem(data)) is not None:
            violations.append(Violation(_written(path), problem))
        else:
            message.number_value = data
    elif data is None:
        message.null_value = 0
    elif isinstance(data, Mapping | list | tuple):
        if levels == 0:
            violations.append(Violation(_written(path), f"nested more than {_MAX_NESTING} deep"))
        elif isinstance(data, Mapping):
            message.struct_value.SetInParent()
            _fill_struct(data, message.struct_value, path, violations, levels - 1)
        else:
            message.list_value.SetInParent()
            _fill_list(data, message.list_value, path, violations, levels - 1)
    else:
        _refuse(violations, path, "a JSON value", data)


def _number_problem(number: float) -> str | None:
    if isinstance(number, int):
        if not -_EXACT <= number <= _EXACT:
            return "integers beyond 2^53 are not kept exactly: write it as a string"
    elif not math.isfinite(number):
        return f"JSON has no number {number}: write it as a string"
    return None


def _encode_packed(message: Any) -> JsonObject:
    """A google.protobuf.Any: the object of what is in it, with its type."""
    if not message.type_url:
        return {}
    try:
        content = _new_message(message.type_url)
        content.ParseFromString(message.value)
    except (KeyError, DecodeError) as error:
        raise FormError([Violation("", f"cannot unpack {message.type_url}")]) from error
    value = _message_encoder(_type_of(content))(content)
    if content.DESCRIPTOR.full_name in _ENCODERS:
        return {"@type": message.type_url, "value": value}
    return {"@type": message.type_url, **value}


def _decode_packed(data: Any, message: Any, path: _Path, violations: list[Violation]) -> None:
    if not isinstance(data, Mapping):
        return _refuse(violations, path, "an object", data)
    if not data:
        return None
    where, url = (path, "@type"), data.get("@type")
    if not isinstance(url, str):
        return _refuse(violations, where, "the name of a type", url)
    try:
        content = _new_message(url)
    except KeyError:
        return _refuse(violations, where, "a type that is known here", url)
    rest = {key: value for key, value in data.items() if key != "@type"}
    if content.DESCRIPTOR.full_name in _DECODERS:
        rest = rest.get("value")  # type: ignore[assignment]
    _message_decoder(_type_of(content))(rest, content, path, violations)
    message.type_url, message.value = url, content.SerializeToString(deterministic=True)
    return None


def _new_message(type_url: str) -> Message:
    """An empty message of the type that the URL ends with; KeyError if it is unknown."""
    name = type_url.rpartition("/")[2]
    if not _FULL_NAME.fullmatch(name):
        raise KeyError(type_url)
    pool = descriptor_pool.Default()
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))()


def _wrapper_encoder(message: Any) -> Any:
    return _scalar_encoder(message.DESCRIPTOR.fields_by_name["value"])(message.value)


def _wrapper_decoder(data: Any, message: Any, path: _Path, violations: list[Violation]) -> None:
    one = _scalar_decoder(message.DESCRIPTOR.fields_by_name["value"])
    if (value := one(data, path, violations)) is not None:
        message.value = value


_WRAPPERS: Final = tuple(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
_ENCODERS: Final[dict[str, _MessageEncode]] = {
    "google.protobuf.Timestamp": _encode_time,
    "google.protobuf.Duration": _encode_duration,
    "google.protobuf.FieldMask": _encode_mask,
    "google.protobuf.Struct": _encode_struct,
    "google.protobuf.ListValue": _encode_list,
    "google.protobuf.Value": _encode_any_value,
    "google.protobuf.Any": _encode_packed,
    **dict.fromkeys(_WRAPPERS, _wrapper_encoder),
}
_DECODERS: Final[dict[str, _MessageDecode]] = {
    "google.protobuf.Timestamp": _decode_time,
    "google.protobuf.Duration": _decode_duration,
    "google.protobuf.FieldMask": _decode_mask,
    "google.protobuf.Struct": _decode_struct,
    "google.protobuf.ListValue": _decode_list,
    "google.protobuf.Value": _decode_value,
    "google.protobuf.Any": _decode_packed,
    **dict.fromkeys(_WRAPPERS, _wrapper_decoder),
}
