"""Requirements, and which of the versions that meet one is taken."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ose.registry.versions import (
    SCHEMES,
    Pin,
    PinReason,
    Requirement,
    RequirementInvalid,
    SchemeUnknown,
    SystemRequirement,
    VersionError,
    best,
    ranked,
    scheme,
    tree,
)


@pytest.mark.parametrize(
    ("text", "of", "name", "constraint", "canonical"),
    [
        ("tensorflow-svc>=2.0.0,<3.0.0", "", "tensorflow-svc", ">=2.0.0,<3.0.0", None),
        ("tensorflow-svc < 3.0.0, >= 2.0.0", "", "tensorflow-svc", ">=2.0.0,<3.0.0",
         "tensorflow-svc>=2.0.0,<3.0.0"),
        ("shop", "", "shop", "", None),
        (" shop (==1.0) ", "", "shop", "==1.0", "shop==1.0"),
        ("shop@>=1", "", "shop", ">=1", "shop>=1"),
        ("shop@^1.2", "npm", "shop", "^1.2", None),
        ("shop ~1.2 || 3.x", "npm", "shop", "~1.2 || 3", "shop@~1.2 || 3"),
        ("@acme/shop@1.2.3 - 2", "npm", "@acme/shop", "1.2.3 - 2", None),
        ("libstdc++6 (>= 12~)", "debian", "libstdc++6", ">= 12~", None),
        ("libc6>=2.36,<<3", "debian", "libc6", ">= 2.36, << 3", "libc6 (>= 2.36, << 3)"),
    ],
)  # fmt: skip
def test_requirements(
    text: str, of: str, name: str, constraint: str, canonical: str | None
) -> None:
    """Name and constraint are told apart in every scheme, and written back in its form."""
    read = Requirement.parse(text, of)
    assert (read.text, read.name, str(read.constraint)) == (text, name, constraint)
    assert str(read) == (canonical or text)
    again = Requirement.parse(str(read), of)
    assert (again.name, again.constraint) == (read.name, read.constraint)


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        ("", 1, "a name"),
        ("-shop", 1, "a name"),
        ("shop-", 5, "a constraint or the end"),
        ("shop[gpu]>=1", 5, "no extras"),
        ("shop; python_version<'3'", 5, "a constraint or the end"),
        ("shop (>=1", 10, "a closing parenthesis"),
        ("shop@", 6, "a constraint behind the @"),
        ("shop@1.0", 6, "an operator first: ==1.0?"),
        ("shop >=1, ^2", 11, "of the scheme npm"),
        ("shop>=1<2", 8, "a comma"),
        ("a" * 256, 256, "at most 255"),
        ("a>=" + "1" * 1100, 1026, "at most 1024"),
        ("a" * 1280, 1280, "at most 1279"),
    ],
)
def test_wrong_requirements(text: str, position: int, expected: str) -> None:
    """What is no requirement is refused at a position of the whole text, with what was expected."""
    with pytest.raises(RequirementInvalid) as caught:
        Requirement.parse(text)
    assert caught.value.position == position
    assert expected in caught.value.expected
    assert isinstance(caught.value, ValueError)


def test_scheme_of_a_requirement() -> None:
    """A scheme is given by its name or itself; one that there is not is refused."""
    assert Requirement.parse("a@^1", scheme("npm")) == Requirement.parse("a@^1", "npm")
    with pytest.raises(SchemeUnknown):
        Requirement.parse("a", "cargo")


@given(st.text(max_size=50), st.sampled_from(list(SCHEMES)))
def test_any_text_is_a_requirement_or_refused(text: str, of: str) -> None:
    """Whatever is given, a requirement or a VersionError comes out, for plugins and for systems."""
    with suppress(VersionError):
        assert Requirement.parse(text, of).name in text
    with suppress(VersionError):
        assert SystemRequirement.parse(text).name in text


# --- which is taken


@pytest.mark.parametrize(
    ("versions", "constraint", "of", "taken"),
    [
        (["1.9.0", "2.11.0", "2.2.0", "3.0.0rc1"], ">=2,<3", "", "2.11.0"),
        (["1.0", "2.0rc1"], "", "", "1.0"),
        (["1.0rc1", "1.0rc2", "latest"], "", "", "1.0rc2"),
        (["1.0", "2.0rc1"], ">=1.0b1", "", "2.0rc1"),
        (["2.0rc1"], ">=1.0", "", None),
        (["latest", ""], "", "", "latest"),
        (["1.0", "1.0.0"], ">=1", "", "1.0.0"),
        (["1.9.0", "1.10.0", "2.0.0"], "^1.2", "npm", "1.10.0"),
        (["1.2.3", "2.0.0-rc.1"], "*", "npm", "1.2.3"),
        (["1.0~rc1", "1.0", "1:0.1"], ">= 1.0~", "debian", "1:0.1"),
        ([], "", "", None),
    ],
)
def test_best(versions: list[str], constraint: str, of: str, taken: str | None) -> None:
    """The newest that fits is taken, final versions first where nothing is asked, in any order."""
    read = scheme(of).constraint(constraint)
    assert best(versions, read) == best(versions[::-1], read) == taken


def test_ranked_keeps_the_order_of_equals() -> None:
    """Several constraints must all hold, and items of one version stay in their order."""
    items = [("a", "1.0"), ("b", "2.0"), ("c", "2.0"), ("d", "3.0")]
    asked = [scheme().constraint(">=1.5"), scheme().constraint("<3")]
    assert ranked(items, asked, lambda item: item[1]) == [("b", "2.0"), ("c", "2.0")]


def test_order_of_mixed_schemes() -> None:
    """With constraints of several schemes the order is that of the first, however they come."""
    asked = [scheme("debian").constraint(">= 1"), scheme("npm").constraint(">=1.0.0")]
    versions = ["1.0.0-rc.1", "1.0.0", "1.0.0+b2"]
    assert ranked(versions, asked) == ranked(versions, asked[::-1]) == ["1.0.0+b2", "1.0.0"]


# --- trees


def pin(name: str, *by: str) -> Pin:
    """A pin that these ask for; '' is a root."""
    return Pin(name, "plugin", name, "1", tuple(PinReason(one, "1", name) for one in by))


def test_tree() -> None:
    """The tree shows each pin's needs once, under who came first, and ends in circles too."""
    pins = [pin("a", ""), pin("b", "a", "c"), pin("c", "a", "b"), pin("d", "b")]
    lines = [
        ("  " * line.depth + line.pin.name, line.is_last, line.is_repeated) for line in tree(pins)
    ]
    assert lines == [
        ("a", True, False),
        ("  b", False, False),
        ("    c", False, False),
        ("      b", True, True),
        ("    d", True, False),
        ("  c", True, True),
    ]


def test_deep_tree() -> None:
    """A tree of thousands of levels is no deeper a call than one of two."""
    pins = [pin("0", ""), *(pin(str(at), str(at - 1)) for at in range(1, 5000))]
    assert [line.depth for line in tree(pins)] == list(range(5000))
