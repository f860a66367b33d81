"""What is a path template, and what is none."""

from __future__ import annotations

import pytest

from hyper_registry.model.errors import InvalidArgument
from hyper_registry.transcoding.templates import DEEP, STAR, TemplateError, Variable, parse


@pytest.mark.parametrize(
    ("text", "segments", "verb", "variables"),
    [
        ("/v1/things", ("v1", "things"), "", ()),
        ("/{id}:run", (STAR,), "run", (Variable("id", 0, 1),)),
        ("/v1/{id=*}:one:two", ("v1", STAR), "one:two", (Variable("id", 1, 2),)),
        ("/v1/{a.b}/x", ("v1", STAR, "x"), "", (Variable("a.b", 1, 2),)),
        ("/a/{x=b/*}/{y=d/**}", ("a", "b", STAR, "d", DEEP), "",
         (Variable("x", 1, 3), Variable("y", 3, None))),
        ("/v1/{name=**}:verb", ("v1", DEEP), "verb", (Variable("name", 1, None),)),
        ("/v1/*/x", ("v1", STAR, "x"), "", ()),
    ],
)  # fmt: skip
def test_templates(
    text: str, segments: tuple[str, ...], verb: str, variables: tuple[Variable, ...]
) -> None:
    """Segments, verb and variables of a template."""
    found = parse(text)
    assert (found.segments, found.verb, found.variables) == (segments, verb, variables)


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "//", "/a//b", "/a/", "/a/:run", "a/{id}", "/:", "/*:", "/a:", "/a:b:",
        "/{id}p", "/p{id}", "/{a}-{b}", "/{a}{b}", "/p/{field-name}", "/{}", "/{a=}", "/{a.}",
        "/{.a}", "/{a", "/a}", "/{a={b}}", "/**/a", "/{a=**}/b", "/{a=**/b}", "/{a}/{a}",
        "/***", "/a*", "/a b", "/a?b", "/a%20b", "/{a=b c}", "/a:b/c",
    ],
)  # fmt: skip
def test_what_is_no_template(text: str) -> None:
    """Empty segments, verbs and names; more than one thing in a segment; `**` before the end."""
    with pytest.raises(TemplateError):
        parse(text)


@pytest.mark.parametrize("segment", ["%", "%2", "%zz", "a%2gb", "%ff", "%C3", "a%80b"])
def test_what_cannot_be_decoded_is_refused(segment: str) -> None:
    """Broken escapes, and what is no UTF-8: an error that names the field."""
    for variable in (Variable("inner.text", 0, 1), Variable("inner.text", 0, None)):
        with pytest.raises(InvalidArgument) as caught:
            variable.value([segment])
        assert caught.value.violations[0].field == "inner.text"
