"""Which route a path takes: facts that peers agree on, and a naive matcher for all others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hyper_registry.model.errors import InvalidArgument, MethodNotAllowed, NoSuchPath
from hyper_registry.transcoding.routes import Routes
from hyper_registry.transcoding.templates import DEEP, STAR, Template, TemplateError, parse


def routes(*rules: str) -> Routes[str]:
    """Routes of rules such as `GET /a`, each of which is its own target."""
    made: Routes[str] = Routes()
    for rule in rules:
        method, path = rule.split(" ")
        made.add(method, parse(path), rule)
    return made


def found(made: Routes[str], request: str) -> tuple[str, dict[str, str]] | None:
    """The rule that a request meets, and what is captured; None if there is no such path."""
    method, path = request.split(" ")
    try:
        rule, captures = made.find(method, path)
    except NoSuchPath:
        return None
    return rule, {variable.field: text for variable, text in captures}


@pytest.mark.parametrize(
    ("rules", "request_", "rule", "captured"),
    [
        (["GET /things/*"], "GET /things/a/b", None, {}),
        (["GET /things/*/parts/**"], "GET /things//parts/x", None, {}),
        (["GET /a/b/c/d"], "GET /a/b/c", None, {}),
        (["GET /a/{x=b/*}/{y=d/**}"], "GET /a/b/zoo/d/an/ti", 0, {"x": "b/zoo", "y": "d/an/ti"}),
        # Split before decoding, and everything is decoded in a single segment.
        (["GET /things/{id}/c"], "GET /things/a%20b%2Fc+/c", 0, {"id": "a b/c+"}),
        (["GET /foo/{id=*}/bar"], "GET /foo/ok%2fwith%2Fslash/bar", 0, {"id": "ok/with/slash"}),
        (["GET /{x}"], "GET /%7e", 0, {"x": "~"}),
        # An encoded slash is kept where several segments are joined.
        (["GET /p/{x=q/*/r/*}/c"], "GET /p/q/f%20f/r/b%2Fb/c", 0, {"x": "q/f f/r/b%2Fb"}),
        (["GET /p/{x=**}"], "GET /p/a%2fb/%C3%A9", 0, {"x": "a%2fb/é"}),
        # Verbs.
        (["GET /p", "GET /{x=**}:run"], "GET /p:other", None, {}),
        (["GET /p", "GET /{x=**}:run"], "GET /p:run", 1, {"x": "p"}),
        (["POST /v1/{id=*}", "POST /v1/{id=*}:one:two"], "POST /v1/bar:one:two", 1, {"id": "bar"}),
        (["POST /v1/{id=*}", "POST /v1/{id=*}:one:two"], "POST /v1/bar:two", 0, {"id": "bar:two"}),
        (["GET /{x}:run", "GET /{x}:b:run"], "GET /a:b:run", 1, {"x": "a"}),
        (["GET /foo/{id=*}"], "GET /foo/bar:123", 0, {"id": "bar:123"}),
        (["GET /foo/{id}", "GET /foo:run"], "GET /foo/bar:run", 0, {"id": "bar:run"}),
        (["GET /foo/{id}:run", "GET /foo/{id}"], "GET /foo/bar%3Arun", 1, {"id": "bar:run"}),
        # Literals first.
        (["GET /a/{x}", "GET /a/b"], "GET /a/b", 1, {}),
        (["GET /a/{x}", "GET /a/b"], "GET /a/%62", 1, {}),
        (["GET /a/{x}", "GET /a/b/**"], "GET /a/b", 1, {}),
        (["GET /a/{x}/c", "GET /a/b/{y}"], "GET /a/b/c", 1, {"y": "c"}),
        (["GET /a/{x}/c", "GET /a/b/d"], "GET /a/b/c", 0, {"x": "b"}),
        (["GET /{x=**}", "GET /a/{y}"], "GET /a/b", 1, {"y": "b"}),
        (["GET /a/{x=**}"], "GET /a", 0, {"x": ""}),
        (["GET /a/{x=**}"], "GET /a//b/", 0, {"x": "/b/"}),
        # Methods.
        (["GET /a/{x}", "POST /a/b"], "GET /a/b", 0, {"x": "b"}),
        (["GET /a"], "HEAD /a", 0, {}),
        (["GET /a", "HEAD /a"], "HEAD /a", 1, {}),
        (["* /a"], "DELETE /a", 0, {}),
        (["* /a", "DELETE /{x}"], "DELETE /a", 1, {"x": "a"}),
    ],
)  # fmt: skip
def test_facts(rules: list[str], request_: str, rule: int | None, captured: dict[str, str]) -> None:
    """One by one."""
    expected = None if rule is None else (rules[rule], captured)
    assert found(routes(*rules), request_) == expected


def test_another_method_is_not_allowed() -> None:
    """The error says which methods are: HEAD with GET, and OPTIONS always."""
    made = routes("GET /a/{x}", "DELETE /a/b", "POST /c")
    with pytest.raises(MethodNotAllowed) as caught:
        made.find("PUT", "/a/b")
    assert caught.value.metadata["allowed"] == "DELETE, GET, HEAD, OPTIONS"
    assert made.allowed("/a/c") == ["GET", "HEAD", "OPTIONS"]
    assert made.allowed("/nothing") == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("GET /a/{x}", "GET /a/{y}"),
        ("GET /a/{x}", "GET /a/*"),
        ("GET /a/{x=**}:run", "GET /a/**:run"),
        ("GET /a:run", "GET /a:run"),
    ],
)
def test_routes_that_are_one_are_refused(one: str, other: str) -> None:
    """Nobody has to guess which of them is meant."""
    with pytest.raises(TemplateError):
        routes(one, other)


def test_what_is_badly_encoded_is_refused() -> None:
    """Also where a literal is looked for."""
    for path in ("/a/%zz", "/%zz/b", "/a/%ff"):
        with pytest.raises(InvalidArgument):
            routes("GET /a/b", "GET /a/{x}").find("GET", path)


def test_a_long_path_is_no_trouble() -> None:
    """Only as many segments are looked at as a template has."""
    assert found(routes("GET /a/{x}"), "GET /" + "a/" * 100_000) is None
    rule = found(routes("GET /{x=**}"), "GET /" + "a/" * 100_000)
    assert rule is not None


def test_a_segment_full_of_colons_is_no_trouble() -> None:
    """As many endings are looked at as there are verbs, not as there are colons."""
    made = routes("GET /a/{x}", "GET /a:run", "POST /a/{x}:stop")
    started = time.process_time()
    for ending in (":", ":run:run"):
        assert found(made, "GET /a/" + ending * 100_000) == ("GET /a/{x}", {"x": ending * 100_000})
        with pytest.raises(MethodNotAllowed):
            made.find("PUT", "/a/" + ending * 100_000)
    assert time.process_time() - started < 1, "one by one they would take ten"


# The naive matcher tries every template and takes the first in the order of preference.


def _matches(template: Template, segments: Sequence[str]) -> bool:
    pattern = template.segments
    if pattern[-1] == DEEP:
        pattern = pattern[:-1]
        if len(segments) < len(pattern):
            return False
    elif len(segments) != len(pattern):
        return False
    return all(
        segment != "" and want in (STAR, segment)
        for want, segment in zip(pattern, segments, strict=False)
    )


def naive(templates: Sequence[Template], path: str) -> str | None:
    """The text of the template that a path meets."""
    *start, last = path[1:].split("/")
    candidates: list[tuple[Any, str]] = []
    for template in templates:
        ending = f":{template.verb}" if template.verb else ""
        if not last.endswith(ending):
            continue
        segments = [*start, last[: len(last) - len(ending)]]
        if _matches(template, segments):
            kinds = [{STAR: 1, DEEP: 2}.get(segment, 0) for segment in template.segments]
            candidates.append(((-len(template.verb), kinds), template.text))
    return min(candidates)[1] if candidates else None


_SEGMENTS = st.sampled_from(["a", "b", "*", "{x}"])
_VERBS = st.sampled_from(["", ":run", ":a", ":b:run"])


@st.composite
def templates(draw: st.DrawFn) -> list[Template]:
    """Templates that can be told from each other."""
    made: dict[Any, Template] = {}
    for _ in range(draw(st.integers(1, 8))):
        segments = draw(st.lists(_SEGMENTS, min_size=1, max_size=4))
        if draw(st.booleans()):
            segments.append("**")
        if segments.count("{x}") > 1:
            segments = ["*" if segment == "{x}" else segment for segment in segments]
        template = parse("/" + "/".join(segments) + draw(_VERBS))
        made.setdefault((template.segments, template.verb), template)
    return list(made.values())


_PATHS = st.lists(
    st.sampled_from(["a", "b", "c", "", "a:run", "c:run", "a:b:run", "c:a", "b:", ":run"]),
    min_size=1,
    max_size=5,
).map(lambda segments: "/" + "/".join(segments))


@given(templates(), _PATHS)
@example([parse("/a/{x}"), parse("/a/b/**")], "/a/b")
def test_routes_are_those_of_a_naive_matcher(made: list[Template], path: str) -> None:
    """Whatever the templates and the path."""
    tree: Routes[str] = Routes()
    for template in made:
        tree.add("GET", template, template.text)
    match = found(tree, f"GET {path}")
    assert (match and match[0]) == naive(made, path)
