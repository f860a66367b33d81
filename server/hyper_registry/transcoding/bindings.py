"""Which HTTP requests are which calls: read from the descriptors when the server is built."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from hyper_registry.services.methods import Method, Service, methods
from hyper_registry.transcoding.fields import NoField, field_at
from hyper_registry.transcoding.routes import Routes
from hyper_registry.transcoding.templates import Template, TemplateError, parse

WHOLE = "*"
"""The `body` of a rule whose body is the whole request."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One rule: `body` is '*', the name of a field, or '' if there is none.

    `answer` is the field of the response that is answered; None is all of it.
    """

    method: Method
    http_method: str
    template: Template
    body: str
    answer: FieldDescriptor | None


def bindings(services: Iterable[Service]) -> Iterator[Binding]:
    """The bindings of every method that has a `google.api.http` annotation.

    Raises TemplateError for a rule that cannot be served.
    """
    for service in services:
        for method in methods(service):
            options: Any = method.descriptor.GetOptions()
            if options.HasExtension(annotations_pb2.http):
                rule = options.Extensions[annotations_pb2.http]
                for each in (rule, *rule.additional_bindings):
                    yield bind(method, each)


def routes(every: Iterable[Binding]) -> Routes[Binding]:
    """The routes of bindings. Raises TemplateError if two cannot be told from each other."""
    found: Routes[Binding] = Routes()
    for binding in every:
        found.add(binding.http_method, binding.template, binding)
    return found


def bind(method: Method, rule: http_pb2.HttpRule) -> Binding:
    """The binding of one rule. Raises TemplateError."""
    pattern = rule.WhichOneof("pattern")
    if pattern is None:
        raise TemplateError(f"{method.name}: a rule without a path")
    if pattern == "custom":
        http_method, path = rule.custom.kind, rule.custom.path
    else:
        http_method, path = pattern.upper(), getattr(rule, pattern)
    template = parse(path)
    request, response = method.descriptor.input_type, method.descriptor.output_type
    for variable in template.variables:
        _check_variable(request, variable.field, template)
    if rule.body not in ("", WHOLE):
        _field(request, rule.body, template)
    answer = _field(response, rule.response_body, template) if rule.response_body else None
    return Binding(method, http_method, template, rule.body, answer)


def _check_variable(request: Descriptor, path: str, template: Template) -> None:
    try:
        field = field_at(request, path).form.descriptor
    except NoField as error:
        raise TemplateError(f"{template.text!r}: {path}: {error}") from None
    if field.is_repeated or field.message_type is not None:
        raise TemplateError(f"{template.text!r}: {path} is no single value")


def _field(message: Descriptor, name: str, template: Template) -> FieldDescriptor:
    field: Any = message.fields_by_name.get(name)
    if field is None:
        raise TemplateError(f"{template.text!r}: {message.name} has no field {name}")
    return field  # type: ignore[no-any-return]
