"""What is registered: packages as Debian has them, a large graph, and databases made of them."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from benchmarks.paths import BUILD, ROOT
from hyper_registry.model.entity import Entity
from hyper_registry.model.relationship import Relationship
from hyper_registry.model.revision import Action, Change, Commit, Head, Kind, ordinal_of, sealed
from hyper_registry.registry import codec
from hyper_registry.registry.lineage import Lineage
from hyper_registry.registry.loader import load
from hyper_registry.registry.view import View
from hyper_registry.store import open_store
from hyper_registry.store.base import Batch, EntityRow, Part, RelationshipRow, Store
from nexus_registry.discovery.debian import build_graph, read_apt_index
from nexus_registry.discovery.debian_packages import wanted_packages
from ose.registry.v1 import entity_pb2, mutation_pb2, relationship_pb2

T = TypeVar("T")

_BATCH = 20_000
# More revisions than the batches of any of these databases.
_FLOOR = 1_000
_SECTIONS = ("libs", "utils", "python", "devel", "net", "admin", "science", "doc")
_METHOD = "ose.registry.v1.RegistryService/Write"

Graph = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Sources and targets, by the numbers of nodes."""


# Messages


def package(number: int) -> entity_pb2.Entity:
    """A package such as Debian has: four labels and a handful of metadata."""
    section = _SECTIONS[number % len(_SECTIONS)]
    entity = entity_pb2.Entity(
        id=f"debian:package-{number:07d}",
        type="package",
        name=f"package-{number:07d}",
        version=f"{number % 7}.{number % 23}.{number % 11}-{number % 5}+deb12u{number % 3}",
        labels={
            "source": "debian",
            "architecture": "amd64",
            "priority": "optional",
            "section": section,
        },
    )
    fields = entity.metadata.fields
    fields["description"].string_value = f"tools and files for working with {section} {number}"
    fields["homepage"].string_value = f"https://example.org/projects/{number}/"
    fields["maintainer"].string_value = "Debian Maintainers <maintainers@example.org>"
    fields["installed_size_kib"].number_value = 40 + number % 9000
    fields["download_size_bytes"].number_value = 9000 + number % 900_001
    fields["multi_arch"].string_value = "same"
    return entity


def service(number: int) -> entity_pb2.Entity:
    """An entity of the size that a small service has: about 200 bytes as it is stored."""
    name = f"service-{number:08d}"
    return entity_pb2.Entity(
        id=name,
        type="service",
        name=name,
        version="1.4.2",
        labels={"team": "payments", "tier": "backend"},
    )


def dependency(source: int, target: int) -> relationship_pb2.Relationship:
    """A dependency of one package on another."""
    relationship = relationship_pb2.Relationship(
        source_id=f"debian:package-{source:07d}",
        target_id=f"debian:package-{target:07d}",
        type="depends_on",
        version_constraint=f">= {target % 7}.{target % 23}",
    )
    relationship.metadata.fields["source"].string_value = "debian"
    return relationship


def creations(count: int) -> Iterator[mutation_pb2.Mutation]:
    """Mutations that create packages."""
    for number in range(count):
        yield mutation_pb2.Mutation(create_entity=package(number))


def linkings(graph: Graph) -> Iterator[mutation_pb2.Mutation]:
    """Mutations that create dependencies."""
    for source, target in zip(*(column.tolist() for column in graph), strict=True):
        yield mutation_pb2.Mutation(create_relationship=dependency(source, target))


def power_law(nodes: int, edges: int) -> Graph:
    """A graph without cycles, in which few are needed by nearly all: node 0 by the most."""
    random = np.random.default_rng(7)
    weights = random.pareto(1.5, nodes - 1) + 1
    cuts = np.minimum(np.cumsum(weights) / weights.sum() * edges * 1.06, 2**62).astype(np.int64)
    degrees = np.diff(cuts, prepend=0)
    degrees = np.maximum(np.minimum(degrees, 200), 1)
    sources = np.repeat(np.arange(1, nodes, dtype=np.int64), degrees)
    targets = (sources * random.random(len(sources)) ** 4).astype(np.int64)
    pairs = np.unique(sources * nodes + targets)[:edges]
    return pairs // nodes, pairs % nodes


def vocabulary() -> list[str]:
    """20,000 made-up words, the most frequent first: one has a fair share, most are rare."""
    random = np.random.default_rng(11)
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    words: dict[str, None] = {}
    while len(words) < 20_000:
        parts = random.choice(syllables, random.integers(2, 5))
        words["".join(parts) + random.choice(["", "n", "r", "x"])] = None
    return list(words)


def catalogue(count: int) -> Iterator[entity_pb2.Entity]:
    """Services as teams describe them: names of two words and a kind, labels, tags, sentences."""
    random, words = np.random.default_rng(13), vocabulary()
    shares = 1 / np.arange(3, len(words) + 3)
    shares /= shares.sum()
    for first in range(0, count, _BATCH):
        drawn = random.choice(len(words), (min(_BATCH, count - first), 12), p=shares)
        for number, row in enumerate(drawn.tolist(), first):
            yield _described(number, [words[index] for index in row])


def _described(number: int, words: Sequence[str]) -> entity_pb2.Entity:
    kind = ("service", "worker", "gateway", "store")[number % 4]
    entity = entity_pb2.Entity(
        id=f"svc-{number:07d}",
        type="service",
        name=f"{words[0]}-{words[1]}-{kind}",
        version=f"{number % 7}.{number % 23}.{number}",
        labels={
            "team": f"team-{words[2]}",
            "environment": ("production", "staging", "test")[number % 3],
            "tier": ("gold", "silver", "bronze")[number % 7 % 3],
        },
    )
    fields = entity.metadata.fields
    text = f"Managed {kind} that keeps {' '.join(words[3:8])} for {words[8]} and {words[9]}."
    fields["description"].string_value = text
    for tag in words[10:]:
        fields["tags"].list_value.values.add(string_value=tag)
    fields["owner"].string_value = f"{words[2]}@example.org"
    fields["port"].number_value = 8000 + number % 1000
    return entity


# Databases


def large_database(nodes: int, edges: int, log_entries: int) -> Path:
    """A database with a generated graph, and with so many changes in its log; it is kept."""
    name = f"graph-{nodes}-{edges}-{log_entries}"

    def make(path: Path) -> None:
        graph = power_law(nodes, edges)
        entities = (_entity(package(number)) for number in range(nodes))
        ends = zip(*(column.tolist() for column in graph), strict=True)
        relationships = (
            _relationship(dependency(source, target), f"r{number:08d}")
            for number, (source, target) in enumerate(ends)
        )
        asyncio.run(_load(path, entities, relationships, log_entries))

    return _kept(name, make)


def catalogue_database(count: int) -> Path:
    """A database of services that are described in words; it is kept."""

    def make(path: Path) -> None:
        asyncio.run(_load(path, map(_entity, catalogue(count))))

    return _kept(f"catalogue-{count}", make)


def debian_database() -> Path | None:
    """A database with this machine's packages and dependencies; None without apt."""
    if shutil.which("apt-get") is None:
        return None

    def make(path: Path) -> None:
        index = read_apt_index()
        wanted = wanted_packages(build_graph(index.stanzas, index.architecture))
        entities = map(_entity, wanted.entities)
        relationships = (
            _relationship(message, f"r{number:08d}")
            for number, message in enumerate(wanted.relationships)
        )
        asyncio.run(_load(path, entities, relationships))

    return _kept("debian", make)


def view_of(path: Path) -> View:
    """The view of a database that nobody serves."""

    async def read() -> View:
        store, view = open_store(path), View()
        await store.open()
        try:
            snapshot = await store.snapshot()
            await load(view, snapshot, Lineage())
            await snapshot.aclose()
        finally:
            await store.aclose()
        return view

    return asyncio.run(read())


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    """A database that was made before by the same code, or is made now."""
    directory = BUILD / "bench"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{_code()}.db"
    if not path.exists():
        unfinished = directory / f"{name}.unfinished.db"
        _remove(directory, f"{name}[-.]*.db*")
        make(unfinished)
        unfinished.rename(path)
        _remove(directory, f"{name}.unfinished*")
    return path


def _remove(directory: Path, pattern: str) -> None:
    for leftover in directory.glob(pattern):
        leftover.unlink()


def _code() -> str:
    """Tells whether what a database is made by has changed."""
    package_ = ROOT / "server" / "hyper_registry"
    files = [*(package_ / "store").glob("*.py"), package_ / "registry" / "codec.py", Path(__file__)]
    digest = hashlib.blake2b(digest_size=6)
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _entity(message: entity_pb2.Entity) -> Entity:
    return Entity(
        message.id,
        message.type,
        message.name,
        message.version,
        codec.pack(message.metadata),
        dict(message.labels),
    )


def _relationship(message: relationship_pb2.Relationship, identifier: str) -> Relationship:
    return Relationship(
        identifier,
        message.source_id,
        message.target_id,
        message.type,
        metadata=codec.pack(message.metadata),
        version_constraint=message.version_constraint,
    )


async def _load(
    path: Path,
    entities: Iterable[Entity],
    relationships: Iterable[Relationship] = (),
    log_entries: int = 0,
) -> None:
    """Makes a database of resources that were created before its floor, and a log of updates."""
    store = open_store(path)
    await store.open()
    now = time.time_ns() // 1000
    floor = sealed(b"", _FLOOR, now, "", _METHOD, "", ())
    first: list[EntityRow] = []

    async def parts() -> AsyncIterator[Part]:
        yield Part(commits=[floor])
        revisions = itertools.count(1)
        for revision, part in zip(revisions, _parts(entities), strict=False):
            rows = [
                _row(entity.committed(entity.id, revision, now, None), index)
                for index, entity in enumerate(part)
            ]
            first.extend(rows[: log_entries - len(first)])
            yield Part(rows)
        for revision, part_ in zip(revisions, _parts(relationships), strict=False):
            yield Part(
                relationships=[
                    _edge_row(edge.committed(edge.id, revision, now, None), index)
                    for index, edge in enumerate(part_)
                ]
            )

    try:
        await store.fill(Head(_FLOOR, "", _FLOOR, now, floor.hash), parts())
        for updated in _parts(itertools.islice(itertools.cycle(first), log_entries)):
            await _write_updates(store, updated)
    finally:
        await store.aclose()


def _row(entity: Entity, index: int) -> EntityRow:
    described = codec.metadata(entity.metadata)
    record = codec.encode_entity(entity)
    return EntityRow(entity, index, described.feature, described.json, record)


def _edge_row(edge: Relationship, index: int) -> RelationshipRow:
    described = codec.metadata(edge.metadata)
    return RelationshipRow(edge, index, described.json, codec.encode_relationship(edge))


def _parts(items: Iterable[T]) -> Iterator[list[T]]:
    items = iter(items)
    while part := list(itertools.islice(items, _BATCH)):
        yield part


async def _write_updates(store: Store, rows: Sequence[EntityRow]) -> None:
    transaction = await store.begin()
    head = transaction.head
    commits: list[Commit] = []
    latest: dict[str, EntityRow] = {}
    for row in rows:
        old = latest.get(row.entity.id, row)
        now = _now(head)
        changed = old.entity._replace(revision=head.revision + 1, updated_at=now)
        record = codec.encode_entity(changed)
        ordinal = ordinal_of(changed.create_revision, row.create_index)
        change = Change(Kind.ENTITY, Action.UPDATE, changed.id, ordinal, old.record, record)
        commit, head = _next(head, now, change)
        commits.append(commit)
        latest[changed.id] = old._replace(entity=changed, record=record)
    await transaction.commit(Batch(commits, head, entities=[*latest.values()]), head.time)


def _next(head: Head, now: int, change: Change) -> tuple[Commit, Head]:
    """The next revision, and the head behind it."""
    commit = sealed(head.hash, head.revision + 1, now, "", _METHOD, "", (change,))
    return commit, Head(commit.revision, head.epoch, head.floor, now, commit.hash)


def _now(head: Head) -> int:
    return max(time.time_ns() // 1000, head.time + 1)
