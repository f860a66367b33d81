"""What the commands of `plan` have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nexus_registry.failures import CONFLICT, Failure
from nexus_registry.rendering.plans import plan_lines
from nexus_registry.rendering.plugins import names_of
from nexus_registry.rendering.words import counted
from nexus_registry.session import Session
from ose.registry.jsonform import to_dict

if TYPE_CHECKING:
    from ose.registry.v1.plugin_service_pb2 import PlanChangeResponse

__all__ = ["exit_code_option", "show_plan"]

F = TypeVar("F", bound=Callable[..., Any])


def exit_code_option(command: F) -> F:
    """`--exit-code`; the command gets `exit_code`, for `show_plan`."""
    return click.option(
        "--exit-code", is_flag=True, help="End with exit code 4 if something would break."
    )(command)


def show_plan(session: Session, change: str, answer: PlanChangeResponse, exit_code: bool) -> None:
    """Shows an answer; `change` says what would be done.

    Raises Failure (4) if something would break and `exit_code` is set.
    """
    if not session.as_table:
        session.output.value(to_dict(answer))
    else:
        bindings = [*answer.broken, *answer.rebound, *answer.satisfied]
        owners = [one.requirement.plugin_id for one in bindings]
        names = names_of(session.client, [*owners, *answer.reached], {})
        session.output.line(f"{change} (revision {answer.revision}):")
        session.output.lines(plan_lines(answer, names))
    if exit_code and answer.broken:
        raise Failure(f"{counted(len(answer.broken), 'requirement')} would break", CONFLICT)
