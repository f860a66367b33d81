"""What `watch --graph` and `diff` have in common: which question about the graph is meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast

import click

from nexus_registry.arguments import flat

if TYPE_CHECKING:
    from ose.registry.client import Direction, GraphQuestion, WalkOptions

__all__ = ["QuestionOptions", "question_of", "question_options", "walk_of"]

F = TypeVar("F", bound=Callable[..., Any])


class QuestionOptions(TypedDict):
    """The two arguments of a client's method that say which question it is."""

    question: GraphQuestion.ValueType
    direction: Direction.ValueType


def question_options(command: F) -> F:
    """`--deps`, `--impact`, `--depth` and `--direction`; `question_of` makes arguments of them."""
    for option in (
        click.option(
            "--direction",
            type=click.Choice(["out", "in", "both"]),
            help="Of the surroundings: from source to target (the default), against it, or both.",
        ),
        click.option(
            "--depth",
            type=click.IntRange(min=0),
            metavar="N",
            help="How many steps to go at most. Default: 1 for the surroundings, else no limit.",
        ),
        click.option("--impact", is_flag=True, help="Everything that needs the entity."),
        click.option("--deps", is_flag=True, help="Everything that the entity needs."),
    ):
        command = option(command)
    return command


def question_of(values: dict[str, Any]) -> QuestionOptions:
    """The question that the options mean. Raises click.UsageError if they mean several."""
    from ose.registry.client import Direction, GraphQuestion

    deps, impact, direction = values["deps"], values["impact"], values["direction"]
    if deps and impact:
        raise click.UsageError("give one of --deps and --impact")
    if direction and (deps or impact):
        raise click.UsageError("--direction is for the surroundings, without --deps or --impact")
    name = "DEPENDENCIES" if deps else "IMPACT" if impact else "GRAPH"
    way = direction.upper() if direction else "UNSPECIFIED"
    return {
        "question": GraphQuestion.Value(f"GRAPH_QUESTION_{name}"),
        "direction": Direction.Value(f"DIRECTION_{way}"),
    }


def walk_of(values: dict[str, Any]) -> WalkOptions:
    """How far to walk and along what, as arguments of a client's method."""
    given = {
        "depth": values["depth"],
        "types": flat(values["types"]),
        "entity_types": flat(values["entity_types"]),
        "filter": values["filter"],
    }
    return cast("WalkOptions", given)
