"""What a well-formed resource is: the limits and patterns that the API documents.

Every function answers the violations that it found, so that a caller can report all of them at
once.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from math import inf, isfinite

from hyper_registry.model.entity import DEFAULT_REGIONS, Entity
from hyper_registry.model.errors import Violation
from hyper_registry.model.relationship import Relationship

MAX_METADATA_BYTES = 256 * 1024
MAX_METADATA_DEPTH = 24
"""Each level is three messages, and protobuf's parsers take a hundred, with what is around it."""

MAX_LABELS = 64
MAX_REGIONS = 64
MAX_CONSTRAINT = 1024
MAX_IDEMPOTENCY_KEY = 255
RESERVED_TYPES = frozenset({"relationship"})

# C0, DEL and C1 controls, and the surrogates, which have no UTF-8.
_CONTROL = r"\x00-\x1f\x7f-\x9f\ud800-\udfff"
# Clients of HTTP take . and .. in a path for something else.
_ID = re.compile(rf"(?!\.{{1,2}}\Z)[^/%?#,\s{_CONTROL}]{{1,255}}")
_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,62}")
_LABEL_KEY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.\-/]{0,61}[A-Za-z0-9])?")
_TEXT = re.compile(rf"[^{_CONTROL}]{{0,255}}")
_CONSTRAINT = re.compile(rf"[^{_CONTROL}]{{0,{MAX_CONSTRAINT}}}")
_NAME = re.compile(rf"[^{_CONTROL}]{{1,255}}")

ID_RULE = (
    "1 to 255 characters, none of / % ? # , white space or control characters, and not . or .."
)
TYPE_RULE = "1 to 63 letters, digits, _ - . starting with a letter"
NAME_RULE = "1 to 255 characters, no control characters"
TEXT_RULE = "at most 255 characters, no control characters"

is_id: Callable[[str], object] = _ID.fullmatch
is_text: Callable[[str], object] = _TEXT.fullmatch
is_label_key: Callable[[str], object] = _LABEL_KEY.fullmatch
is_constraint: Callable[[str], object] = _CONSTRAINT.fullmatch


# Asking the system takes as long as all the rest of an id.
_AT_ONCE = 128
_randoms: list[int] = []
os.register_at_fork(after_in_child=_randoms.clear)


def new_id() -> str:
    """A UUID of version 7 (RFC 9562): milliseconds since 1970, then 74 random bits."""
    try:
        random = _randoms.pop()
    except IndexError:
        drawn = os.urandom(10 * _AT_ONCE)
        _randoms.extend(int.from_bytes(drawn[at : at + 10]) for at in range(0, len(drawn), 10))
        random = _randoms.pop()
    value = time.time_ns() // 1_000_000 << 80 | random
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def check_entity(entity: Entity, is_new: bool = False) -> Sequence[Violation]:
    """What is malformed of an entity, but for its metadata; a new one need not have an id."""
    if (
        (_ID.fullmatch(entity.id) or (is_new and not entity.id))
        and _TYPE.fullmatch(entity.type)
        and entity.type not in RESERVED_TYPES
        and _NAME.fullmatch(entity.name)
        and _TEXT.fullmatch(entity.version)
        and (not entity.labels or _are_labels(entity.labels))
        and (entity.regions == DEFAULT_REGIONS or not [*_region_violations(entity.regions)])
    ):
        return ()
    return [v for v in _entity_violations(entity) if v.field != "id" or not is_new or entity.id]


def check_relationship(relationship: Relationship, is_new: bool = False) -> Sequence[Violation]:
    """What is malformed of a relationship, but for its metadata; a new one need not have an id."""
    if (
        (_ID.fullmatch(relationship.id) or (is_new and not relationship.id))
        and _ID.fullmatch(relationship.source_id)
        and _ID.fullmatch(relationship.target_id)
        and _TYPE.fullmatch(relationship.type)
        and relationship.type not in RESERVED_TYPES
        and 0 <= relationship.weight < inf
        and (not relationship.version_constraint or is_constraint(relationship.version_constraint))
        and not (relationship.bidirectional and relationship.carries_health)
        and (not relationship.any_of or is_text(relationship.any_of))
    ):
        return ()
    return [
        violation
        for violation in _relationship_violations(relationship)
        if violation.field != "id" or not is_new or relationship.id
    ]


def check_type(field: str, type_: str) -> Iterator[Violation]:
    """Whether this can be the type of a resource."""
    if not _TYPE.fullmatch(type_):
        yield Violation(field, f"{TYPE_RULE}, got {shown(type_)}")
    elif type_ in RESERVED_TYPES:
        yield Violation(field, f"{type_!r} is reserved")


def shown(value: str, limit: int = 60) -> str:
    """A caller's text as an error message shows it: quoted, and cut where it is long."""
    return repr(value if len(value) <= limit else value[:limit] + "…")


def _are_labels(labels: Mapping[str, str]) -> bool:
    return (
        len(labels) <= MAX_LABELS
        # Looked at first, so that nothing large is kept.
        and max(map(len, labels)) <= 63
        and max(map(len, labels.values())) <= 255
        and all(map(_is_label, labels, labels.values()))
    )


# Most labels are those of many entities.
@lru_cache(maxsize=4096)
def _is_label(key: str, value: str) -> bool:
    return bool(_LABEL_KEY.fullmatch(key) and _TEXT.fullmatch(value))


def _entity_violations(entity: Entity) -> Iterator[Violation]:
    if not _ID.fullmatch(entity.id):
        yield Violation("id", f"{ID_RULE}, got {shown(entity.id)}")
    yield from check_type("type", entity.type)
    if not _NAME.fullmatch(entity.name):
        yield Violation("name", f"{NAME_RULE}, got {shown(entity.name)}")
    if not _TEXT.fullmatch(entity.version):
        yield Violation("version", f"{TEXT_RULE}, got {shown(entity.version)}")
    yield from _label_violations(entity.labels)
    yield from _region_violations(entity.regions)


def _label_violations(labels: Mapping[str, str]) -> Iterator[Violation]:
    if len(labels) > MAX_LABELS:
        yield Violation("labels", f"at most {MAX_LABELS}, got {len(labels)}")
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            yield Violation(
                "labels",
                "keys have 1 to 63 letters, digits, _ - . / and start and end with a letter or "
                f"digit, got {shown(key)}",
            )
        if not _TEXT.fullmatch(value):
            yield Violation(f"labels.{key}", f"{TEXT_RULE}, got {shown(value)}")


def _region_violations(regions: Sequence[str]) -> Iterator[Violation]:
    if len(regions) > MAX_REGIONS:
        yield Violation("regions", f"at most {MAX_REGIONS}, got {len(regions)}")
    for region in regions:
        if not 1 <= len(region) <= 63 or not _TEXT.fullmatch(region):
            yield Violation(
                "regions", f"1 to 63 characters, no control characters, got {shown(region)}"
            )
    if len(set(regions)) != len(regions):
        yield Violation("regions", "each at most once")


def _relationship_violations(relationship: Relationship) -> Iterator[Violation]:
    for field, value in (
        ("id", relationship.id),
        ("source_id", relationship.source_id),
        ("target_id", relationship.target_id),
    ):
        if not _ID.fullmatch(value):
            yield Violation(field, f"{ID_RULE}, got {shown(value)}")
    yield from check_type("type", relationship.type)
    if not (isfinite(relationship.weight) and relationship.weight >= 0):
        yield Violation("weight", f"finite and not negative, got {relationship.weight}")
    constraint = relationship.version_constraint
    if not is_constraint(constraint):
        yield Violation(
            "version_constraint",
            f"at most {MAX_CONSTRAINT} characters, no control characters, got {shown(constraint)}",
        )
    if relationship.bidirectional and relationship.carries_health:
        yield Violation(
            "bidirectional",
            f"false, as {relationship.type} carries health: set health_coupling to soft, or use "
            "another type",
        )
    if not is_text(relationship.any_of):
        yield Violation("any_of", f"{TEXT_RULE}, got {shown(relationship.any_of)}")
