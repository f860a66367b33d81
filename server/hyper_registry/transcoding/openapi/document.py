"""The document: an operation for each binding of a method, and what they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.rpc import status_pb2

from hyper_registry.transcoding.bindings import WHOLE, Binding
from hyper_registry.transcoding.fields import NoField, field_at
from hyper_registry.transcoding.openapi.comments import comment_of, summary_of
from hyper_registry.transcoding.openapi.schemas import Schema, Schemas, is_required
from hyper_registry.transcoding.replies import is_resource
from hyper_registry.transcoding.requests import EXPECTED_REVISION, IDEMPOTENCY_KEY, RESUME_TOKEN

_JSON = "application/json"
_ETAG_TEXT = (
    "The resource's revision, quoted; with that of its health behind a dot if others have changed "
    "it since."
)
_PROBLEM = {"$ref": "#/components/responses/Error"}
_ABOUT = """\
Every method of the gRPC API that has an HTTP binding. Field names are in snake_case, enum values
are short and lower case, 64-bit integers are strings; input takes camelCase, full enum names and
numbers as well. A list of resources is an array, whose next page is in `Link` and
`X-Next-Page-Token`. Errors are `google.rpc.Status`."""


def document(
    bindings: Iterable[Binding], version: str, extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these bindings; `extra` are paths that are served beside them."""
    schemas = Schemas()
    problem = schemas.message(cast("Descriptor", status_pb2.Status.DESCRIPTOR))
    schemas.components["Status"] |= {
        "description": "An error: its gRPC code, a message for people, and details with `@type`."
    }
    paths: dict[str, dict[str, Any]] = {}
    services: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for binding in bindings:
        service = binding.method.descriptor.containing_service
        services[service.name] = comment_of(service.full_name)
        operation = _operation(binding, schemas)
        counts[operation["operationId"]] += 1
        if (count := counts[operation["operationId"]]) > 1:
            operation["operationId"] += f"_{count}"
        paths.setdefault(_path(binding), {})[binding.http_method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Universal Registry",
            "version": version,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": said} for name, said in services.items()],
        "paths": paths | dict(extra or {}),
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "responses": {
                "Error": {
                    "description": "The call was refused, or failed.",
                    "content": {_JSON: {"schema": problem}},
                }
            },
        },
    }


def _path(binding: Binding) -> str:
    """The template as OpenAPI writes it."""
    template = binding.template
    segments = [*template.segments]
    for variable in reversed(template.variables):
        segments[variable.start : variable.end] = [f"{{{_short(variable.field)}}}"]
    return "/".join(("", *segments)) + (f":{template.verb}" if template.verb else "")


def _short(field: str) -> str:
    """What a variable is called: paths that differ in names only are one path, with one name."""
    return field.rpartition(".")[2]


def _operation(binding: Binding, schemas: Schemas) -> dict[str, Any]:
    method = binding.method.descriptor
    said = comment_of(method.full_name)
    operation: dict[str, Any] = {
        "operationId": f"{method.containing_service.name}_{method.name}",
        "tags": [method.containing_service.name],
        "summary": summary_of(said),
        "description": said,
        "parameters": [
            *_variables(binding, schemas),
            *_query(binding, schemas),
            *_headers(binding),
        ],
        "responses": {"200": _response(binding, schemas), "default": _PROBLEM},
    }
    if body := _body(binding, schemas):
        operation["requestBody"] = body
    if not operation["parameters"]:
        del operation["parameters"]
    return operation


# What is sent


def _variables(binding: Binding, schemas: Schemas) -> Iterator[Schema]:
    request = binding.method.descriptor.input_type
    for variable in binding.template.variables:
        field = field_at(request, variable.field).form.descriptor
        yield _parameter("path", _short(variable.field), field, schemas) | {"required": True}


def _query(binding: Binding, schemas: Schemas) -> Iterator[Schema]:
    """A parameter for every field that is neither in the path nor in the body."""
    request = binding.method.descriptor.input_type
    if binding.body == WHOLE:
        return
    bound = {variable.field for variable in binding.template.variables}
    for path, field in _settable(request, ""):
        if path in bound or path.split(".")[0] == binding.body:
            continue
        yield _parameter("query", path, field, schemas)


def _settable(message: Descriptor, prefix: str) -> Iterator[tuple[str, FieldDescriptor]]:
    """The fields that text can set, within messages too."""
    for field in message.fields:
        path = f"{prefix}{field.name}"
        try:
            field_at(message, field.name)
        except NoField:
            if field.message_type is not None and not field.is_repeated:
                yield from _settable(field.message_type, f"{path}.")
        else:
            yield path, field


def _parameter(place: str, name: str, field: FieldDescriptor, schemas: Schemas) -> Schema:
    schema = schemas.field(field, described=False)
    parameter: Schema = {"name": name, "in": place, "schema": schema}
    if said := comment_of(field.full_name):
        parameter["description"] = said
    if is_required(field) and "." not in name:
        parameter["required"] = True
    if field.is_repeated:
        parameter |= {"style": "form", "explode": True}
    return parameter


def _headers(binding: Binding) -> Iterator[Schema]:
    """The headers that stand for fields."""
    fields = binding.method.descriptor.input_type.fields_by_name
    for name, header in (
        (IDEMPOTENCY_KEY, "Idempotency-Key"),
        (EXPECTED_REVISION, "If-Match"),
        (RESUME_TOKEN, "Last-Event-ID"),
    ):
        if name in fields:
            yield {
                "name": header,
                "in": "header",
                "description": f"The same as `{name}`"
                + ("; 412 if it is not the current one." if header == "If-Match" else "."),
                "schema": {"type": "string"},
            }


def _body(binding: Binding, schemas: Schemas) -> Schema | None:
    method = binding.method.descriptor
    if not binding.body:
        return None
    if binding.body == WHOLE:
        schema = _without_variables(binding, schemas)
    else:
        field: Any = method.input_type.fields_by_name[binding.body]
        schema = schemas.field(field, described=False)
    media = "application/x-ndjson" if method.client_streaming else _JSON
    content: Schema = {"schema": schema}
    if method.client_streaming:
        return {"description": "A message a line.", "content": {media: content}}
    # A request in which nothing is required may be left out.
    is_needed = binding.body != WHOLE or any(map(is_required, method.input_type.fields))
    return {"required": is_needed, "content": {media: content}}


def _without_variables(binding: Binding, schemas: Schemas) -> Schema:
    request = binding.method.descriptor.input_type
    bound = {variable.field for variable in binding.template.variables}
    if not bound:
        return schemas.message(request)
    return schemas.inline(request, (field for field in request.fields if field.name not in bound))


# What is answered


def _response(binding: Binding, schemas: Schemas) -> Schema:
    method = binding.method.descriptor
    response = method.output_type
    schema = (
        schemas.message(response)
        if binding.answer is None
        else schemas.field(binding.answer, described=False)
    )
    described = comment_of(response.full_name) or "The answer."
    if method.server_streaming:
        return {"description": described, "content": _streamed(response, schema)}
    answer: Schema = {"description": described, "content": {_JSON: {"schema": schema}}}
    if headers := dict(_answer_headers(binding, response)):
        answer["headers"] = headers
    return answer


def _streamed(response: Descriptor, schema: Schema) -> Schema:
    line = {
        "oneOf": [
            {"type": "object", "properties": {"result": schema}, "required": ["result"]},
            {
                "type": "object",
                "properties": {"error": {"$ref": "#/components/schemas/Status"}},
                "required": ["error"],
            },
        ]
    }
    forms: Schema = {
        "application/x-ndjson": {"schema": line},
        "text/event-stream": {"schema": {"type": "string"}},
    }
    data = response.fields_by_name.get("data")
    if data is not None and data.type == FieldDescriptor.TYPE_BYTES:
        forms["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    return forms


def _answer_headers(binding: Binding, response: Descriptor) -> Iterator[tuple[str, Schema]]:
    text = {"schema": {"type": "string"}}
    if binding.answer is None:
        if is_resource(response):
            yield (
                "ETag",
                {"description": _ETAG_TEXT} | text,
            )
        return
    if "revision" in response.fields_by_name:
        yield "Registry-Revision", {"description": "The revision that the answer is of."} | text
    if "next_page_token" in response.fields_by_name:
        yield "X-Next-Page-Token", {"description": "Asks for the next page."} | text
        yield "Link", {"description": 'The next page, as `rel="next"`.'} | text
