"""Each documented limit, tried at its border."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.model.entity import Entity
from hyper_registry.model.relationship import Relationship
from hyper_registry.model.rules import check_entity, check_relationship, is_id, new_id, shown

ENTITY = {"id": "a", "type": "service", "name": "n"}
RELATIONSHIP = {"id": "r", "source_id": "a", "target_id": "b", "type": "uses"}


def fields(**values: Any) -> list[str]:
    """Which fields of an entity with these values are malformed."""
    return [violation.field for violation in check_entity(Entity(**(ENTITY | values)))]


def edge_fields(**values: Any) -> list[str]:
    """Which fields of a relationship with these values are malformed."""
    relationship = Relationship(**(RELATIONSHIP | values))
    return [violation.field for violation in check_relationship(relationship)]


CONTROLS = ["\0", "\t", "\n", "\x1f", "\x7f", "\x80", "\x85", "\x9f"]
GOOD_IDS = ["a", "x" * 255, "语" * 255, "🚀", "a:b", "a.b-c_d~e", "A B".replace(" ", ""), "'\"\\<>"]
BAD_IDS = ["", "x" * 256, *"/%?#,", " ", "a b", "a\u00a0b", "a\u2028b", "a\u3000", *CONTROLS, "a\n"]
GOOD_TYPES = ["a", "Z", "a" * 63, "mesh_node", "my.type-2", "relationships"]
BAD_TYPES = ["", "a" * 64, "1a", "_a", ".a", "-a", "a b", "a,b", "é", "a\n", "relationship"]


@pytest.mark.parametrize("id_", GOOD_IDS)
def test_ids_that_are_taken(id_: str) -> None:
    """An id may have any letter of any script, and what is not reserved in addresses."""
    assert fields(id=id_) == []
    assert edge_fields(id=id_, source_id=id_, target_id=id_) == []
    assert is_id(id_)


@pytest.mark.parametrize("id_", BAD_IDS)
def test_ids_that_are_refused(id_: str) -> None:
    """An id has 1 to 255 characters, none of `/ % ? # ,`, white space or control characters."""
    assert fields(id=id_) == ["id"]
    assert edge_fields(id=id_, source_id=id_, target_id=id_) == ["id", "source_id", "target_id"]
    assert not is_id(id_)


@pytest.mark.parametrize("type_", GOOD_TYPES)
def test_types_that_are_taken(type_: str) -> None:
    """A type is 1 to 63 letters, digits, `_`, `-` and `.`, starting with a letter."""
    assert fields(type=type_) == []
    assert edge_fields(type=type_) == []


@pytest.mark.parametrize("type_", BAD_TYPES)
def test_types_that_are_refused(type_: str) -> None:
    """Anything else is no type, and `relationship` is reserved."""
    assert fields(type=type_) == ["type"]
    assert edge_fields(type=type_) == ["type"]


def test_names_and_versions() -> None:
    """A name has 1 to 255 characters, a version 0 to 255, neither control characters."""
    for good in ("x", "x" * 255, "AI & Machine Learning", "名" * 255, " "):
        assert fields(name=good, version=good) == []
    for bad in ("x" * 256, *CONTROLS, "x\n"):
        assert fields(name=bad, version=bad) == ["name", "version"]
    assert fields(name="", version="") == ["name"]


def test_label_keys() -> None:
    """A key has 1 to 63 characters, and starts and ends with a letter or digit."""
    for good in ("a", "0", "a" * 63, "example.com/team", "a_-./b"):
        assert fields(labels={good: ""}) == []
    for bad in ("", "a" * 64, "-a", "a-", "/a", "a ", "é", "a\n", "a=b"):
        assert fields(labels={bad: ""}) == ["labels"]


def test_label_values() -> None:
    """A value has at most 255 characters, no control characters; the error names its key."""
    for good in ("", "x" * 255, "any = text, at all"):
        assert fields(labels={"k": good}) == []
    for bad in ("x" * 256, *CONTROLS):
        assert fields(labels={"k": bad}) == ["labels.k"]


def test_how_many_labels() -> None:
    """64 labels are taken, 65 refused."""
    assert fields(labels={f"k{n}": "" for n in range(64)}) == []
    assert fields(labels={f"k{n}": "" for n in range(65)}) == ["labels"]


def test_regions() -> None:
    """At most 64 regions, each of 1 to 63 characters, and unique."""
    assert fields(regions=tuple(f"r{n}" for n in range(64))) == []
    assert fields(regions=tuple(f"r{n}" for n in range(65))) == ["regions"]
    assert fields(regions=("x" * 63, "é")) == []
    for bad in (("",), ("x" * 64,), ("a\n",), ("a", "a")):
        assert fields(regions=bad) == ["regions"]


def test_weights() -> None:
    """A weight is finite and not negative."""
    for good in (0.0, -0.0, 1.0, 5e-324, 1.7e308):
        assert edge_fields(weight=good) == []
    for bad in (-5e-324, -1.0, float("inf"), float("-inf"), float("nan")):
        assert edge_fields(weight=bad) == ["weight"]


def test_version_constraints() -> None:
    """A constraint has at most 1,024 characters, no control characters."""
    assert edge_fields(version_constraint="x" * 1024) == []
    for bad in ("x" * 1025, "a\n", *CONTROLS):
        assert edge_fields(version_constraint=bad) == ["version_constraint"]


def test_everything_malformed_is_named_at_once() -> None:
    """A caller hears of all malformed fields together."""
    bad = fields(id="", type="", name="", version="\0", labels={"": "\0"}, regions=("",))
    assert bad == ["id", "type", "name", "version", "labels", "labels.", "regions"]
    assert edge_fields(
        id="", source_id="", target_id="", type="", weight=-1.0, version_constraint="\0"
    ) == ["id", "source_id", "target_id", "type", "weight", "version_constraint"]


@given(st.text(max_size=300))
def test_texts_are_shown_short_and_printable(text: str) -> None:
    """What a caller sent is quoted in messages, cut, and without control characters."""
    seen = shown(text)
    assert len(seen) <= 62 + 10 * 60
    assert seen.isprintable()
    assert (seen == repr(text)) == (len(text) <= 60)


def test_new_ids() -> None:
    """A made id is a UUID of version 7 of now, well-formed, and none comes twice."""
    before = time.time_ns() // 1_000_000
    made = [new_id() for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert len({*made}) == 1000
    for id_ in made:
        value = uuid.UUID(id_)
        assert str(value) == id_
        assert (value.version, value.variant) == (7, uuid.RFC_4122)
        assert before <= value.int >> 80 <= after
        assert is_id(id_)
