"""Reading a WatchGraphRequest: what is asked, and how it is to be told."""

from __future__ import annotations

from dataclasses import dataclass

from hyper_registry.query.asking import asked
from hyper_registry.query.traversal import GraphQuestion
from hyper_registry.watch.request import DEFAULT_BOOKMARK_SECONDS, bookmark_seconds
from ose.registry.v1.graph_service_pb2 import WatchGraphRequest


@dataclass(frozen=True, slots=True)
class Plan:
    """A request that is well-formed; `resume_token` is empty for a new watch."""

    question: GraphQuestion
    resume_token: str
    bookmark_seconds: float
    with_previous: bool


def read_request(request: WatchGraphRequest) -> Plan:
    """The plan of a request. Raises InvalidArgument."""
    seconds = DEFAULT_BOOKMARK_SECONDS
    if request.HasField("bookmark_interval"):
        seconds = bookmark_seconds(request.bookmark_interval)
    return Plan(asked(request), request.resume_token, seconds, request.include_previous)
