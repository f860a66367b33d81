"""HTTP requests as messages: path, query, body and headers together."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.model.errors import InvalidArgument
from hyper_registry.services.methods import Service, methods
from hyper_registry.transcoding.bindings import bind, bindings, routes
from hyper_registry.transcoding.requests import RequestReader
from hyper_registry.transcoding.templates import TemplateError
from ose.registry.jsonform import to_dict
from ose.registry.v1 import entity_service_pb2, relationship_service_pb2
from tests.unit.transcoding.sample import Everything, Sample

ROUTES = routes(bindings([Sample()]))


class Described:
    """A service of the API of which nothing is called."""

    def __init__(self, descriptor: Any) -> None:
        self.descriptor = descriptor

    def __getattr__(self, name: str) -> Any:
        return name


ENTITIES = routes(
    bindings(
        [
            Described(entity_service_pb2.DESCRIPTOR.services_by_name["EntityService"]),
            Described(relationship_service_pb2.DESCRIPTOR.services_by_name["RelationshipService"]),
        ]
    )
)


def read(request: str, body: object = None, made: Any = ROUTES) -> Any:
    """The message of a request such as `GET /v1/shown/a?flag=true`.

    A body that is not bytes is written as JSON.
    """
    method, _, target = request.partition(" ")
    path, _, query = target.partition("?")
    binding, captures = made.find(method, path)
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return RequestReader(binding).read(captures, query.encode(), data)


def shown(query: str) -> dict[str, Any]:
    """The fields that a query sets."""
    message = read(f"GET /v1/shown/x?{query}")
    message.ClearField("text")
    form = to_dict(message)
    return {field.name: form[field.name] for field, _ in message.ListFields()}


def refused(request: str, body: object = None, made: Any = ROUTES) -> dict[str, str]:
    """What is wrong with a request, by field."""
    with pytest.raises(InvalidArgument) as caught:
        read(request, body, made)
    return {v.field: v.description for v in caught.value.violations}


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("small=2&inner.small=3", {"small": 2, "inner": {"small": 3, "text": "", "texts": []}}),
        ("colour=COLOUR_RED", {"colour": "red"}),
        ("colour=red", {"colour": "red"}),
        ("colour=Dark_Blue", {"colour": "dark_blue"}),
        ("colour=2", {"colour": "dark_blue"}),
        ("raw=YWJjMTIzIT8kKiYoKSctPUB-", {"raw": "YWJjMTIzIT8kKiYoKSctPUB+"}),
        ("raw=YWJjMTIzIT8kKiYoKSctPUB+", {"raw": "YWJjMTIzIT8kKiYoKSctPUB+"}),
        ("maybe_large=-1&maybe_flag=true", {"maybe_large": "-1", "maybe_flag": True}),
        ("maybe_raw=-_8", {"maybe_raw": "+/8="}),
        ("large=9223372036854775807", {"large": "9223372036854775807"}),
        ("real=1e3&single=-0.5", {"real": 1000.0, "single": -0.5}),
        ("flag=1", {"flag": True}),
        ("flag=True", {"flag": True}),
        ("maybe_small=0", {"maybe_small": 0}),
        ("firstChoice=Hello%20world", {"first_choice": "Hello world"}),
        ("first_choice=a+b%2B", {"first_choice": "a b+"}),
        ("inner.inner.text=deep", {"inner": {"text": "", "small": 0, "texts": [],
                                             "inner": {"text": "deep", "small": 0, "texts": []}}}),
        ("texts=a&texts=b", {"texts": ["a", "b"]}),
        ("texts=a,b&texts=c", {"texts": ["a", "b", "c"]}),
        ("texts=a%2Cb", {"texts": ["a", "b"]}),
        ("texts=a%5C,b,c", {"texts": ["a,b", "c"]}),
        ("smalls=1,2", {"smalls": [1, 2]}),
        ("colours=red,2", {"colours": ["red", "dark_blue"]}),
        ("inner.texts=a,b", {"inner": {"text": "", "small": 0, "texts": ["a", "b"]}}),
        ("time=2025-01-01T01:00:00%2B01:00", {"time": "2025-01-01T00:00:00Z"}),
        ("time=2025-01-01T01:00:00+01:00", {"time": "2025-01-01T00:00:00Z"}),
        ("times=2025-01-01T00:00:00Z,2025-01-01T00:00:01Z",
         {"times": ["2025-01-01T00:00:00Z", "2025-01-01T00:00:01Z"]}),
        ("age=1.5s", {"age": "1.500s"}),
        ("mask=text,object.someKey", {"mask": "text,object.someKey"}),
        ("object=%7B%22a%22:%5B1%5D%7D", {"object": {"a": [1]}}),
    ],
)  # fmt: skip
def test_query_parameters(query: str, fields: dict[str, Any]) -> None:
    """Each kind of field, in each spelling."""
    assert shown(query) == fields


@pytest.mark.parametrize(
    ("query", "name", "part"),
    [
        ("natural=1&natural=2", "natural", "one value, got 2"),
        ("natural=-1", "natural", "an integer from 0"),
        ("inners.text=1", "inners.text", "list or a map"),
        ("colour.sub=x", "colour.sub", "has no fields"),
        ("time.seconds=1", "time.seconds", "has no fields"),
        ("text.sub=x", "text.sub", "has no fields"),
        ("counts.a=1", "counts.a", "list or a map"),
        ("counts=1", "counts", "set its fields"),
        ("inner=1", "inner", "set its fields"),
        ("inners=1", "inners", "set its fields"),
        ("nmae=1", "nmae", "no such field"),
        ("inner.nmae=1", "inner.nmae", "no such field"),
        ("=1", "", "no such field"),
        ("inner.=1", "inner.", "no such field"),
        ("text=y", "text", "in the path"),
        ("flag=maybe", "flag", "true or false"),
        ("flag=", "flag", "true or false"),
        ("small=", "small", "an integer"),
        ("small=1.5", "small", "an integer"),
        ("small=1,2", "small", "an integer"),
        ("smalls=1,x", "smalls[1]", "an integer"),
        ("colour=green", "colour", "one of red, dark_blue"),
        ("colour=99999999999", "colour", "one of red, dark_blue"),
        ("raw=!", "raw", "base64"),
        ("time=yesterday", "time", "a time such as"),
        ("age=1", "age", "a duration such as"),
        ("object=x", "object", "an object"),
        ("object=[]", "object", "an object"),
        ("maybe_small=1&maybeSmall=1", "maybeSmall", "given together with 'maybe_small'"),
        ("first_choice=a&second_choice=1", "second_choice", "given together with 'first_choice'"),
        ("texts=%FF", "query", "UTF-8"),
        ("small=%C3%28", "query", "UTF-8"),
    ],
)
def test_what_is_wrong_with_a_query_is_named(query: str, name: str, part: str) -> None:
    """The parameter, and what was expected."""
    found = refused(f"GET /v1/shown/x?{query}")
    assert list(found) == [name]
    assert part in found[name]


def test_everything_wrong_is_named_at_once() -> None:
    """In path, query and body."""
    found = refused("PUT /v1/taken/a:deep?small=x&nmae=1&inner.small=2", {"small": "y", "x": 1})
    assert set(found) == {"inner.small", "inner.x", "small", "nmae"}


def test_a_flood_of_parameters_is_refused() -> None:
    """More than there is sense in."""
    assert "query" in refused("GET /v1/shown/x?" + "&".join(["texts=a"] * 10_001))


def test_no_body_takes_the_rest_from_the_query() -> None:
    """The path binds some fields; everything else is a parameter."""
    message = read("GET /v1/of/a/shown/b?small=2&inner.small=3")
    assert message == Everything(text="b", small=2, inner={"text": "a", "small": 3})


def test_a_body_that_is_the_request() -> None:
    """The path adds to it, and there are no parameters."""
    assert read("POST /v1/taken/1", {"small": 2}) == Everything(text="1", small=2)
    assert read("POST /v1/taken/1") == Everything(text="1")
    assert refused("POST /v1/taken/1?small=2", {}) == {"small": "it belongs into the body"}


def test_a_body_that_is_a_field() -> None:
    """Everything else is a parameter."""
    found = read("POST /v1/inner?flag=true", {"small": 1})
    assert found == Everything(inner={"small": 1}, flag=True)
    assert read("POST /v1/list?flag=true", ["a", "b"]) == Everything(texts=["a", "b"], flag=True)
    assert refused("POST /v1/inner?inner.text=x", {}) == {"inner.text": "it belongs into the body"}
    assert refused("POST /v1/inner", []) == {"inner": "expected an object (Inner), got a list"}
    assert not read("POST /v1/inner").HasField("inner")


def test_a_field_in_path_and_body() -> None:
    """They may say the same, and must not say different things."""
    assert read("POST /v1/taken/1", {"text": "1"}).text == "1"
    assert refused("POST /v1/taken/1", {"text": "2"}) == {
        "text": "'1' in the path, '2' in the body"
    }
    found = refused("PUT /v1/taken/1:deep", {"text": "2"})
    assert found == {"inner.text": "'1' in the path, '2' in the body"}


def test_a_body_where_there_is_none() -> None:
    """It is refused, and not passed over."""
    assert list(refused("GET /v1/shown/x", {"small": 1})) == ["body"]


@pytest.mark.parametrize("body", [b"null", b"[]", b"1", b'"x"', b"{", b"{} {}", b"\xff", b"\x00"])
def test_a_body_that_is_no_object(body: bytes) -> None:
    """It is refused."""
    refused("POST /v1/taken/1", body)


def test_body_paths_are_those_of_the_request() -> None:
    """An error names a field as gRPC would, with the field that the body is."""
    found = refused("POST /api/v1/entities", {"metadata": {"a": [{"b": 2**60}]}}, ENTITIES)
    assert list(found) == ["entity.metadata.a[0].b"]


@pytest.mark.parametrize(
    ("query", "body", "paths"),
    [
        ("", {"status": "active", "metadata": {"a": 1}}, ["status", "metadata"]),
        ("", {"version": None, "labels": {}}, ["version", "labels"]),
        ("", {"id": "x", "type": "service", "revision": "7", "created_at": None}, []),
        ("", {}, []),
        ("?update_mask=metadata.a,name", {"metadata": {"a": 1}}, ["metadata.a", "name"]),
        ("?updateMask=name", {"status": "active"}, ["name"]),
    ],
)
def test_a_patch_without_a_mask_changes_what_its_body_names(
    query: str, body: dict[str, Any], paths: list[str]
) -> None:
    """Maps are replaced whole, null empties a field, and a mask that is given counts.

    What cannot be changed is not named, so an answer can be sent back as it came.
    """
    message = read(f"PATCH /api/v1/entities/x{query}", body, ENTITIES)
    assert list(message.update_mask.paths) == paths
    assert message.entity.id == "x"


def test_a_mask_is_derived_in_either_spelling() -> None:
    """The paths are the proto's names."""
    body = {"versionConstraint": ">=1", "sourceId": "a"}
    message = read("PATCH /api/v1/relationships/x", body, ENTITIES)
    assert list(message.update_mask.paths) == ["version_constraint"]


def test_headers_set_fields() -> None:
    """Unless the request has no such field; the same thing may be said twice."""
    binding, captures = ENTITIES.find("DELETE", "/api/v1/entities/x")
    reader = RequestReader(binding)
    message: Any = reader.read(captures, b"expected_revision=7", b"")
    assert reader.put_header(message, "expected_revision", "7", "if-match")
    assert not reader.put_header(message, "resume_token", "7", "last-event-id")
    assert reader.put_header(message, "idempotency_key", "k", "idempotency-key")
    assert (message.expected_revision, message.idempotency_key) == (7, "k")
    with pytest.raises(InvalidArgument) as caught:
        reader.put_header(message, "idempotency_key", "l", "idempotency-key")
    assert caught.value.violations[0].field == "idempotency-key"


def rule(**fields: Any) -> Any:
    """A rule for the method that has every kind of field."""
    show, *_ = methods(Sample())
    return bind(show, HttpRule(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"get": ""},
        {"get": "/v1/{texts}"},
        {"get": "/v1/{counts}"},
        {"get": "/v1/{inner}"},
        {"get": "/v1/{time}"},
        {"get": "/v1/{inners.text}"},
        {"get": "/v1/{nothing}"},
        {"get": "/v1/{text.nothing}"},
        {"post": "/v1/a", "body": "nothing"},
        {"post": "/v1/a", "body": "inner.text"},
        {"get": "/v1/a", "response_body": "nothing"},
    ],
)
def test_rules_that_cannot_be_served_are_found_when_the_server_is_built(
    fields: dict[str, Any],
) -> None:
    """Not when somebody calls them."""
    with pytest.raises(TemplateError):
        rule(**fields)


def test_every_method_with_a_rule_is_bound() -> None:
    """And no other. All additional bindings are of the same method."""
    sample: Service = Sample()
    found = [(b.method.descriptor.name, b.http_method) for b in bindings([sample])]
    assert found == [("Show", "GET")] * 4 + [("Take", "POST")] * 3 + [("Take", "PUT")] + [
        ("Any", "*"), ("Any", "HEAD"), ("Chunks", "GET")
    ]  # fmt: skip


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "small": st.integers(-(2**31), 2**31 - 1),
    "large": st.integers(-(2**63), 2**63 - 1),
    "natural": st.integers(0, 2**64 - 1),
    "real": st.floats(allow_nan=False),
    "flag": st.booleans(),
    "colour": st.integers(0, 5),
    "first_choice": _text,
    "texts": st.lists(_text, min_size=1, max_size=4),
    "smalls": st.lists(st.integers(-5, 5), min_size=1, max_size=4),
}


def _parameter(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(str(one).replace(",", "\\,") for one in value)
    return str(value).replace("inf", "Infinity")


@given(st.fixed_dictionaries({}, optional=_FIELDS))
def test_any_values_survive_a_query(fields: dict[str, Any]) -> None:
    """What is written into a query is what is read from it."""
    if any(text.endswith("\\") for text in fields.get("texts", ())):
        return  # a list cannot hold a text that ends with the mark before a comma
    query = urlencode({name: _parameter(value) for name, value in fields.items()})
    assert read(f"GET /v1/shown/x?{query}") == Everything(text="x", **fields)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_no_query_and_no_body_does_more_than_be_refused(query: bytes, body: bytes) -> None:
    """Whatever bytes they are."""
    for request, data in ((f"GET /v1/shown/x?{query.decode('latin-1')}", b""),
                          ("POST /v1/taken/x", body)):  # fmt: skip
        try:
            message = read(request, data) if request.isascii() else None
        except InvalidArgument:
            continue
        assert message is None or isinstance(message, Message)
