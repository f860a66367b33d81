"""What a watch request may say."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from hyper_registry.model.errors import InvalidArgument, LimitExceeded, TokenInvalid
from hyper_registry.query.filters import EntityFilter, RelationshipFilter
from hyper_registry.watch.matching import Question
from hyper_registry.watch.request import read_request
from ose.registry.v1.watch_service_pb2 import WatchRequest
from tests.watch.world import request, world


def test_no_filter_means_everything() -> None:
    """Without filters all changes match; an empty filter means everything of its kind."""
    assert read_request(request()).question == Question(EntityFilter(), RelationshipFilter())
    assert read_request(request(entities={})).question == Question(EntityFilter(), None)
    assert read_request(request(relationships={})).question == Question(None, RelationshipFilter())


def test_equal_questions_are_one() -> None:
    """Order and repetition do not matter; whether the previous state is asked for does."""
    one = read_request(request(1, entities={"ids": ["a", "b"]}, bookmark_interval={"seconds": 2}))
    other = read_request(request(entities={"ids": ["b", "a", "b"]}))
    third = read_request(request(entities={"ids": ["b", "a"]}, include_previous=True))
    assert hash(one.question) == hash(other.question)
    assert one.question == other.question != third.question


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (request(0), "start_revision"),
        (request(-5), "start_revision"),
        (request(1, snapshot=True), "snapshot"),
        (request("token", snapshot=True), "snapshot"),
        (request(bookmark_interval=Duration(nanos=99_999_999)), "bookmark_interval"),
        (request(bookmark_interval=Duration(seconds=3601)), "bookmark_interval"),
        (request(bookmark_interval=Duration(seconds=-1)), "bookmark_interval"),
        (request(bookmark_interval=Duration()), "bookmark_interval"),
        (request(entities={"ids": ["a/b"]}), "entities.ids"),
        (request(entities={"statuses": [0]}), "entities.statuses"),
        (request(relationships={"types": ["?"]}), "relationships.types"),
    ],
)
def test_malformed_fields_are_named(asked: WatchRequest, field: str) -> None:
    """A field that cannot be is refused by its path in the request."""
    with pytest.raises(InvalidArgument) as refused:
        read_request(asked)
    assert [violation.field for violation in refused.value.violations] == [field]


def test_all_malformed_fields_are_named_at_once() -> None:
    """One answer tells everything that is wrong."""
    with pytest.raises(InvalidArgument) as refused:
        read_request(
            request(
                0,
                snapshot=True,
                entities={"ids": ["a/b"]},
                bookmark_interval=Duration(seconds=9999),
            )
        )
    assert [violation.field for violation in refused.value.violations] == [
        "start_revision",
        "snapshot",
        "entities.ids",
        "bookmark_interval",
    ]


def test_kinds_of_refusals_are_kept() -> None:
    """A limit that is passed is said to be one, with the path of the field."""
    with pytest.raises(InvalidArgument) as refused:
        read_request(request(entities={"ids": [f"e{n}" for n in range(1001)]}))
    assert refused.value.reason == LimitExceeded.reason
    assert refused.value.metadata["maximum"] == "1000"
    assert refused.value.violations[0].field == "entities.ids"


@pytest.mark.parametrize("token", ["", "x", "ä", "AAAA", "x" * 10_000])
async def test_malformed_tokens(token: str) -> None:
    """Anything that is not a token is refused, an empty one too.

    It is of a message that ended within a revision: to begin with now would skip the rest.
    """
    async with world() as w:
        with pytest.raises(TokenInvalid) as refused:
            await w.hub.open(request(token))
        assert refused.value.violations[0].field == "resume_token"
