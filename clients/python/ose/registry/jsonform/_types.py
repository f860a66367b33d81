"""What printing and reading both know of types."""

from __future__ import annotations

import re
from typing import Final, cast

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

EXACT: Final = 2**53
"""How large an integer a double keeps exactly."""

WIDE: Final = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
"""The integers that are strings in JSON."""

WRAPPERS: Final = tuple(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
"""The messages that are, in JSON, the scalar that they hold."""

_FULL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


def type_of(message: Message) -> Descriptor:
    """The type of a message."""
    return cast("Descriptor", message.DESCRIPTOR)


def message_of(field: FieldDescriptor) -> Descriptor:
    """The message type of a field that has one."""
    message = field.message_type
    assert message is not None, field.full_name
    return message


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def is_struct(field: FieldDescriptor) -> bool:
    """Whether the field is an object of the user's own that is there even if it is not set."""
    return (
        field.message_type is not None
        and field.message_type.full_name == "google.protobuf.Struct"
        and field.containing_oneof is None
    )


def new_message(type_url: str) -> Message:
    """An empty message of the type that the URL ends with; KeyError if it is unknown."""
    name = type_url.rpartition("/")[2]
    if not _FULL_NAME.fullmatch(name):
        raise KeyError(type_url)
    pool = descriptor_pool.Default()
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))()
