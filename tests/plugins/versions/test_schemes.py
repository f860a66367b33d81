"""Each scheme reads, orders and compares versions as its own tools do."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ose.registry.versions import (
    SCHEMES,
    ConstraintInvalid,
    Scheme,
    SchemeUnknown,
    VersionError,
    VersionInvalid,
    scheme,
)
from tests.support.tools import require_tool

HERE = Path(__file__).resolve().parent
SHARED_CASES = HERE.parents[3] / "shared" / "data" / "version_constraints.tsv"
PEP440, NPM, DEBIAN = (SCHEMES[name] for name in ("pep440", "npm", "debian"))

VERSIONS = {
    "pep440": st.from_regex(
        r"([0-2]!)?[0-9]{1,2}(\.[0-9]{1,2}){0,3}((a|b|rc)[0-9])?(\.post[0-9])?(\.dev[0-9])?(\+[a-z0-9]{1,3})?",
        fullmatch=True,
    ),
    "npm": st.from_regex(
        r"[0-3]\.[0-3]\.(0|[1-9][0-9]?)(-(alpha|beta|[0-9]|rc)(\.([0-9]|x))?)?(\+b[0-9])?",
        fullmatch=True,
    ),
    "debian": st.from_regex(r"([0-2]:)?[0-9][0-9a-bA.+~]{0,5}(-[0-9a~+]{1,3})?", fullmatch=True),
}
ANY_SCHEME = st.sampled_from(list(SCHEMES.values()))


def rows(path: Path) -> list[list[str]]:
    """The lines of a table, without comments and its head."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if not line.startswith(("#", "specifier"))]


def refusal(read: Callable[[str], object], text: str) -> VersionError | None:
    """Why a text is refused; None if it is not."""
    try:
        read(text)
    except VersionError as error:
        return error
    return None


def sign(one: object, other: object) -> int:
    """-1, 0 or 1, as the comparisons say, which must agree with each other."""
    less, equal, more = one < other, one == other, one > other  # type: ignore[operator]
    assert [less, equal, more].count(True) == 1
    return (more is True) - (less is True)


# --- what all have in common


def test_schemes_by_name() -> None:
    """The default is Python's; another name than the three is refused with those that there are."""
    assert [one.name for one in SCHEMES.values()] == ["pep440", "npm", "debian"]
    assert scheme() is scheme("pep440")
    with pytest.raises(SchemeUnknown, match="one of pep440, npm, debian"):
        scheme("semver")


@pytest.mark.parametrize("name", SCHEMES)
@given(data=st.data())
def test_total_order(name: str, data: st.DataObject) -> None:
    """Any three versions are in an order: exactly one of <, =, > holds, and < is transitive."""
    drawn = [SCHEMES[name].version(data.draw(VERSIONS[name])) for _ in range(3)]
    for one, other in itertools.permutations(drawn, 2):
        assert sign(one, other) == -sign(other, one)
        if one == other:
            assert hash(one) == hash(other)
    low, middle, high = sorted(drawn)
    assert low <= middle <= high
    assert low <= high


@pytest.mark.parametrize("name", SCHEMES)
@given(data=st.data())
def test_canonical_version(name: str, data: st.DataObject) -> None:
    """The canonical text is a version that equals the one read, and is its own canonical text."""
    read = SCHEMES[name].version(data.draw(VERSIONS[name]))
    again = SCHEMES[name].version(read.canonical)
    assert again == read
    assert again.canonical == read.canonical


@given(ANY_SCHEME, st.text(max_size=60))
def test_any_text_is_read_or_refused(one: Scheme, text: str) -> None:
    """Whatever is given, a value or a VersionError comes out, with a position in the text."""
    for read in (one.version, one.constraint):
        error = refusal(read, text)
        assert error is None or 1 <= error.position <= len(text) + 1


@given(ANY_SCHEME, st.text(alphabet="0123456789.x*-+~^<>=!|, v:arc", max_size=40), st.data())
def test_canonical_constraint(one: Scheme, text: str, data: st.DataObject) -> None:
    """The canonical text of a constraint means the same, and is its own canonical text."""
    try:
        read = one.constraint(text)
    except ConstraintInvalid:
        return
    again = one.constraint(str(read))
    assert (str(again), again, hash(again)) == (str(read), read, hash(read))
    version = data.draw(VERSIONS[one.name])
    assert again.allows(version) == read.allows(version)
    assert again.names_prerelease == read.names_prerelease


@pytest.mark.parametrize("name", SCHEMES)
def test_sizes_are_capped(name: str) -> None:
    """A version has at most 255 characters and a constraint 1,024; one more is refused."""
    one = SCHEMES[name]
    longest = "1." + "4" * 253 if name == "pep440" else "1.2.3-" + "4" * 249
    assert one.find(longest) is not None
    with pytest.raises(VersionInvalid, match="at position 256: expected at most 255"):
        one.version("1.2.3-" + "4" * 250)
    assert one.constraint(">=1.2.3".ljust(1024))
    with pytest.raises(ConstraintInvalid, match="at most 1024"):
        one.constraint(">=1.2.3".ljust(1025))


@pytest.mark.parametrize("name", SCHEMES)
def test_no_constraint_allows_everything(name: str) -> None:
    """The empty constraint is falsy and allows every text, also what is no version."""
    anything = SCHEMES[name].constraint("  ")
    assert not anything
    assert str(anything) == ""
    assert all(anything.allows(text) for text in ("1.0.0", "1.0.0-rc.1", "latest", ""))
    assert not SCHEMES[name].constraint(">=0.0.0").allows("latest")


def test_versions_of_two_schemes_do_not_compare() -> None:
    """Comparing them is a mistake, and a constraint does not take one for its own."""
    with pytest.raises(TypeError):
        assert PEP440.version("1.2.3") < NPM.version("1.2.3")
    assert PEP440.version("1.2.3") != NPM.version("1.2.3")
    assert not PEP440.constraint(">=1").allows(NPM.version("1.2.3"))
    assert PEP440.constraint(">=1").allows(PEP440.version("1.2.3"))


# --- Python's


@pytest.mark.skipif(not SHARED_CASES.is_file(), reason="needs the shared inputs")
def test_as_packaging_has_it() -> None:
    """Each case of the shared table comes out as its oracle says, with pre-releases or without."""
    answers = {"true": True, "false": False}
    checked = 0
    for specifier, version, with_any, only_final in rows(SHARED_CASES):
        if with_any in answers:
            constraint = PEP440.constraint(specifier)
            assert constraint.allows(version, prereleases=True) is answers[with_any]
            assert constraint.allows(version, prereleases=False) is answers[only_final]
        elif with_any == "valid":
            PEP440.constraint(specifier)
        else:
            with pytest.raises(ConstraintInvalid):
                PEP440.constraint(specifier)
        checked += 1
    assert checked == 200


@pytest.mark.parametrize(
    ("constraint", "allowed", "refused"),
    [
        (">=2.0", ["2.0", "2.0.post1", "3"], ["2.0rc1", "2.1rc1", "1.9"]),
        (">=2.0rc1", ["2.0rc1", "2.0", "3.0b1"], ["2.0b1"]),
        ("!=2.0rc1", ["2.0"], ["2.0rc1", "2.0rc2"]),
        ("<3.0.0", ["2.9"], ["3.0.0rc1", "2.9rc1"]),
        ("==1.*", ["1.9"], ["2.0", "1.9rc1"]),
        ("==1.0rc1", ["1.0rc1"], ["1.0"]),
        ("", ["1.0", "2.0rc1"], []),
    ],
)
def test_prereleases(constraint: str, allowed: list[str], refused: list[str]) -> None:
    """A pre-release fits only where the constraint names one, or where there is no constraint."""
    read = PEP440.constraint(constraint)
    assert [version for version in allowed + refused if read.allows(version)] == allowed


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        (">=2.0.0<3.0.0", 8, "a comma before the next operator"),
        (">=1, ^1.2.3", 6, "of the scheme npm"),
        ("~1.2", 1, "of the scheme npm"),
        (">=1,2.0", 5, "an operator first: ==2.0?"),
        ("=1.0", 1, "==1.0 for equality"),
        (">=1,>=", 5, "an operator"),
        ("latest", 1, "an operator"),
    ],
)
def test_wrong_specifiers(text: str, position: int, expected: str) -> None:
    """What is no specifier is refused where it goes wrong, with what should stand there."""
    with pytest.raises(ConstraintInvalid) as caught:
        PEP440.constraint(text)
    assert caught.value.position == position
    assert expected in caught.value.expected


# --- npm's


def test_as_node_semver_has_it() -> None:
    """Every fact of the table that node-semver gave holds."""
    facts = rows(HERE / "npm_facts.tsv")
    assert len(facts) == 264
    for text, version, answer in facts:
        if answer == "invalid":
            with pytest.raises(ConstraintInvalid):
                NPM.constraint(text)
        else:
            assert (text, version, NPM.constraint(text).allows(version)) == (
                text,
                version,
                answer == "yes",
            )


def test_npm_prereleases_by_order() -> None:
    """Where all pre-releases fit, those of the next major version still exceed a caret range."""
    caret = NPM.constraint("^1.2.3")
    assert [caret.allows(text, prereleases=True) for text in ("1.3.0-rc.1", "2.0.0-rc.1")] == [
        True,
        False,
    ]
    assert not NPM.constraint("1.3.0-rc.1").allows("1.3.0-rc.1", prereleases=False)


def test_npm_order() -> None:
    """Precedence is that of semantic versioning, clause 11, and build metadata does not count."""
    texts = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
        "1.2.0",
        "1.10.0",
    ]
    assert sorted(texts, reverse=True, key=lambda text: NPM.version(text).key) == texts[::-1]
    assert NPM.version("1.0.0+a") == NPM.version("v1.0.0+b")


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        (">=2.0.0,<3.0.0", 8, "a space before the next bound"),
        ("^1.2.3 || 1.x.3", 15, "no number behind an x"),
        ("1.2.3 - ^2", 9, "a version, without an operator"),
        ("1 2 - 3", 2, "nothing but one version"),
        ("latest", 1, "a range"),
        ("1.2.9007199254740992", 1, "at most 9007199254740991"),
    ],
)
def test_wrong_ranges(text: str, position: int, expected: str) -> None:
    """What is no range is refused where it goes wrong, with what should stand there."""
    with pytest.raises(ConstraintInvalid) as caught:
        NPM.constraint(text)
    assert caught.value.position == position
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    ("text", "position"), [("1.2", 4), ("1.02.3", 4), ("1.2.3.4", 6), ("x", 1)]
)
def test_wrong_npm_versions(text: str, position: int) -> None:
    """A version has three numbers without zeros in front."""
    with pytest.raises(VersionInvalid, match=r"such as 1\.2\.3") as caught:
        NPM.version(text)
    assert caught.value.position == position


# --- Debian's


def dpkg_says(left: str, relation: str, right: str) -> bool:
    """Asks dpkg."""
    command = [str(require_tool("dpkg")), "--compare-versions", left, relation, right]
    return subprocess.run(command, check=False).returncode == 0


@settings(max_examples=60)
@given(VERSIONS["debian"], VERSIONS["debian"], st.sampled_from(["<<", "<=", "=", ">=", ">>"]))
@example("1.0~rc1", "1.0", "<<")
@example("1.0", "1.0-0", "=")
def test_as_dpkg_has_it(left: str, right: str, relation: str) -> None:
    """Every relation holds between two versions exactly if dpkg says so."""
    names = {"<<": "lt", "<=": "le", "=": "eq", ">=": "ge", ">>": "gt"}
    ours = DEBIAN.constraint(f"{relation} {right}").allows(left)
    assert ours == dpkg_says(left, names[relation], right)


@pytest.mark.parametrize("text", ["1.0", "1:2.36-9+deb12u1", "1.0~~", "1:1:2-3", "2.0-1-2"])
def test_debian_versions(text: str) -> None:
    """These are versions, for us as for dpkg."""
    assert DEBIAN.find(text) is not None
    assert dpkg_says(text, "eq", text)


@pytest.mark.parametrize(
    ("text", "position"), [("", 1), ("1.0 1", 4), ("a:1", 1), ("1:", 2), ("1.0-", 5), ("1_0", 2)]
)
def test_wrong_debian_versions(text: str, position: int) -> None:
    """What dpkg refuses is refused where it goes wrong."""
    with pytest.raises(VersionInvalid) as caught:
        DEBIAN.version(text)
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        ("== 1", 1, "= instead of =="),
        (">= 1, < 2", 7, "<< or <= instead of <"),
        (">= 1 << 2", 6, "a comma"),
        ("1.0", 1, "a relation"),
        (">= 1_0", 5, "a Debian version"),
    ],
)
def test_wrong_relations(text: str, position: int, expected: str) -> None:
    """What is no relation is refused where it goes wrong, with what should stand there."""
    with pytest.raises(ConstraintInvalid) as caught:
        DEBIAN.constraint(text)
    assert caught.value.position == position
    assert expected in caught.value.expected
