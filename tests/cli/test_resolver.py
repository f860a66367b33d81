"""What a name argument means: `nexus_registry.resolver` and `nexus_registry.versions`."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_registry.failures import Failure
from nexus_registry.resolver import newest, relationship_id, resolve
from nexus_registry.versions import version_key
from ose.registry.v1.entity_pb2 import Entity
from tests.cli.fake import FakeRegistry


def _entity(text: str, id: str = "") -> Entity:  # noqa: A002
    kind, _, rest = text.partition("/")
    name, _, version = rest.rpartition("@") if "@" in rest[1:] else (rest, "", "")
    return Entity(id=id, type=kind, name=name, version=version)


REGISTRY = FakeRegistry(
    [
        _entity("plugin/solo", "p1"),
        _entity("plugin/many@1.9", "m1"),
        _entity("plugin/many@1.10", "m2"),
        _entity("plugin/many@1.10rc1", "m3"),
        _entity("plugin/many-more@9", "mm"),
        _entity("plugin/both@1", "b1"),
        _entity("service/both@2", "b2"),
        _entity("service/both@3", "b3"),
        _entity("service/p1", "other"),
        _entity("npm/@scope/pkg@1.0", "s1"),
        Entity(id="debian:bash", type="package", name="bash", version="5.2"),
        Entity(id="mail", type="service", name="me@home", version=""),
        Entity(id="slashed", type="service", name="plugin/odd", version=""),
    ]
)


def _resolve(text: str) -> str:
    client: Any = REGISTRY
    return resolve(client, text).id


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("p1", "p1"),  # an id, although an entity has that name
        ("debian:bash", "debian:bash"),
        ("bash", "debian:bash"),
        ("solo", "p1"),
        ("plugin/solo", "p1"),
        ("many", "m2"),
        ("plugin/many", "m2"),
        ("many@1.9", "m1"),
        ("plugin/many@1.10rc1", "m3"),
        ("plugin/both", "b1"),
        ("service/both", "b3"),
        ("service/both@2", "b2"),
        ("npm/@scope/pkg", "s1"),
        ("npm/@scope/pkg@1.0", "s1"),
        ("@scope/pkg", "s1"),
        ("@scope/pkg@1.0", "s1"),
        ("me@home", "mail"),
        ("plugin/odd", "slashed"),
    ],
)
def test_a_name_means_what_the_rules_say(text: str, wanted: str) -> None:
    """The exact id, else type/name@version, else the name, else name@version."""
    assert _resolve(text) == wanted


@pytest.mark.parametrize("text", ["nothing", "man", "plugin/nothing", "many@7", "a b", "x" * 300])
def test_what_does_not_exist_is_exit_code_3(text: str) -> None:
    """A beginning of a name is not the name."""
    with pytest.raises(Failure, match="no entity has the id or the name") as caught:
        _resolve(text)
    assert caught.value.exit_code == 3


def test_several_types_are_listed() -> None:
    """The error says what to type instead, one line for each type, its newest version."""
    with pytest.raises(Failure, match="say which") as caught:
        _resolve("both")
    assert caught.value.exit_code == 2
    assert caught.value.details == ("plugin/both@1 (id b1)", "service/both@3 (id b3)")


def test_an_exact_id_is_one_call() -> None:
    """Ids are the common case in scripts."""
    REGISTRY.calls.clear()
    _resolve("p1")
    assert REGISTRY.calls == ["get p1"]


def test_of_equal_versions_the_last_created_is_the_newest() -> None:
    """1.0 and 1.00 are one version."""
    older = Entity(id="a", version="1.0", create_revision=1)
    newer = Entity(id="b", version="1.00", create_revision=2)
    assert newest([newer, older]) is newer


def test_a_relationship_is_named_by_its_type() -> None:
    """`relationship` is a reserved type, so `relationship/ID` is nothing else."""
    assert relationship_id("relationship/r1") == "r1"
    assert relationship_id("plugin/r1") is None
    assert relationship_id("relationship/") is None


ORDERED = (
    ("", "0", "0.9", "1.0~rc1", "1.0.dev1", "1.0-SNAPSHOT", "1.0a1", "1.0-beta.2", "1.0-beta.11",
     "1.0-m1", "1.0rc1", "1.0", "1.0+build", "1.0-1", "1.0.1", "1.9", "1.10", "2024.1", "1:0.1",
     "2!0"),
)  # fmt: skip


@pytest.mark.parametrize("versions", ORDERED)
def test_versions_have_the_order_that_people_expect(versions: tuple[str, ...]) -> None:
    """Every version is older than all that follow it."""
    for older, newer in itertools.combinations(versions, 2):
        assert version_key(older) < version_key(newer), (older, newer)


@pytest.mark.parametrize(
    ("one", "other"), [("1.0", "1"), ("v1.2", "1.2"), ("1.0RC1", "1rc1"), ("1_0_1", "1.0.1")]
)
def test_spellings_of_one_version_are_equal(one: str, other: str) -> None:
    """Zeros at the end, a `v`, case and separators do not count."""
    assert version_key(one) == version_key(other)


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_two_texts_can_be_compared(one: str, other: str) -> None:
    """A version is whatever its author wrote."""
    assert (version_key(one) < version_key(other)) != (version_key(one) >= version_key(other))


def test_absurdly_long_numbers_are_no_crash() -> None:
    """Python refuses to read numbers of more than 4,300 digits."""
    assert version_key("9" * 100_000) > version_key("1")
