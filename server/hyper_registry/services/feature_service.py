"""FeatureService."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Sequence

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from hyper_registry.model.entity import Entity
from hyper_registry.model.errors import (
    BuiltIn,
    IdTaken,
    InvalidArgument,
    LimitExceeded,
    Violation,
)
from hyper_registry.model.rules import TEXT_RULE, check_entity, is_id, is_text, new_id, shown
from hyper_registry.plugins import reading, reclassifying
from hyper_registry.plugins.catalogue import Catalogue
from hyper_registry.plugins.classification import (
    FEATURE_ID_RULE,
    MAX_REASONS,
    Classification,
    Classifier,
    Rule,
    Subject,
    is_feature_id,
    registry,
    violations_of,
)
from hyper_registry.plugins.classifying import Classifying, rule_of, subject_of, with_rules
from hyper_registry.plugins.reading import FEATURE, PLUGIN
from hyper_registry.plugins.reclassifying import Reclassification, Seen
from hyper_registry.query.working import in_thread
from hyper_registry.registry import codec
from hyper_registry.registry.engine import Engine, ReadOptions
from hyper_registry.registry.mutations import Composed, CreateEntity, Decision, Mutation
from hyper_registry.registry.view import View
from hyper_registry.services import parsing
from hyper_registry.services.calls import Answer, Call
from hyper_registry.services.writing import write
from hyper_registry.watch.keeping import records_of_type
from ose.registry.v1 import feature_service_pb2 as api
from ose.registry.v1.entity_pb2 import Entity as Message
from ose.registry.v1.feature_pb2 import ClassificationRule, Feature

MAX_RULES = 1000
MAX_TAGS = 64
MAX_DESCRIPTION = 16_384

_FEATURE_TEXTS = ("icon", "category", "namespace", "description")


class FeatureService:
    """Serves `ose.registry.v1.FeatureService`."""

    descriptor = api.DESCRIPTOR.services_by_name["FeatureService"]

    def __init__(self, engine: Engine, catalogue: Catalogue, classifying: Classifying) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._classifying = classifying

    async def list_features(self, request: api.ListFeaturesRequest, call: Call) -> Answer:
        """Lists all features."""
        revision = await self._current(request.min_revision, call)
        counts = self._catalogue.by_feature
        found = records_of_type(self._engine.view, FEATURE, revision)
        features = [_feature(Message.FromString(record)) for record in found]
        for feature in features:
            feature.plugin_count = counts[feature.id]
        return api.ListFeaturesResponse(features=features, revision=revision)

    async def create_feature(self, request: api.CreateFeatureRequest, call: Call) -> Answer:
        """Creates a feature."""
        parsing.required("feature", request)
        entity = parsing.nested("feature", _feature_entity, request.feature)

        def respond(decision: Decision) -> bytes:
            record = decision.results[0].record
            assert record is not None
            return _feature(Message.FromString(record)).SerializeToString()

        return await write(self._engine, request, [CreateEntity(entity)], respond, call)

    async def classify(self, request: api.ClassifyRequest, call: Call) -> Answer:
        """Tells what a plugin is for."""
        subject = _subject(request)
        revision = await self._current(0, call)
        if subject.feature and not _is_feature(self._engine.view, subject.feature, revision):
            expected = f"the id of a feature, got {shown(subject.feature)}"
            raise InvalidArgument.of("feature", expected)
        found = (await self._classifying.classifier()).classify(subject)
        return _classification(found, revision)

    async def list_rules(self, request: api.ListRulesRequest, call: Call) -> Answer:
        """Lists the rules."""
        revision = await self._current(request.min_revision, call)
        rules = [_rule(entity) for entity in self._catalogue.rules if rule_of(entity) is not None]
        if not request.users_only:
            rules += [_message(rule, built_in=True) for rule in self._built_in()]
        return api.ListRulesResponse(
            rules=[rule for rule in rules if request.feature in ("", rule.feature)],
            revision=revision,
        )

    async def create_rule(self, request: api.CreateRuleRequest, call: Call) -> Answer:
        """Creates a rule."""
        parsing.required("rule", request)
        rule = self._new_rule("rule", request.rule)
        await self._current(0, call)
        # Whether all of them can still be applied together.
        await asyncio.to_thread(with_rules, [*self._classifying.rules(), rule])

        def compose(view: View) -> Iterator[Mutation]:
            return reclassifying.create(view, rule)

        def respond(decision: Decision) -> bytes:
            record = decision.results[-1].record
            assert record is not None
            return _rule(Message.FromString(record)).SerializeToString()

        answer = await write(self._engine, request, [Composed(compose)], respond, call)
        if not request.dry_run:
            revision = ClassificationRule.FromString(answer).revision
            await self._catalogue.settled(revision, call.remaining())
        return answer

    async def delete_rule(self, request: api.DeleteRuleRequest, call: Call) -> Answer:
        """Deletes a rule."""
        self._refuse_built_in("id", request.id)

        def compose(view: View) -> Iterator[Mutation]:
            return reclassifying.remove(view, request.id)

        def respond(decision: Decision) -> bytes:
            return api.DeleteRuleResponse(revision=decision.revision).SerializeToString()

        answer = await write(self._engine, request, [Composed(compose)], respond, call)
        if not request.dry_run:
            revision = api.DeleteRuleResponse.FromString(answer).revision
            await self._catalogue.settled(revision, call.remaining())
        return answer

    async def reclassify(self, request: api.ReclassifyRequest, call: Call) -> Answer:
        """Changes rules, and classifies anew."""
        created = self._new_rules(request.create_rules)
        if len(request.delete_rules) > MAX_RULES:
            raise LimitExceeded("delete_rules", "max_rules", MAX_RULES, len(request.delete_rules))
        for number, rule_id in enumerate(request.delete_rules):
            self._refuse_built_in(f"delete_rules[{number}]", rule_id)
        revision = await self._current(0, call)
        gone = {*request.delete_rules}
        rules = [rule for rule in self._classifying.rules() if rule.id not in gone]
        with self._engine.pins.hold(revision):
            found = [*records_of_type(self._engine.view, PLUGIN, revision)]
        try:
            classifier, seen = await _seen([*rules, *created], found)
        except InvalidArgument as error:
            raise error.prefixed("create_rules") from None
        change = Reclassification(
            classifier,
            created,
            list(dict.fromkeys(request.delete_rules)),
            seen,
            request.allow_large or request.dry_run,
        )

        def respond(decision: Decision) -> bytes:
            return _reclassified(change, decision).SerializeToString()

        answer = await write(self._engine, request, [Composed(change.compose)], respond, call)
        if not request.dry_run:
            reached = api.ReclassifyResponse.FromString(answer).revision
            await self._catalogue.settled(reached, call.remaining())
        return answer

    async def _current(self, min_revision: int, call: Call) -> int:
        """The current revision, when it was taken in."""
        options = ReadOptions(min_revision=min_revision)
        revision = await self._engine.read_revision(options, call.remaining())
        await self._catalogue.reached(revision, call.remaining())
        return revision

    def _built_in(self) -> Sequence[Rule]:
        return [*self._classifying.more, *registry().rules]

    def _refuse_built_in(self, field: str, rule_id: str) -> None:
        parsing.resource_id(field, rule_id)
        if any(rule.id == rule_id for rule in self._built_in()):
            raise BuiltIn(rule_id)

    def _new_rule(self, field: str, message: ClassificationRule) -> Rule:
        rule = Rule(
            message.id or new_id(),
            message.match,
            message.feature,
            message.confidence,
            tuple(message.fields),
        )
        if violations := [*violations_of(rule)]:
            raise InvalidArgument(violations).prefixed(field)
        if any(rule.id == other.id for other in self._built_in()):
            raise IdTaken(rule.id)
        return rule

    def _new_rules(self, messages: Sequence[ClassificationRule]) -> list[Rule]:
        if len(messages) > MAX_RULES:
            raise LimitExceeded("create_rules", "max_rules", MAX_RULES, len(messages))
        found, violations = [], list[Violation]()
        for number, message in enumerate(messages):
            try:
                found.append(self._new_rule(f"create_rules[{number}]", message))
            except InvalidArgument as error:
                violations += error.violations
        if violations:
            raise InvalidArgument(violations)
        return found


async def _seen(
    rules: Iterable[Rule], records: Sequence[bytes]
) -> tuple[Classifier, dict[str, Seen]]:
    """A classifier of these rules, and what it says of the plugins that are classified."""

    def work() -> tuple[Classifier, dict[str, Seen]]:
        classifier, seen = with_rules(rules), {}
        for record in records:
            plugin = Message.FromString(record)
            if reclassifying.is_classified(plugin):
                found = classifier.classify(subject_of(plugin))
                seen[plugin.id] = Seen(plugin.revision, found)
        return classifier, seen

    return await in_thread(work)


def _is_feature(view: View, entity_id: str, revision: int) -> bool:
    found = reading.entity(view, entity_id, revision)
    return found is not None and found.type == FEATURE


def _subject(request: api.ClassifyRequest) -> Subject:
    violations = []
    if not request.name or not is_text(request.name):
        violations.append(Violation("name", f"required: {TEXT_RULE}, got {shown(request.name)}"))
    if len(request.description) > MAX_DESCRIPTION:
        violations.append(Violation("description", f"at most {MAX_DESCRIPTION} characters"))
    if len(request.tags) > MAX_TAGS:
        violations.append(Violation("tags", f"at most {MAX_TAGS}, got {len(request.tags)}"))
    if request.feature and not is_id(request.feature):
        violations.append(Violation("feature", "the id of a feature"))
    if violations:
        raise InvalidArgument(violations)
    return Subject(
        request.name,
        request.description,
        tuple(request.tags),
        MessageToDict(request.capabilities),
        request.feature,
    )


def _classification(found: Classification, revision: int) -> api.ClassifyResponse:
    return api.ClassifyResponse(
        feature=found.feature,
        confidence=found.confidence,
        candidates=[
            api.Candidate(
                feature=one.feature,
                confidence=one.confidence,
                reasons=[
                    api.Reason(
                        rule=reason.rule,
                        field=reason.field,
                        start=reason.start,
                        end=reason.end,
                        text=reason.text,
                    )
                    for reason in one.reasons[:MAX_REASONS]
                ],
            )
            for one in found.candidates
        ],
        revision=revision,
    )


def _reclassified(change: Reclassification, decision: Decision) -> api.ReclassifyResponse:
    moves = sorted(change.moves.items(), key=lambda move: (-move[1], move[0]))
    return api.ReclassifyResponse(
        total=change.total,
        moved=change.moves.total(),
        moves=[
            api.Move(count=count, to=move[1], examples=change.examples[move], **{"from": move[0]})
            for move, count in moves
        ],
        revision=decision.revision,
    )


def _feature_entity(message: Feature) -> Entity:
    feature_id = message.id or re.sub(r"[^a-z0-9]+", "-", message.name.lower()).strip("-")
    violations = []
    if not is_feature_id(feature_id):
        violations.append(Violation("id", f"{FEATURE_ID_RULE}, got {shown(feature_id)}"))
    if len(message.tags) > MAX_TAGS:
        violations.append(Violation("tags", f"at most {MAX_TAGS}, got {len(message.tags)}"))
    metadata = Struct()
    said = {field: getattr(message, field) for field in _FEATURE_TEXTS}
    metadata.update({field: text for field, text in said.items() if text})
    if message.tags:
        metadata.update({"tags": list(message.tags)})
    entity = Entity(feature_id, FEATURE, message.name, metadata=codec.pack(metadata))
    violations += [
        one for one in check_entity(entity, is_new=True) if one.field != "id" or not violations
    ]
    if violations:
        raise InvalidArgument(violations)
    return entity


def _feature(entity: Message) -> Feature:
    metadata = MessageToDict(entity.metadata)
    feature = Feature(
        id=entity.id,
        name=entity.name,
        tags=[str(tag) for tag in metadata.get("tags", ())],
        revision=entity.revision,
    )
    for field in _FEATURE_TEXTS:
        setattr(feature, field, str(metadata.get(field, "")))
    return feature


def _rule(entity: Message) -> ClassificationRule:
    rule = rule_of(entity)
    assert rule is not None
    return _message(rule, revision=entity.revision)


def _message(rule: Rule, *, built_in: bool = False, revision: int = 0) -> ClassificationRule:
    return ClassificationRule(
        id=rule.id,
        match=rule.match,
        feature=rule.feature,
        confidence=rule.confidence,
        fields=rule.fields,
        built_in=built_in,
        revision=revision,
    )
