"""Classification with the rules that the registry holds now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from hyper_registry.model.entity import Entity
from hyper_registry.model.errors import InvalidArgument
from hyper_registry.plugins import manifests, reading
from hyper_registry.plugins.catalogue import Catalogue
from hyper_registry.plugins.classification import (
    Classification,
    Classifier,
    RegistryFile,
    Rule,
    RuleSet,
    Subject,
)
from hyper_registry.plugins.reading import RULE
from hyper_registry.plugins.registering import Registration
from hyper_registry.registry.codec import pack
from hyper_registry.registry.genesis import Feature
from hyper_registry.registry.genesis import entity as entity_of_feature
from hyper_registry.registry.mutations import (
    Composed,
    CreateEntity,
    Decision,
    Mutation,
    WriteRequest,
)
from hyper_registry.registry.view import View
from ose.registry.manifest import Manifest
from ose.registry.v1.entity_pb2 import Entity as Message


class Classifying:
    """The classifier of one registry: `more` are rules of a file, which count after the users'."""

    def __init__(self, catalogue: Catalogue, more: Iterable[Rule] = ()) -> None:
        self._catalogue = catalogue
        self.more = tuple(more)
        self._made: Classifier | None = None
        self._version = -1

    async def classifier(self) -> Classifier:
        """The classifier of the rules that were taken in."""
        if self._made is None or self._version != self._catalogue.rules_version:
            version, rules = self._catalogue.rules_version, self.rules()
            self._made = await asyncio.to_thread(with_rules, rules)
            self._version = version
        return self._made

    def rules(self) -> list[Rule]:
        """The rules in the order in which they count: the users', then those of the file."""
        kept = (rule_of(entity) for entity in self._catalogue.rules)
        return [*(rule for rule in kept if rule is not None), *self.more]

    async def registration(self, manifest: Manifest) -> Registration:
        """A manifest as it is to be registered, classified if it names no feature."""
        found = (await self.classifier()).classify(manifests.subject(manifest))
        names_it = bool(manifest.metadata.feature)
        return Registration(
            manifest.name,
            manifest.version,
            manifest.digest,
            manifest.metadata.labels,
            manifests.described(manifest),
            found.feature,
            None if names_it else told(found),
            manifests.service(manifest),
        )


def with_rules(rules: Iterable[Rule]) -> Classifier:
    """A classifier; it takes a while to make. Raises InvalidArgument for rules that are wrong."""
    return Classifier(RuleSet.compile(rules))


def told(found: Classification) -> Mapping[str, Any]:
    """What a plugin's metadata says of how its feature was told."""
    said: dict[str, Any] = {"confidence": round(found.confidence, 4)}
    candidate = next((one for one in found.candidates if one.feature == found.feature), None)
    if candidate is not None and candidate.reasons:
        reason = candidate.reasons[0]
        said |= {"rule": reason.rule, "field": reason.field, "text": reason.text}
    return said


def subject_of(plugin: Message) -> Subject:
    """What a registered plugin says of what it is for."""
    metadata = MessageToDict(plugin.metadata)
    texts = (metadata.get("display_name", ""), metadata.get("description", ""))
    description = ". ".join(text for text in texts if text and text != plugin.name)
    return Subject(
        plugin.name, description, metadata.get("tags", ()), metadata.get("capabilities", {})
    )


def rule_of(entity: Message) -> Rule | None:
    """The rule that an entity keeps; None if it was changed by hand and keeps none."""
    fields = MessageToDict(entity.metadata)
    try:
        rule = Rule(
            entity.id,
            str(fields["match"]),
            str(fields["feature"]),
            float(fields["confidence"]),
            tuple(fields.get("fields", ())),
        )
        RuleSet.compile([rule])
    except (KeyError, TypeError, ValueError, InvalidArgument):
        return None
    return rule


def entity_of(rule: Rule) -> Entity:
    """The entity that keeps a rule."""
    metadata = Struct()
    metadata.update({"match": rule.match, "feature": rule.feature, "confidence": rule.confidence})
    if rule.fields:
        metadata.update({"fields": list(rule.fields)})
    return Entity(rule.id, RULE, rule.id, metadata=pack(metadata))


def missing(file: RegistryFile, view: View) -> list[Feature]:
    """The features of a file, and those that its rules name, that are not there."""
    described = {feature.id: feature for feature in file.features}
    ids = dict.fromkeys([*described, *(rule.feature for rule in file.rules)])
    tip = reading.tip(view)
    return [
        described.get(feature_id) or Feature(feature_id, feature_id)
        for feature_id in ids
        if reading.entity(view, feature_id, tip) is None
    ]


def of_file(file: RegistryFile) -> WriteRequest:
    """Creates the features of a file, and those that its rules name, that are not there."""

    def compose(view: View) -> Iterator[Mutation]:
        for feature in missing(file, view):
            yield CreateEntity(entity_of_feature(feature))

    return WriteRequest([Composed(compose)], _nothing, "ReadFeatureRegistry", "registry")


def _nothing(_decision: Decision) -> bytes:
    return b""
