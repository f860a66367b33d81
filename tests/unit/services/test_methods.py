"""Methods as transports see them, and answers from other threads."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hyper_registry.model.errors import EntityNotFound
from hyper_registry.services.calls import Call
from hyper_registry.services.entity_service import EntityService
from hyper_registry.services.methods import Method, look, looks, methods, request_id
from ose.registry.v1 import entity_pb2, entity_service_pb2
from ose.registry.v1.entity_service_pb2 import GetEntityRequest

CALL = Call("ose.registry.v1.EntityService/GetEntity")


class Sample:
    """A service whose one looking method does what it is told by the id."""

    descriptor = entity_service_pb2.DESCRIPTOR.services_by_name["EntityService"]

    def __init__(self) -> None:
        self.generation = object()

    @looks
    async def get_entity(self, request: GetEntityRequest, _call: Call) -> Any:
        """Answers, fails or waits, and has the view replaced meanwhile if the id says so."""
        if "new" in request.id:
            self.generation = object()
        if "fail" in request.id:
            raise EntityNotFound(request.id, 1)
        if "wait" in request.id:
            await asyncio.sleep(0)
        return entity_pb2.Entity(id=request.id)

    def __getattr__(self, name: str) -> Any:
        return self.get_entity


def looked(id_: str, **options: Any) -> Any:
    """What a look at an entity finds."""
    sample = Sample()
    return look(get_entity(sample), GetEntityRequest(id=id_, **options), CALL,
                lambda: sample.generation)  # fmt: skip


def get_entity(sample: Sample) -> Method:
    """The method of this name."""
    return next(m for m in methods(sample) if m.descriptor.name == "GetEntity")


def test_a_look_answers_or_fails_as_the_method_does() -> None:
    """Without a loop, and so in any thread."""
    assert looked("a").id == "a"
    with pytest.raises(EntityNotFound):
        looked("fail")


def test_what_was_found_in_a_view_that_was_replaced_does_not_count() -> None:
    """Neither an answer nor that there is none: the method is to be asked properly."""
    assert looked("new") is None
    assert looked("new-fail") is None


@pytest.mark.parametrize(
    "options", [{"at_revision": 1}, {"min_revision": 1}, {"at_time": {"seconds": 1}}]
)
def test_only_the_present_is_looked_at(options: dict[str, Any]) -> None:
    """Other revisions may have to be waited for, or are kept by what other threads may not see."""
    assert looked("a", **options) is None


def test_a_look_that_waits_is_a_mistake() -> None:
    """It is found at once, and does not hang."""
    with pytest.raises(RuntimeError, match="waits"):
        looked("wait")


def test_only_methods_that_are_marked_are_looks() -> None:
    """The real ones: point reads."""
    service: Any = EntityService(None)  # type: ignore[arg-type]
    found = {m.descriptor.name for m in methods(service) if m.is_look}
    assert found == {"GetEntity", "BatchGetEntities"}


@pytest.mark.parametrize(
    ("named", "taken"),
    [
        (None, ""),
        ("", ""),
        ("a.b:c-1_2", "a.b:c-1_2"),
        ("two words", ""),
        ("x" * 129, ""),
        ("é", ""),
    ],
)
def test_request_ids(named: str | None, taken: str) -> None:
    """What could break a log or a header is not taken."""
    assert request_id(named) == taken
