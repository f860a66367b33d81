"""How texts are cut into words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.query.search.words import MAX_WORD, fold, joined, tokens, whole


def cut(text: str) -> list[str]:
    """The words of a text."""
    return [word for _, _, word in tokens(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tensorflow-inference-service", ["tensorflow", "inference", "service"]),
        ("my_service.v2", ["my", "service", "v2"]),
        ("libFooBar2", ["libfoobar2", "lib", "foo", "bar", "bar2", "2"]),
        ("HTTPServer", ["httpserver", "http", "server"]),
        ("python3", ["python3", "python", "3"]),
        ("Capital UPPER lower", ["capital", "upper", "lower"]),
        ("x86_64 v2 0af3b2", ["x86", "64", "v2", "0af3b2"]),
        ("1.4.0-rc1+deb12u3", ["1", "4", "0", "rc1", "rc", "1", "deb12u3"]),
        ("https://example.org/a?b=c", ["https", "example", "org", "a", "b", "c"]),
        ('"(* AND -:^~\\', ["and"]),
        ("", []),
    ],
)
def test_identifiers(text: str, words: list[str]) -> None:
    """A run of letters and digits is a word, and what it runs together are words too."""
    assert cut(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Überraschung", ["uberraschung"]),
        ("u\u0308ber", ["uber"]),
        ("Straße", ["strasse"]),
        ("ﬁle", ["file"]),
        ("Ελλάδα", ["ελλαδα"]),
        ("ПриветМир", ["приветмир", "привет", "мир"]),
        ("数据库 v2", ["数", "据", "库", "v2"]),
        ("カタカナabc", ["カ", "タ", "カ", "ナ", "abc"]),
        ("हिन्दी", ["हिनदी"]),
        ("\u0301", []),
    ],
)
def test_other_scripts(text: str, words: list[str]) -> None:
    """Case, accents and forms make no difference; ideographs and kana are a word each."""
    assert cut(text) == words


@given(st.text())
def test_places(text: str) -> None:
    """Each word stands where it is said to, is not too long, and has no white space."""
    for start, end, word in tokens(text):
        assert fold(text[start:end]) == word
        assert 0 < end - start <= MAX_WORD
        assert word.split() == [word]


@given(st.text(alphabet="aAbB1 -_é数", max_size=200) | st.text())
def test_joined(text: str) -> None:
    """The quick way to the words of a text comes to the same words."""
    assert joined(text).split() == cut(text)


def test_long_runs() -> None:
    """Of a very long run its beginning is a word."""
    assert cut("a" * 1000 + " b") == ["a" * MAX_WORD, "b"]
    assert joined("a" * 1000 + " b") == "a" * MAX_WORD + " b"


def test_whole() -> None:
    """Texts that say the same are the same as a whole, and parts do not count."""
    assert whole("TensorFlow_inference.service") == "tensorflow inference service"
    assert whole("libFooBar2") == "libfoobar2"
