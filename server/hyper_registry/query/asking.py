"""The question of a request that may ask any of the three: a stream, a watch or a comparison."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, Protocol

from hyper_registry.model.errors import InvalidArgument
from hyper_registry.model.relationship import DEPENDENCY_TYPES, Direction
from hyper_registry.query.traversal import GraphQuestion
from ose.registry.v1 import graph_service_pb2 as api

_DEFAULT_DEPTH = 1
_WAYS: dict[int, Direction] = {
    api.GRAPH_QUESTION_DEPENDENCIES: Direction.OUT,
    api.GRAPH_QUESTION_IMPACT: Direction.IN,
}


class Asking(Protocol):
    """The fields that StreamGraphRequest, WatchGraphRequest and DiffGraphRequest share."""

    @property
    def root_id(self) -> str:
        """The entity to start at."""

    @property
    def question(self) -> int:
        """Which question it is."""

    @property
    def depth(self) -> int:
        """How far to go, if it is set."""

    def HasField(self, field: Literal["depth"], /) -> bool:  # noqa: N802 - protobuf's name
        """Whether it is set."""

    @property
    def types(self) -> Collection[str]:
        """The relationship types to walk."""

    @property
    def direction(self) -> int:
        """Which way to walk."""

    @property
    def entity_types(self) -> Collection[str]:
        """The entity types to enter."""

    @property
    def filter(self) -> str:
        """What must hold for an entity to be entered."""


def asked(request: Asking) -> GraphQuestion:
    """What a request asks, with the defaults of its question.

    Raises LimitExceeded, FilterInvalid or another InvalidArgument.
    """
    kind = request.question or api.GRAPH_QUESTION_GRAPH
    depth = request.depth if request.HasField("depth") else None
    types, direction = request.types, request.direction
    if kind in _WAYS:
        if direction:
            raise InvalidArgument.of(
                "direction", f"only for the question GRAPH, got {int(direction)}"
            )
        direction = _WAYS[kind]
        types = types or DEPENDENCY_TYPES
    elif kind != api.GRAPH_QUESTION_GRAPH:
        raise InvalidArgument.of("question", f"a value of its enum, got {int(kind)}")
    elif depth is None:
        depth = _DEFAULT_DEPTH
    return GraphQuestion.parse(
        request.root_id,
        direction or Direction.OUT,
        depth,
        types,
        request.entity_types,
        filter=request.filter,
    )
