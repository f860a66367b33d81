"""YAML, by the events of PyYAML's parser: nothing is composed or constructed by the library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import yaml

from ose.registry.documents._building import Builder, TooMuch
from ose.registry.documents._nodes import Document, Limits, Mark, Node, Parsed, Problem, Scalar

__all__ = ["parse_yaml"]

# libyaml is ten times as fast, and is not everywhere.
_Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset({"true", "True", "TRUE"})
_FALSE: Final = frozenset({"false", "False", "FALSE"})
_INT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_HEX: Final = re.compile(r"0x[0-9a-fA-F]+")
_OCTAL: Final = re.compile(r"0o[0-7]+")
_FLOAT: Final = re.compile(
    r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
)
_NO_NUMBER: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_CONTROL: Final = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\U0010ffff]")
_MAX_DIGITS: Final = 300
_STANDARD: Final = "tag:yaml.org,2002:"
_KNOWN_TAGS: Final = frozenset(
    f"{_STANDARD}{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")
)


def parse_yaml(text: str, file: str, limits: Limits) -> Parsed:
    """The documents of a text. Empty ones are left out."""
    documents: list[Document] = []
    loader = _Loader(text)
    try:
        for document in _documents(loader, file, limits):
            documents.append(document)  # noqa: PERF402 - what came before an error counts
    except TooMuch as error:
        return Parsed(documents, [Problem(file, *error.mark, "", str(error))])
    except yaml.YAMLError as error:
        return Parsed(documents, [_problem(error, text, file)])
    finally:
        loader.dispose()
    return Parsed(documents)


def _documents(loader: Any, file: str, limits: Limits) -> Iterator[Document]:
    composer: _Composer | None = None
    while loader.check_event():
        event = loader.get_event()
        match event:
            case yaml.DocumentStartEvent():
                composer = _Composer(file, limits)
            case yaml.DocumentEndEvent() if composer is not None:
                root = composer.builder.root
                if root is not None and (root.value is not None or composer.builder.problems):
                    yield Document(root, composer.builder.problems)
            case _ if composer is not None:
                composer.take(event)


class _Composer:
    """Builds one document of its events."""

    def __init__(self, file: str, limits: Limits) -> None:
        self.builder = Builder(file, limits)
        self._anchors: dict[str, Node] = {}
        self._open: list[str | None] = []

    def take(self, event: Any) -> None:
        mark = Mark(event.start_mark.line + 1, event.start_mark.column + 1)
        anchor: str | None = getattr(event, "anchor", None)
        match event:
            case yaml.ScalarEvent():
                node = self._scalar(event, mark)
                self._name(anchor, node)
                self.builder.add(node, plain_key=event.implicit[0])
            case yaml.AliasEvent():
                self.builder.add(self._alias(anchor or "", mark))
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._check_tag(event.tag, mark)
                self._open.append(anchor)
                self._anchors.pop(anchor or "", None)
                self.builder.begin(mark, mapping=isinstance(event, yaml.MappingStartEvent))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._name(self._open.pop(), self.builder.end())

    def _name(self, anchor: str | None, node: Node) -> None:
        if anchor is not None:
            self._anchors[anchor] = node

    def _alias(self, anchor: str, mark: Mark) -> Node:
        node = self._anchors.get(anchor)
        if node is not None:
            return replace(node, mark=mark)
        if anchor in self._open:
            self.builder.report(mark, f"the alias *{anchor} stands in what it refers to")
        else:
            self.builder.report(mark, f"the alias *{anchor} has no anchor", f"&{anchor} before it")
        return Node(None, mark)

    def _check_tag(self, tag: str | None, mark: Mark) -> None:
        if tag is not None and tag != "!" and tag not in _KNOWN_TAGS:
            shown = f"!!{tag.removeprefix(_STANDARD)}" if tag.startswith(_STANDARD) else tag
            self.builder.report(mark, f"the tag {shown} is not allowed", "a plain value")

    def _scalar(self, event: Any, mark: Mark) -> Node:
        text = event.value
        self._check_tag(event.tag, mark)
        tag = event.tag or ""
        if event.implicit[0] or (tag.startswith(_STANDARD) and tag != f"{_STANDARD}str"):
            return Node(self._resolved(text, mark), mark, text)
        return Node(text, mark, text)

    def _resolved(self, text: str, mark: Mark) -> Scalar:
        """A plain scalar by the core schema of YAML 1.2."""
        if text in _NULL:
            return None
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        if text[0] not in "+-.0123456789":
            return text
        if len(text) > _MAX_DIGITS:
            return text
        if _INT.fullmatch(text):
            return int(text)
        if _HEX.fullmatch(text) or _OCTAL.fullmatch(text):
            return int(text, 0)
        if _FLOAT.fullmatch(text):
            return self.builder.number(float(text), text, mark)
        if _NO_NUMBER.fullmatch(text):
            return self.builder.number(float("inf"), text, mark)
        return text


def _problem(error: yaml.YAMLError, text: str, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None and (found := _CONTROL.search(text)):
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - text.rfind("\n", 0, found.start())
        return Problem(file, line, column, "", f"the control character {found[0]!r}", "text")
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    context = getattr(error, "context", None)
    said = f"{context}, {problem}" if context else str(problem)
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    return Problem(file, line, column, "", f"not YAML: {' '.join(said.split())}")
