"""The stories of the conformance suite, on new registries: each store, over both transports.

What changed nothing is asked again over the other transport, and must be answered the very same.
A story's answers are written anew with

    pytest tests/scenarios/test_stories.py --regenerate

which takes them from the store in memory, but for those that are among others. Read the difference
before it is committed.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import yaml

from nexus_registry.conformance import stories as package
from nexus_registry.conformance.stories import (
    METHODS,
    Player,
    Revisions,
    Story,
    is_served,
    stories,
    unlike,
)
from tests.support.postgres import database_of
from tests.support.servers import serving

# As the stories have it, so that places in names and scores are theirs too.
NAMESPACE = "ns-"
FOLDER = Path(package.__file__).parent / "stories"


def write(story: Story) -> None:
    """Writes a story as it reads best."""
    form = {"story": story.title, "steps": story.steps}
    text = yaml.safe_dump(form, sort_keys=False, width=100, allow_unicode=True)
    (FOLDER / f"{story.name}.yaml").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("store", "transport"),
    [*product(("memory", "sqlite"), ("grpc", "http")), ("postgresql", "grpc")],
)
@pytest.mark.parametrize("story", stories(), ids=[story.name for story in stories()])
async def test_story(
    story: Story, store: str, transport: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each step of the story is answered as the file says, by every store and transport."""
    database = database_of(store, tmp_path, request)
    regenerate = request.config.getoption("--regenerate", default=False)
    async with (
        serving(database) as running,
        running.stubs_over(transport) as stubs,
        running.stubs_over("grpc" if transport == "http" else "http") as others,
    ):
        player = Player(stubs, others, NAMESPACE, Revisions(1))
        for number, step in enumerate(story.steps):
            if not is_served(step, transport):
                continue
            found = await player.play(step)
            if regenerate and not step.get("among"):
                story.steps[number] = found
            else:
                assert not unlike(step, found), f"step {number}: {step.get('why', '')}"
        player.close()
    if regenerate and (store, transport) == ("memory", "grpc"):
        write(story)


def test_every_service_has_a_story() -> None:
    """Each method of each service is called in some story."""
    called = {step["call"] for story in stories() for step in story.steps if "call" in step}
    assert called == set(METHODS)


AMONG = {"among": True, "answer": {"total": "2", "rules": [{"id": "ns-a", "revision": "3"}]}}


def answered(total: str, *rules: dict[str, str]) -> dict[str, object]:
    """What the step above may be answered."""
    return {**AMONG, "answer": {"total": total, "rules": [*rules], "next": "more"}}


@pytest.mark.parametrize(
    ("found", "is_like"),
    [
        (answered("2", {"id": "ns-a", "revision": "3"}), True),
        (answered("10", {"id": "b"}, {"id": "ns-a", "revision": "3", "more": "1"}), True),
        (answered("1", {"id": "ns-a", "revision": "3"}), False),
        (answered("2", {"id": "ns-a", "revision": "2"}, {"id": "b", "revision": "3"}), False),
        ({"among": True, "error": {"code": "INTERNAL"}}, False),
    ],
)
def test_what_is_told_is_among_what_is_found(found: dict[str, object], is_like: bool) -> None:
    """More fields, items and larger numbers are fine; less of any, or an error, is not."""
    assert (unlike(AMONG, found) == []) is is_like
