"""Tokens come back as they were made, or are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.model.errors import HistoryChanged, TokenInvalid
from hyper_registry.query.tokens import (
    Kind,
    PageToken,
    ResumeToken,
    digest_of,
    open_page,
    open_resume,
)
from tests.unit.query.world import World

_epochs = st.text(max_size=40).filter(lambda text: ":" not in text)
_keys = st.lists(st.integers(0, (1 << 63) - 1) | st.text(max_size=20), max_size=3).map(tuple)
_damage = st.tuples(st.integers(0, 200), st.sampled_from("Aa0-_=% é"))


@given(revision=st.integers(0, (1 << 62) - 1), epoch=_epochs)
def test_resume_token_round_trip(revision: int, epoch: str) -> None:
    """A resume token is URL-safe text that says the history and the revision."""
    token = ResumeToken(f"{epoch}:mark", revision).encode()
    assert token.replace("-", "").replace("_", "").isalnum()
    assert token.isascii()
    opened = open_resume(token, epoch)
    assert opened == ResumeToken(f"{epoch}:mark", revision)
    opened.check(f"{epoch}:mark")
    with pytest.raises(HistoryChanged):
        opened.check(f"{epoch}:other")
    with pytest.raises(HistoryChanged):
        open_resume(token, epoch + "x")


def test_page_of_a_history_that_was_set_back() -> None:
    """A page token is refused if its revision is not the one that it was made at."""
    world = World()
    text = PageToken(Kind.ENTITIES, world.lineage(0), 0, "d", (1,)).encode()
    open_page(text, Kind.ENTITIES, "d", world)
    world.marks[0] = "other"
    with pytest.raises(HistoryChanged):
        open_page(text, Kind.ENTITIES, "d", world)


@given(key=_keys, kind=st.sampled_from([Kind.ENTITIES, Kind.RELATIONSHIPS, Kind.GRAPH]))
def test_page_token_round_trip(key: tuple[int | str, ...], kind: Kind) -> None:
    """A page token brings its place back, for its own kind and question."""
    world = World()
    token = PageToken(kind, world.lineage(0), 0, digest_of("q"), key)
    text = token.encode()
    assert open_page(text, kind, digest_of("q"), world) == token
    for wrong_kind, wrong_digest in ((Kind.LOG, digest_of("q")), (kind, digest_of("r"))):
        with pytest.raises(TokenInvalid, match="another question"):
            open_page(text, wrong_kind, wrong_digest, world)


@given(damage=_damage)
def test_damaged_token_is_refused(damage: tuple[int, str]) -> None:
    """W13: a token that was changed anywhere is refused, whatever the change."""
    token = ResumeToken("epoch", 7).encode()
    place, letter = damage
    changed = token[:place] + letter + token[place + 1 :]
    if changed != token:
        with pytest.raises(TokenInvalid) as caught:
            open_resume(changed, "epoch")
        assert caught.value.violations[0].field == "resume_token"


@given(text=st.text(max_size=80) | st.just("x" * 5000))
def test_foreign_text_is_refused(text: str) -> None:
    """Any other text is no token."""
    with pytest.raises(TokenInvalid):
        open_resume(text, "epoch")
    with pytest.raises(TokenInvalid):
        open_page(text, Kind.GRAPH, "", World())


def test_kinds_are_not_mixed_up() -> None:
    """A page token resumes no watch, and a resume token turns no page."""
    world = World()
    page = PageToken(Kind.GRAPH, world.lineage(0), 0, "d", (1, 2)).encode()
    resume = ResumeToken(world.lineage(0), 0).encode()
    with pytest.raises(TokenInvalid):
        open_resume(page, world.epoch)
    with pytest.raises(TokenInvalid):
        open_page(resume, Kind.GRAPH, "d", world)
    with pytest.raises(TypeError):
        digest_of(object())
