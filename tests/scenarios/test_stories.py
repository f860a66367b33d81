"""The stories of the conformance suite, on new registries: each store, over both transports.

What changed nothing is asked again over the other transport, and must be answered the very same.
A story's answers are written anew with

    pytest tests/scenarios/test_stories.py --regenerate

which takes them from the store in memory. Read the difference before it is committed.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import yaml

from nexus_registry.conformance import stories as package
from nexus_registry.conformance.stories import METHODS, Player, Revisions, Story, stories
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
            found = await player.play(step)
            if regenerate:
                story.steps[number] = found
            else:
                assert found == step, f"step {number} of {story.name}: {step.get('why', '')}"
        player.close()
    if regenerate and (store, transport) == ("memory", "grpc"):
        write(story)


def test_every_service_has_a_story() -> None:
    """Each method of each service that is there over both transports is called in some story."""
    called = {step["call"] for story in stories() for step in story.steps if "call" in step}
    assert called == {name for name, is_http in METHODS.items() if is_http}
