"""How methods are bound to HTTP, by their `google.api.http` annotations."""

from __future__ import annotations

from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import MethodDescriptor

__all__ = ["only_reads", "rules_of"]


def rules_of(method: MethodDescriptor) -> list[http_pb2.HttpRule]:
    """The bindings of a method."""
    options: Any = method.GetOptions()
    rule = options.Extensions[annotations_pb2.http]
    return [rule, *rule.additional_bindings]


def only_reads(method: MethodDescriptor) -> bool:
    """Whether a method changes nothing, so that it may be called once more."""
    (rule, *_) = rules_of(method)
    return bool(rule.get) or rule.post.endswith(("/search", ":simulate"))
