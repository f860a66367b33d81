"""What the tests of the sources that read files have in common."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from nexus_registry import plugin_manager
from nexus_registry.discovery.source import Discovery, Source
from ose.registry.jsonform import to_dict
from tests.cli.fake import FakeRegistry
from tests.support.tools import ROOT

SAMPLES = ROOT.parent / "shared" / "data" / "manifests"
"""Well-known manifests beside the checkout; the tests that need them skip without."""

sampled = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"no manifests at {SAMPLES}")

Edges = set[tuple[str, str, str]]


def put(folder: Path, **files: str) -> Path:
    """Writes files; `a__b_yaml` is `a/b.yaml`."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_y", ".y").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def read(source: Source, path: Path, scope: str = "s") -> Discovery:
    """What a source finds, which keeps to what it has said of itself."""
    found = source.read(str(path), scope)
    ids = {entity.id for entity in found.wanted.entities}
    assert len(ids) == len(found.wanted.entities)
    assert {entity.type for entity in found.wanted.entities} <= set(source.entity_types)
    for edge in found.wanted.relationships:
        assert edge.type in source.relationship_types
        assert {edge.source_id, edge.target_id} <= ids
    return found


def edges(found: Discovery) -> Edges:
    """The relationships, without what all ids begin with."""
    return {
        (short(edge.source_id), edge.type, short(edge.target_id))
        for edge in found.wanted.relationships
    }


def short(id_: str) -> str:
    """An id without its source."""
    return id_.partition(":")[2]


def entity(found: Discovery, id_: str) -> dict[str, Any]:
    """The JSON of an entity."""
    [one] = [one for one in found.wanted.entities if short(one.id) == id_]
    return to_dict(one)


def edge(found: Discovery, source: str, target: str) -> dict[str, Any]:
    """The JSON of the only relationship between two entities."""
    [one] = [
        one
        for one in found.wanted.relationships
        if (short(one.source_id), short(one.target_id)) == (source, target)
    ]
    return to_dict(one)


def discover(registry: FakeRegistry, *args: str) -> Any:
    """Runs `discover`; answers the JSON that it writes, and what it sent as `sent`."""
    registry.batches.clear()
    result = registry.run(plugin_manager.manager, "discover", *args, "-o", "json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout) | {"sent": sum(map(len, registry.batches))}


def values(words: list[str]) -> st.SearchStrategy[Any]:
    """Values of any form, whose keys and texts are often words that mean something."""
    texts = st.sampled_from(words) | st.text(max_size=5)
    leaves = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts
    )
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=5),
        max_leaves=25,
    )


def words_of(*values: Any) -> list[str]:
    """All keys and texts in some values."""
    return sorted({word for value in values for word in _words(value)})


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from _words(one)
    elif isinstance(value, list):
        for one in value:
            yield from _words(one)
    elif isinstance(value, str):
        yield value
