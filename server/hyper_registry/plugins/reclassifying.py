"""Changing the rules, and moving the plugins that they then tell otherwise, as one revision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.struct_pb2 import Struct

from hyper_registry.model.entity import Entity
from hyper_registry.model.errors import ChangeTooLarge, EntityNotFound
from hyper_registry.plugins import mesh, reading
from hyper_registry.plugins.classification import Classification, Classifier, Rule
from hyper_registry.plugins.classifying import entity_of, subject_of, told
from hyper_registry.plugins.reading import FEATURE, RULE
from hyper_registry.plugins.registering import CLASSIFICATION, UNCLASSIFIED, belong
from hyper_registry.registry import codec
from hyper_registry.registry.mutations import CreateEntity, DeleteEntity, Mutation, UpdateEntity
from hyper_registry.registry.view import View
from ose.registry.v1.entity_pb2 import Entity as Message

MAX_CHANGES = 10_000
"""How many plugins move at once without `allow_large`."""

MAX_EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class Seen:
    """A plugin as it was classified: at which revision of it, and as what."""

    revision: int
    found: Classification


@dataclass(slots=True)
class Reclassification:
    """New rules, rules that go, and the plugins that are told otherwise by what there is then.

    `seen` is what was found out before; what has changed since is classified anew. `total`, `moves`
    and `examples`, which are by the features before and after ('' for none), are known once it was
    composed.
    """

    classifier: Classifier
    create: Sequence[Rule]
    delete: Sequence[str]
    seen: Mapping[str, Seen]
    allow_large: bool
    total: int = 0
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def compose(self, view: View) -> Iterator[Mutation]:
        """The mutations. Raises EntityNotFound or ChangeTooLarge."""
        self.total, self.moves, self.examples = 0, Counter(), {}
        for rule_id in self.delete:
            yield from remove(view, rule_id)
        for rule in self.create:
            yield from create(view, rule)
        for plugin_id in self.seen:
            plugin = reading.entity(view, plugin_id, reading.tip(view))
            if plugin is not None and is_classified(plugin):
                self.total += 1
                yield from self._move(view, plugin)

    def _move(self, view: View, plugin: Message) -> Iterator[Mutation]:
        seen = self.seen[plugin.id]
        is_as_seen = plugin.revision == seen.revision
        found = seen.found if is_as_seen else self.classifier.classify(subject_of(plugin))
        before = plugin.metadata.fields["feature"].string_value.replace(UNCLASSIFIED, "")
        if found.feature == before:
            return
        move = (before, found.feature)
        self.moves[move] += 1
        if self.moves.total() > MAX_CHANGES and not self.allow_large:
            raise ChangeTooLarge("plugins", MAX_CHANGES)
        examples = self.examples.setdefault(move, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(plugin.id)
        yield from relabel(view, plugin, found)


def create(view: View, rule: Rule) -> Iterator[Mutation]:
    """Creates a rule, and its feature if there is none of this id."""
    found = reading.entity(view, rule.feature, reading.tip(view))
    if found is None:
        yield CreateEntity(Entity(rule.feature, FEATURE, rule.feature))
    yield CreateEntity(entity_of(rule))


def remove(view: View, rule_id: str) -> Iterator[Mutation]:
    """Deletes a rule. Raises EntityNotFound."""
    found = reading.entity(view, rule_id, reading.tip(view))
    if found is None or found.type != RULE:
        raise EntityNotFound(rule_id, view.tip)
    yield DeleteEntity(rule_id, cascade=True)


def is_classified(plugin: Message) -> bool:
    """Whether the feature of a plugin was told by classification, and not by its manifest."""
    return CLASSIFICATION in plugin.metadata.fields


def relabel(view: View, plugin: Message, found: Classification) -> Iterator[Mutation]:
    """Lets a plugin, and the mesh services that it provides, belong to another feature."""
    metadata = Struct()
    metadata.update({"feature": found.feature or UNCLASSIFIED, CLASSIFICATION: dict(told(found))})
    yield UpdateEntity(
        Entity(plugin.id, "", plugin.name, metadata=codec.pack(metadata)),
        ("metadata.feature", f"metadata.{CLASSIFICATION}"),
    )
    yield from belong(view, plugin.id, found.feature)
    provider = mesh.Provider(plugin.id, plugin.version, found.feature)
    for service in mesh.provided(view, plugin.id, reading.tip(view)):
        yield mesh.handed_to(service, provider)
