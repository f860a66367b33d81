"""The names of enum values."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""Where a word of a camelCase name begins."""


class EnumForm(NamedTuple):
    """The short names by number, the numbers by every name in lower case, and what to expect."""

    names: dict[int, str]
    numbers: dict[str, int]
    expected: str


_forms: dict[EnumDescriptor, EnumForm] = {}


def enum_name(enum: EnumDescriptor, number: int) -> str:
    """The short lower-case name of an enum value; the digits of a number that has no name."""
    return form_of(enum).names.get(number, str(number))


def form_of(enum: EnumDescriptor) -> EnumForm:
    """The names of an enum's values: made at the first use, then kept."""
    if (form := _forms.get(enum)) is None:
        form = _forms[enum] = _make(enum)
    return form


def enum_of(field: FieldDescriptor) -> EnumDescriptor:
    """The enum of a field that has one."""
    enum = field.enum_type
    assert enum is not None, field.full_name
    return enum


def _make(enum: EnumDescriptor) -> EnumForm:
    prefix = WORD_START.sub("_", enum.name).upper() + "_"
    shared = all(value.name.startswith(prefix) for value in enum.values)
    cut = len(prefix) if shared else 0
    names: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for value in enum.values:
        names.setdefault(value.number, value.name[cut:].lower())
        numbers[value.name.lower()] = numbers[value.name[cut:].lower()] = value.number
    shown = [name for number, name in names.items() if number]
    return EnumForm(names, numbers, f"one of {', '.join(shown)}")
