"""JSON Schemas of messages, as `ose.registry.jsonform` writes and reads them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from hyper_registry.transcoding.openapi.comments import comment_of
from ose.registry.jsonform import enum_name

Schema = dict[str, Any]

_INT64 = {"type": "string", "format": "int64", "pattern": r"^-?[0-9]+$"}
_UINT64 = {"type": "string", "format": "uint64", "pattern": r"^[0-9]+$"}
_SCALARS: Final[dict[int, Schema]] = {
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_INT64: _INT64,
    FieldDescriptor.TYPE_SFIXED64: _INT64,
    FieldDescriptor.TYPE_SINT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_SINT64: _INT64,
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "format": "uint32", "minimum": 0},
    FieldDescriptor.TYPE_UINT64: _UINT64,
}
_KNOWN: Final[dict[str, Schema]] = {
    "google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "additionalProperties": True,
    },
    "google.protobuf.Duration": {
        "type": "string",
        "format": "duration-seconds",
        "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$",
    },
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Value": {},
}


class Schemas:
    """The schemas of a document. Those of messages and enums are defined once, and referred to."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def message(self, message: Descriptor) -> Schema:
        """The schema of a message, by reference unless it is one of protobuf's own."""
        if (known := _KNOWN.get(message.full_name)) is not None:
            return dict(known)
        if message.full_name.startswith("google.protobuf."):
            return self.field(message.fields_by_name["value"], described=False)
        name = _name(message)
        if name not in self.components:
            self.components[name] = {}  # it may contain itself
            self.components[name] = self.inline(message, message.fields)
        return {"$ref": f"#/components/schemas/{name}"}

    def inline(self, message: Descriptor, fields: Iterable[FieldDescriptor]) -> Schema:
        """The schema of an object with these fields of a message."""
        fields = [*fields]
        schema: Schema = {
            "type": "object",
            "properties": {field.name: self.field(field) for field in fields},
            "additionalProperties": False,
        }
        if said := comment_of(message.full_name):
            schema["description"] = said
        if needed := [field.name for field in fields if is_required(field)]:
            schema["required"] = needed
        return schema

    def field(self, field: FieldDescriptor, *, described: bool = True) -> Schema:
        """The schema of a field."""
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            schema: Schema = {
                "type": "object",
                "additionalProperties": self._one(value),
            }
        elif field.is_repeated:
            schema = {"type": "array", "items": self._one(field)}
        else:
            schema = self._one(field)
        said = comment_of(field.full_name) if described else ""
        if said:
            schema["description"] = said
        if described and _has(field, field_behavior_pb2.OUTPUT_ONLY):
            schema["readOnly"] = True
        return schema

    def _one(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        return dict(_SCALARS[field.type])

    def _enum(self, enum: EnumDescriptor) -> Schema:
        name = _name(enum)
        if name not in self.components:
            names = {value.number: enum_name(enum, value.number) for value in enum.values}
            told = [
                f"- `{names[value.number]}`: {comment_of(f'{enum.full_name}.{value.name}')}"
                for value in enum.values
            ]
            self.components[name] = {
                "type": "string",
                "enum": [*names.values()],
                "description": "\n".join([comment_of(enum.full_name), "", *told]).strip(),
            }
        return {"$ref": f"#/components/schemas/{name}"}


def is_required(field: FieldDescriptor) -> bool:
    """Whether a request is refused without the field."""
    return _has(field, field_behavior_pb2.REQUIRED)


def _has(field: FieldDescriptor, behaviour: int) -> bool:
    options: Any = field.GetOptions()
    return behaviour in options.Extensions[field_behavior_pb2.field_behavior]


def _name(thing: Descriptor | EnumDescriptor) -> str:
    """`Entity`, or `WatchResponse.Mark` of what is defined inside another message."""
    inside = thing.containing_type
    return thing.name if inside is None else f"{_name(inside)}.{thing.name}"
