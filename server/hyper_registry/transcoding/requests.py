"""HTTP requests as request messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from hyper_registry.model import errors
from hyper_registry.model.errors import InvalidArgument
from hyper_registry.transcoding.bindings import WHOLE, Binding
from hyper_registry.transcoding.documents import loads
from hyper_registry.transcoding.fields import Field, NoField, field_at
from hyper_registry.transcoding.routes import Captures
from ose.registry.jsonform import FormError, Violation, fields_of, from_dict

IDEMPOTENCY_KEY = "idempotency_key"
EXPECTED_REVISION = "expected_revision"
RESUME_TOKEN = "resume_token"
_MASK = "update_mask"
_MAX_PARAMETERS = 10_000
_NEVER_CHANGED = frozenset({field_behavior_pb2.OUTPUT_ONLY, field_behavior_pb2.IMMUTABLE})


class RequestReader:
    """Makes the request messages of one binding."""

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._type = binding.method.request
        self._descriptor = binding.method.descriptor.input_type
        self._bound = {
            variable.field: field_at(self._descriptor, variable.field)
            for variable in binding.template.variables
        }
        self._parameters: dict[str, Field] = {}
        self._changeable = _changeable(binding, self._bound.values())

    def read(self, captures: Captures, query: bytes, body: bytes) -> Message:
        """The message of a request. Raises InvalidArgument that names every field at fault."""
        message = self._type()
        violations: list[Violation] = []
        document = self._read_body(body, message, violations) if body else None
        for variable, text in captures:
            field = self._bound[variable.field]
            if document is None:
                field.put(message, text, variable.field, violations)
            else:
                self._put_captured(message, field, text, violations)
        if query:
            self._read_query(query, message, violations)
        _check(violations)
        if self._changeable and isinstance(document, dict):
            self._derive_mask(document, message)
        return message

    def read_line(self, line: bytes, number: int) -> Message:
        """One message of a stream of them. Raises InvalidArgument that names line and field."""
        message = self._type()
        violations: list[Violation] = []
        _fill(loads(line, f"line {number}"), message, violations)
        if violations:
            raise _refusal(violations).prefixed(f"line {number}")
        return message

    def put_header(self, message: Message, name: str, text: str, header: str) -> bool:
        """Sets the field that a header stands for; False if the request has none of this name.

        Raises InvalidArgument if the field says something else.
        """
        if name not in self._descriptor.fields_by_name:
            return False
        field, violations = field_at(self._descriptor, name), list[Violation]()
        before = getattr(message, name)
        field.put(message, text, header, violations)
        if before and before != getattr(message, name):
            violations.append(Violation(header, f"not together with another {name}"))
        _check(violations)
        return True

    def _read_body(self, body: bytes, message: Message, violations: list[Violation]) -> Any:
        if not self._binding.body:
            violations.append(Violation("body", "none: the request is in its path and query"))
            return None
        document = loads(body)
        whole = document if self._binding.body == WHOLE else {self._binding.body: document}
        _fill(whole, message, violations)
        return document

    def _put_captured(
        self, message: Message, field: Field, text: str, violations: list[Violation]
    ) -> None:
        owner, name = field.owner(message), field.path[-1]
        before = getattr(owner, name)
        shown = ".".join(field.path)
        field.put(message, text, shown, violations)
        if before and before != getattr(owner, name):
            violations.append(Violation(shown, f"{text!r} in the path, {before!r} in the body"))

    def _read_query(self, query: bytes, message: Message, violations: list[Violation]) -> None:
        seen: dict[object, str] = {}
        for name, texts in _parameters(query).items():
            try:
                field = self._parameter(name)
            except NoField as error:
                violations.append(Violation(name, str(error)))
                continue
            group = field.form.group and (*field.path[:-1], field.form.group)
            if clash := seen.get(field.path) or (group and seen.get(group)):
                violations.append(Violation(name, f"given together with {clash!r}"))
                continue
            seen[field.path] = name
            if group:
                seen[group] = name
            if field.form.descriptor.is_repeated:
                field.put_all(message, texts, name, violations)
            elif len(texts) > 1:
                violations.append(Violation(name, f"expected one value, got {len(texts)}"))
            else:
                field.put(message, texts[0], name, violations)

    def _parameter(self, name: str) -> Field:
        """The field of a query parameter. Raises NoField."""
        if (field := self._parameters.get(name)) is None:
            field = field_at(self._descriptor, name)
            if self._binding.body in (WHOLE, field.path[0]):
                raise NoField("it belongs into the body")
            if ".".join(field.path) in self._bound:
                raise NoField("it stands in the path")
            # Only names of fields get here, so there are few.
            self._parameters[name] = field
        return field

    def _derive_mask(self, document: Mapping[str, Any], message: Any) -> None:
        """What a PATCH without a mask changes is what its body names."""
        if not message.HasField(_MASK):
            named = map(self._changeable.get, document)
            message.update_mask.paths.extend(dict.fromkeys(filter(None, named)))


def _changeable(binding: Binding, bound: Any) -> dict[str, str]:
    """The fields that a derived mask may name, by their names in JSON; none if none is derived."""
    request = binding.method.descriptor.input_type
    mask = request.fields_by_name.get(_MASK)
    if binding.http_method != "PATCH" or mask is None or binding.body in ("", WHOLE):
        return {}
    resource: Descriptor | None = request.fields_by_name[binding.body].message_type
    if resource is None:
        return {}
    fixed = {field.path[1:] for field in bound}
    return {
        name: form.name
        for name, form in fields_of(resource).items()
        if (form.name,) not in fixed and not _NEVER_CHANGED & _behaviour(form.descriptor)
    }


def _behaviour(field: FieldDescriptor) -> set[int]:
    extensions: Any = field.GetOptions().Extensions
    return set(extensions[field_behavior_pb2.field_behavior])


def _parameters(query: bytes) -> dict[str, list[str]]:
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MAX_PARAMETERS,
        )
    except UnicodeDecodeError:
        raise InvalidArgument.of("query", "percent-encoded UTF-8") from None
    except ValueError:
        raise InvalidArgument.of("query", f"at most {_MAX_PARAMETERS} parameters") from None
    found: dict[str, list[str]] = {}
    for name, text in pairs:
        found.setdefault(name, []).append(text)
    return found


def _fill(document: Any, message: Message, violations: list[Violation]) -> None:
    try:
        from_dict(document, message)
    except FormError as error:
        violations += error.violations


def _check(violations: list[Violation]) -> None:
    if violations:
        raise _refusal(violations)


def _refusal(violations: list[Violation]) -> InvalidArgument:
    return InvalidArgument(errors.Violation(v.path, v.description) for v in violations)
