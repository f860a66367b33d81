"""The filter language: what is accepted, what is refused and where, and what is the same."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hyper_registry.model.entity import Entity
from hyper_registry.model.errors import FilterInvalid, InvalidArgument, LimitExceeded
from hyper_registry.model.relationship import Relationship
from hyper_registry.query.filters import EntityFilter, RelationshipFilter
from hyper_registry.query.language.expression import MAX_CHARACTERS, compile_filter
from hyper_registry.query.language.fields import ENTITY, RELATIONSHIP
from hyper_registry.query.language.grammar import MAX_COMPARISONS, MAX_DEPTH
from hyper_registry.query.language.narrowing import ByEnd, ById, ByLabel, ByName, ByPrefix
from hyper_registry.registry.codec import encode_entity
from tests.unit.query.world import struct

WRONG_ENTITIES = [
    # The grammar.
    ("type", 5, "expected an operator"),
    ("type =", 7, "expected a value, got nothing"),
    ("type = plugin status = active", 15, "expected AND, OR or the end, got 'status'"),
    ("type == plugin", 7, "one = is enough"),
    ("type = plugin and status = active", 15, "AND is written in capitals"),
    ("type = plugin && status = active", 15, "AND is written in capitals"),
    ("type = plugin || status = active", 15, "OR is written in capitals"),
    ("not type = plugin", 5, "NOT is written in capitals"),
    ("!type = plugin", 1, "NOT is written in capitals"),
    ("type = a AND type = b OR type = c", 23, "need parentheses"),
    ("type = a OR type = b AND type = c", 22, "need parentheses"),
    ("(type = a", 10, "expected )"),
    ("type = a)", 9, "expected the end"),
    ("type = (a OR b", 15, "expected OR or )"),
    ("type in (a)", 6, "field = (one OR other)"),
    ("name ~ x", 6, "* in a value"),
    ('name = "x', 8, "not closed"),
    (r'name = "a\n"', 10, "backslash"),
    ("= x", 1, "expected a field"),
    ("type = x AND", 13, "expected a field, got nothing"),
    ("name.", 6, "expected a field"),
    # Names.
    ("typ = plugin", 1, "did you mean type?"),
    ("nothing_like_it = 1", 1, "the fields are id, type, name"),
    ("status = active AND weight > 1", 21, "no field 'weight' of an entity"),
    ("name.first = x", 1, "name has no parts"),
    ("status = actve", 10, "did you mean active?"),
    ("health = ENTITY_STATUS_ACTIVE", 10, "health is one of healthy"),
    ("type = lower(x)", 8, "no function 'lower'"),
    ("name = ago(1h)", 8, "goes with created_at"),
    # Types and operators.
    ("revision = abc", 12, "revision is a number, got 'abc'"),
    ("revision = 1e999", 12, "too large"),
    ("revision : 4", 10, "revision is compared with = != < <= > >="),
    ("status < active", 8, "status is compared with = !="),
    ("version > 1.2", 9, "version has no order"),
    ("type >= a", 6, "type has no order"),
    ("name < a*", 8, "has no order"),
    ("regions = eu", 9, "regions is a list"),
    ("labels = x", 8, "labels.KEY"),
    ("labels.-k = x", 8, "expected a field"),
    ('labels."-k" = x', 1, "keys of labels"),
    ("labels:-k", 8, "keys of labels"),
    ("metadata = x", 10, "metadata.KEY"),
    ("metadata.a = null", 14, "NOT metadata.KEY:*"),
    ("feature = a*", 11, "a whole id"),
    ("feature : a", 9, "feature is compared with = !="),
    ("created_at > yesterday", 14, "created_at is a time as"),
    ("created_at > 2026-02-30", 14, "created_at is a time as"),
    ("created_at > 2026-01-31T10:00:00", 14, "created_at is a time as"),
    ("created_at > ago(1h)", 14, "moves with time"),
    ("name != (a OR b)", 6, "several values go with"),
    ("  name  !=  (a OR b)", 9, "several values go with"),
    ("näme = x", 1, "no field 'näme'"),
    ('name = "ü" AND typ = x', 16, "did you mean type?"),
]

WRONG_RELATIONSHIPS = [
    ('weight > "abc"', 10, "weight is a number, got 'abc'"),
    ("bidirectional = yes", 17, "bidirectional is true or false, got 'yes'"),
    ("status = active", 1, "no field 'status' of a relationship"),
    ("sourceid = a", 1, "did you mean source_id?"),
    ("version_constraint < 2", 20, "no order"),
]


@pytest.mark.parametrize(("text", "position", "problem"), WRONG_ENTITIES)
def test_wrong_entity_filters(text: str, position: int, problem: str) -> None:
    """What is wrong is refused with the place where it stands, and what was expected there."""
    with pytest.raises(FilterInvalid) as caught:
        EntityFilter.parse(filter=text)
    assert caught.value.metadata == {"field": "filter", "position": str(position)}
    assert problem in caught.value.message
    assert caught.value.violations[0].field == "filter"


@pytest.mark.parametrize(("text", "position", "problem"), WRONG_RELATIONSHIPS)
def test_wrong_relationship_filters(text: str, position: int, problem: str) -> None:
    """The same of relationships, which have other fields."""
    with pytest.raises(FilterInvalid) as caught:
        RelationshipFilter.parse(filter=text)
    assert caught.value.metadata["position"] == str(position)
    assert problem in caught.value.message


SAME_ENTITIES = [
    ("type = a AND status = active", "(status=ACTIVE) AND type = 'a'"),
    ("type = a OR type = b", "type = (b OR a OR b)"),
    ("NOT (labels:k OR version = 2)", "NOT labels.k:* AND NOT version = 2"),
    ("NOT NOT name = x", "- - name=x"),
    ("status != active", "NOT status = ENTITY_STATUS_ACTIVE"),
    ("NOT (status = active OR health != healthy)", "health = healthy AND NOT status = active"),
    ("labels.k != v", "labels:k AND NOT labels.k = v"),
    ("labels.a.b/c:*", 'labels:"a.b/c"'),
    ("metadata.n = 1 AND metadata.n = 1", "metadata.n = 1"),
    ("revision > 1.0", "revision > 1"),
    ("name = 'a**b'", "name = a*b"),
    ("created_at > 2026-01-31", 'created_at > "2026-01-31T01:00:00.000+01:00"'),
    ("regions:(eu AND us)", "regions:us AND regions:eu"),
    ("  ", ""),
]


@pytest.mark.parametrize(("one", "other"), SAME_ENTITIES)
def test_the_same_in_other_words(one: str, other: str) -> None:
    """Filters that say the same are equal and have one digest, so watchers share what they need."""
    first, second = EntityFilter.parse(filter=one), EntityFilter.parse(filter=other)
    assert first == second
    assert hash(first) == hash(second)
    assert first.digest() == second.digest()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("name = a", "name = b"),
        ("name = a", "id = a"),
        ("name = a*", 'name = "a\\*"'),
        ("metadata.n = 1", 'metadata.n = "1"'),
        ("metadata.n = true", 'metadata.n = "true"'),
        ("labels.k = v", "NOT labels.k = v"),
        ("labels.k != v", "NOT labels.k = v"),
        ("type = a AND name = b", "type = a OR name = b"),
        ("", "type = a"),
        ("revision > 1", "revision >= 1"),
    ],
)
def test_other_filters_differ(one: str, other: str) -> None:
    """Filters that say something else are not taken for each other."""
    first, second = EntityFilter.parse(filter=one), EntityFilter.parse(filter=other)
    assert first != second
    assert first.digest() != second.digest()


def test_fields_and_expressions_are_one() -> None:
    """What a field can say is the field's, whichever way it was said; both must hold."""
    assert EntityFilter.parse(
        filter="id = (a OR b) AND type = t AND status = (active OR error) AND health = healthy "
        "AND feature = f AND labels.k = v AND labels:l AND name = 'p*'"
    ) == EntityFilter.parse(
        ids=["a", "b"],
        types=["t"],
        statuses=[1, 5],
        healths=[1],
        feature="f",
        labels=["k=v", "l"],
        name_prefix="p",
    )
    assert EntityFilter.parse(types=["a", "b"], filter="type = (b OR c)").types == frozenset("b")
    assert EntityFilter.parse(name_prefix="ab", filter="name = a*").name_prefix == "ab"
    never = EntityFilter.parse(types=["a"], filter="type = b")
    assert never.types == {"a"}
    assert never.expression is not None
    assert not never.codes.types
    assert never.codes.types is not None
    edges = RelationshipFilter.parse(filter="(source_id = a OR target_id = a) AND type = t")
    assert edges == RelationshipFilter.parse(entity_ids=["a"], types=["t"])


def test_indexes_are_found() -> None:
    """Alternatives are looked up as one where each of them has an index."""

    def covers(text: str) -> set[frozenset[object]]:
        return {frozenset(cover) for cover in EntityFilter.parse(filter=text).covers}

    assert covers("labels.k = (a OR b)") == {frozenset({ByLabel("k", "a"), ByLabel("k", "b")})}
    assert covers("id = x OR name = 'y*' OR (labels:k AND metadata.n > 1)") == {
        frozenset({ById("x"), ByPrefix("y"), ByLabel("k", None)})
    }
    assert covers("labels.k > a OR name = n") == {frozenset({ByLabel("k", None), ByName("n")})}
    assert covers("labels:k OR metadata.n > 1") == set()
    assert covers("NOT labels:k") == set()
    either = EntityFilter.parse(filter="(type = a AND metadata.n = 1) OR type = b")
    assert either.codes.types == frozenset("ab")
    edges = RelationshipFilter.parse(filter="source_id = a OR target_id = b")
    assert [*edges.covers] == [frozenset({ByEnd(True, "a"), ByEnd(False, "b")})]


def test_limits() -> None:
    """Length, number of comparisons and nesting are bounded, and their limits are told."""
    text = "name = " + "x" * (MAX_CHARACTERS - len("name = "))
    EntityFilter.parse(filter=text)
    with pytest.raises(LimitExceeded) as caught:
        EntityFilter.parse(filter=text + "x")
    assert caught.value.metadata["maximum"] == str(MAX_CHARACTERS)
    many = ["name=x"] * MAX_COMPARISONS
    EntityFilter.parse(filter=" AND ".join(many))
    with pytest.raises(FilterInvalid, match="more than"):
        EntityFilter.parse(filter=" OR ".join([*many, "name=y"]))
    EntityFilter.parse(filter="NOT " * (MAX_DEPTH - 1) + "name=x")
    with pytest.raises(FilterInvalid, match="nested more than"):
        EntityFilter.parse(filter="-" * MAX_DEPTH + "name=x")
    with pytest.raises(FilterInvalid, match="nested more than"):
        EntityFilter.parse(filter="NOT(" * 800 + "name=x" + ")" * 800)


def test_parentheses_cost_nothing() -> None:
    """Thousands of them are no depth, and are read in linear time."""
    count = (MAX_CHARACTERS - 6) // 2
    assert EntityFilter.parse(filter="(" * count + "name=x" + ")" * count) == EntityFilter.parse(
        filter="name = x"
    )
    with pytest.raises(FilterInvalid) as caught:
        EntityFilter.parse(filter="(" * MAX_CHARACTERS)
    assert caught.value.metadata["position"] == str(MAX_CHARACTERS + 1)


def test_malformed_fields_are_named_with_the_expression() -> None:
    """With other fields malformed, too, one error has them all."""
    with pytest.raises(InvalidArgument) as caught:
        EntityFilter.parse(ids=["a/b"], filter="typ = x")
    assert caught.value.reason == "INVALID_FIELD"
    assert [violation.field for violation in caught.value.violations] == ["ids", "filter"]
    assert "position 1" in caught.value.violations[1].description


def test_ago() -> None:
    """`ago` counts from the time that is given, and is refused without one."""
    second = 1_000_000_000
    entity = Entity("a", "t", "a", created_at=90_000_000, updated_at=100_000_000)

    def matches(text: str, now: int) -> bool:
        condition = EntityFilter.parse(filter=text, now=now * second)
        return condition.matches_record(encode_entity(entity), 1, lambda *_: False)

    assert matches("created_at < ago(5s)", 96)
    assert not matches("created_at < ago(1m5s)", 96)
    assert matches("updated_at >= ago(1h30m)", 100)
    assert matches("NOT updated_at >= ago(0.5s)", 101)
    for text in ("ago()", "ago(1)", "ago(x)", "ago(-1s)", "ago(99999999d)", "ego(1s)"):
        with pytest.raises(FilterInvalid) as caught:
            EntityFilter.parse(filter=f"created_at > {text}", now=0)
        assert caught.value.metadata["position"] in ("14", "18")
    with pytest.raises(FilterInvalid, match="goes with < <= > >= only"):
        EntityFilter.parse(filter="created_at = ago(1s)", now=0)
    assert EntityFilter.parse(filter="created_at < 2020-01-01", now=5).moves is False


def test_reserved_words_are_words_elsewhere() -> None:
    """AND, OR and NOT may begin names, and be values; names of fields may be quoted."""
    for text in ("name = AND", "name = (OR OR NOT)", "metadata.ANDROID = x"):
        assert EntityFilter.parse(filter=text).expression is not None
    with pytest.raises(FilterInvalid, match="no field 'NOTE'"):
        EntityFilter.parse(filter="NOTE = x")
    assert EntityFilter.parse(filter='"name" = x') == EntityFilter.parse(filter="name = x")
    assert EntityFilter.parse(filter='metadata."AND" = x').expression is not None


_PIECES = (
    *("type", "name", "labels", "metadata", ".k", '."a b"', "status", "created_at", "weight"),
    *("=", "!=", "<", ">=", ":", "(", ")", " AND ", " OR ", "NOT ", "-", ",", "*", "\\", '"', "'"),
    *("active", "1", "-2.5e3", "ago(", "ago(1h)", "2026-01-31", "true", "null", '"x*"', " ", "é\n"),
)
texts = (
    st.text()
    | st.text(alphabet="type=()\"'\\*: ANDORNOT.-<>!1é\x00", max_size=60)
    | st.lists(st.sampled_from(_PIECES), max_size=25).map("".join)
)


@given(text=texts, now=st.none() | st.just(0))
@example(text='"', now=None)
@example(text="'\\", now=None)
@example(text="\u2028=", now=None)
@example(text="id = " + "9" * 4000, now=None)
@example(text="revision = " + "9" * 4000, now=None)
def test_any_text_is_read_or_refused(text: str, now: int | None) -> None:
    """No text leads to anything but a filter, or an error that names a place within the text."""
    for kind in (EntityFilter, RelationshipFilter):
        try:
            kind.parse(filter=text, now=now)
        except FilterInvalid as error:
            place = int(error.metadata["position"])
            assert 1 <= place <= len(text) + 1
        except LimitExceeded:
            assert len(text) > MAX_CHARACTERS


@given(
    parts=st.lists(st.text(alphabet="ab", max_size=2), min_size=1, max_size=5),
    name=st.text(alphabet="ab", min_size=1, max_size=12),
    has=st.booleans(),
)
def test_wildcards_are_those_of_a_regular_expression(
    parts: list[str], name: str, has: bool
) -> None:
    """Each `*` stands for any letters, and `:` looks for the value anywhere in the text."""
    operator, around = (":", "*") if has else ("=", "")
    pattern = around + "*".join(parts) + around
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None
    condition = EntityFilter.parse(filter=f'name {operator} "{"*".join(parts)}"')
    record = encode_entity(Entity("a", "t", name))
    assert condition.matches_record(record, 1, lambda *_: False) == expected


_SAMPLE = Entity(
    "a",
    "service",
    "payments-api",
    "1.10.0",
    labels={"tier": "gold", "app.kubernetes.io/name": "pay", "empty": ""},
    regions=("eu-west", "us-east"),
    metadata=struct(
        replicas=3,
        port="8080",
        on=True,
        nothing=None,
        owner={"team": "billing", "people": ["ada", "bob"]},
        ports=[80, 443, "8080"],
        hooks=[{"url": "https://a", "on": False}, {"url": "https://b"}],
    ),
)


@pytest.mark.parametrize(
    "text",
    [
        "name = payments-* AND version = 1.10.0",
        "name:ments AND NOT name:*z*",
        "labels.tier = gold AND labels:tier AND labels.tier:* AND labels:ti*",
        "labels.app.kubernetes.io/name = pay",
        'labels."app.kubernetes.io/name" = pay',
        "labels.empty:* AND labels.empty = '' AND labels.tier:ol",
        "NOT labels.owner = x AND NOT labels.owner != x AND NOT labels:owner",
        "regions:eu-west AND regions:(us* AND eu*) AND NOT regions:eu",
        "metadata.replicas = 3 AND metadata.replicas >= 2.5 AND metadata.replicas < 1e3",
        'NOT metadata.replicas = "3" AND NOT metadata.replicas > "2"',
        'metadata.port = 8080 AND metadata.port = "8080" AND NOT metadata.port > 1',
        "metadata.on = true AND metadata.on != false AND NOT metadata.on = 1",
        "metadata:nothing AND NOT metadata.nothing:* AND NOT metadata.nothing != 1",
        "metadata.owner.team = billing AND metadata.owner:team AND NOT metadata.owner:tea",
        "metadata.owner.people:ada AND NOT metadata.owner.people:ad AND metadata.owner.people:ad*",
        "NOT metadata.owner.people = ada AND metadata.owner.people:*",
        'metadata.ports:443 AND metadata.ports:8080 AND NOT metadata.ports:"443"',
        "metadata.hooks.url:https AND metadata.hooks.on:false AND NOT metadata.hooks.on:true",
        "NOT metadata.hooks.url:* AND NOT metadata.hooks.url = 'https://a'",
        "NOT metadata.no.such.thing != 1 AND NOT metadata.replicas.more = 1",
        "created_at = 1970-01-01 AND revision = 0",
    ],
)
def test_meanings(text: str) -> None:
    """What docs/filters.md says, example by example: each of these holds of one entity."""
    condition = EntityFilter.parse(filter=text)
    assert condition.matches_record(encode_entity(_SAMPLE), 1, lambda *_: False)


def test_features_are_named() -> None:
    """All features that an expression speaks of are known, for relationships change them."""
    condition = EntityFilter.parse(filter="NOT feature = a AND (feature = b OR type = c)")
    assert condition.features == {"a", "b"}
    edge = Relationship("r", "x", "b", "belongs_to")
    assert condition.affected_by(edge) == ("x",)
    assert EntityFilter.parse(feature="d", filter="feature = e").features == {"d", "e"}


def test_escapes() -> None:
    r"""`\"`, `\'`, `\\` and `\*` are the letters themselves."""
    entity = Entity("a", "t", "a", labels={"k": 'say "it\'s" \\ *'})
    record = encode_entity(entity)
    for text in (
        r'labels.k = "say \"it\'s\" \\ \*"',
        r"""labels.k = 'say "it\'s" \\ \*'""",
        r'labels.k : "\*"',
        r'labels.k = "*\\*"',
    ):
        condition = EntityFilter.parse(filter=text)
        assert condition.matches_record(record, 1, lambda *_: False), text
    other = EntityFilter.parse(filter=r'labels.k = "\*"')
    assert not other.matches_record(record, 1, lambda *_: False)


def test_slow_patterns_are_not_slow() -> None:
    """A pattern that makes regular expressions try everything takes no time here."""
    condition = EntityFilter.parse(filter='metadata.t = "' + "a*" * 500 + 'b"')
    record = encode_entity(Entity("a", "t", "a", metadata=struct(t="a" * 100_000)))
    assert not condition.matches_record(record, 1, lambda *_: False)


def test_compiled_once() -> None:
    """The same text is compiled once for all who send it, for each kind of resource."""
    text = "metadata.compiled = once"
    assert compile_filter(text, ENTITY) is compile_filter(text, ENTITY)
    assert compile_filter("weight = 1", RELATIONSHIP) is not None
    with pytest.raises(FilterInvalid):
        compile_filter("weight = 1", ENTITY)
