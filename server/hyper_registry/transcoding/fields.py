"""Fields of a request by their paths, set from text: path variables, query parameters, headers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from ose.registry.jsonform import FieldForm, Violation, fields_of

_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}
_DIGITS: Final = re.compile(r"-?[0-9]{1,11}")
# In a list, a comma separates, and `\,` is one.
_COMMA: Final = re.compile(r"(?<!\\),")

_WELL_KNOWN = "google.protobuf."
_JSON_TYPES = ("Struct", "Value", "ListValue")


class NoField(ValueError):
    """A path leads to no field that can be set from text; the message says why."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message, or of one within it: `path` has its names as in the proto."""

    path: tuple[str, ...]
    form: FieldForm
    convert: Callable[[str], Any]

    def owner(self, message: Message) -> Any:
        """The message that has the field."""
        for name in self.path[:-1]:
            message = getattr(message, name)
        return message

    def put(self, message: Message, text: str, shown: str, violations: list[Violation]) -> None:
        """Sets the field of a message that is not repeated; `shown` is its name in violations."""
        self.form.read(self.convert(text), self.owner(message), shown, violations)

    def put_all(
        self, message: Message, texts: list[str], shown: str, violations: list[Violation]
    ) -> None:
        """Sets a repeated field to the values in all these texts, each of which may be a list."""
        values = [
            self.convert(one.replace("\\,", ",")) for text in texts for one in _COMMA.split(text)
        ]
        self.form.read(values, self.owner(message), shown, violations)


def field_at(descriptor: Descriptor, path: str) -> Field:
    """The field at a path such as `entities.name_prefix`, in either spelling. Raises NoField."""
    names = list[str]()
    form: FieldForm | None = None
    for name in path.split("."):
        if form is not None:
            descriptor = _inner(form.descriptor, ".".join(names))
        form = fields_of(descriptor).get(name)
        if form is None:
            raise NoField(f"{descriptor.name} has no such field")
        names.append(form.name)
    assert form is not None
    return Field(tuple(names), form, _converter(form.descriptor))


def _inner(field: FieldDescriptor, path: str) -> Descriptor:
    if field.message_type is None or _is_text(field.message_type):
        raise NoField(f"{path} is a value, and has no fields")
    if field.is_repeated:
        raise NoField(f"{path} is a list or a map: it cannot be set here")
    return field.message_type


def _is_text(message: Descriptor) -> bool:
    """Whether JSON writes the message as one value."""
    return message.full_name.startswith(_WELL_KNOWN) and message.name != "Any"


def _converter(field: FieldDescriptor) -> Callable[[str], Any]:
    """Turns text into the JSON value that it stands for; what is wrong is left as it is."""
    if field.message_type is None:
        return _scalar(field)
    message = field.message_type
    if not _is_text(message) or message.GetOptions().map_entry:
        raise NoField("it is a message: set its fields, as in entities.types")
    if message.name in _JSON_TYPES:
        return _json
    if message.name == "Timestamp":
        return _with_plus
    if "value" in message.fields_by_name:
        return _scalar(message.fields_by_name["value"])
    return _as_it_is


def _scalar(field: FieldDescriptor) -> Callable[[str], Any]:
    if field.type == FieldDescriptor.TYPE_BOOL:
        return lambda text: _BOOLEANS.get(text.lower(), text)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return lambda text: int(text) if _DIGITS.fullmatch(text) else text
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _with_plus
    return _as_it_is


def _as_it_is(text: str) -> str:
    return text


def _with_plus(text: str) -> str:
    """A plus sign that was not encoded has become a space."""
    return text.replace(" ", "+")


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
