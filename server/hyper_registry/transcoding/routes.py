"""Which route a path takes.

Literals win over `*`, and that over `**`, from left to right. What follows a colon in the last
segment is a verb if some route has it, the longest such first; else it is part of the segment, so
that an id may have a colon in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from hyper_registry.model.errors import MethodNotAllowed, NoSuchPath
from hyper_registry.transcoding.templates import (
    DEEP,
    STAR,
    Template,
    TemplateError,
    Variable,
    decoded,
)

ANY = "*"
"""The HTTP method of a route that is served for all of them."""

T = TypeVar("T")
Captures = Sequence[tuple[Variable, str]]


class _Node(Generic[T]):
    """A place in the tree of segments: `ends` and `rests` are what stops here, by verb."""

    __slots__ = ("ends", "literals", "rests", "star")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[T]] = {}
        self.star: _Node[T] | None = None
        self.ends: dict[str, tuple[Template, T]] = {}
        self.rests: dict[str, tuple[Template, T]] = {}

    def find(self, segments: Sequence[str], position: int, verb: str) -> tuple[Template, T] | None:
        """What is served at the segments from `position` on."""
        if position == len(segments):
            return self.ends.get(verb) or self.rests.get(verb)
        segment = segments[position]
        if segment:
            found = None
            if literal := self.literals.get(segment):
                found = literal.find(segments, position + 1, verb)
            if found is None and self.star is not None:
                found = self.star.find(segments, position + 1, verb)
            if found is not None:
                return found
        return self.rests.get(verb)


class _Tree(Generic[T]):
    """The routes of one HTTP method."""

    def __init__(self) -> None:
        self.exact: dict[str, T] = {}
        # Of routes that end with their only variable: by the path before it.
        self._leaves: dict[str, tuple[Variable, T, _Node[T]]] = {}
        self._root: _Node[T] = _Node()
        # The longest first.
        self._verbs: list[str] = []

    def add(self, template: Template, target: T) -> None:
        node = parent = self._root
        for segment in template.segments:
            if segment == DEEP:
                break
            parent = node
            if segment == STAR:
                node.star = node.star or _Node()
                node = node.star
            else:
                node = node.literals.setdefault(segment, _Node())
        ends = node.rests if template.segments[-1] == DEEP else node.ends
        if template.verb in ends:
            raise TemplateError(f"{template.text!r} and {ends[template.verb][0].text!r} are one")
        ends[template.verb] = (template, target)
        if template.verb and template.verb not in self._verbs:
            self._verbs.append(template.verb)
            self._verbs.sort(key=len, reverse=True)
        if template.is_literal:
            self.exact[template.text] = target
        elif template.is_leaf:
            start = "/".join(("", *template.segments[:-1]))
            self._leaves[start] = (template.variables[0], target, parent)

    def find(self, path: str) -> tuple[T, Captures] | None:
        """What is served at a path, and what its variables are, not encoded any more."""
        start, _, last = path.rpartition("/")
        # A shortcut for what most paths are: literals up to the last segment win over all else.
        if last and start in self._leaves and ":" not in last and "%" not in last:
            variable, target, parent = self._leaves[start]
            if last not in parent.literals:
                return target, [(variable, last)]
        raw = path[1:].split("/")
        for last, verb in self._endings(raw[-1]):
            raw[-1] = last
            found = self._root.find([_comparable(segment) for segment in raw], 0, verb)
            if found is not None:
                template, target = found
                return target, [(each, each.value(raw)) for each in template.variables]
        return None

    def _endings(self, segment: str) -> Iterator[tuple[str, str]]:
        # By the verbs, which are few: a segment may be nothing but colons.
        for verb in self._verbs:
            if segment.endswith(f":{verb}"):
                yield segment[: -len(verb) - 1], verb
        yield segment, ""


def _comparable(segment: str) -> str:
    """A segment as literals are compared with it; what is wrongly encoded is none of them."""
    return decoded(segment, "path") if "%" in segment else segment


class Routes(Generic[T]):
    """Routes by HTTP method and path."""

    def __init__(self) -> None:
        self._trees: dict[str, _Tree[T]] = {}

    def add(self, method: str, template: Template, target: T) -> None:
        """Adds a route. Raises TemplateError if there is one that cannot be told from it."""
        self._trees.setdefault(method, _Tree()).add(template, target)

    def find(self, method: str, path: str) -> tuple[T, Captures]:
        """The route of a path that is still encoded, and the values of its variables.

        HEAD is served wherever GET is. Raises NoSuchPath, MethodNotAllowed or, for what is wrongly
        encoded, InvalidArgument.
        """
        for name in (method, "GET", ANY) if method == "HEAD" else (method, ANY):
            if (tree := self._trees.get(name)) is None:
                continue
            if (target := tree.exact.get(path)) is not None:
                return target, ()
            if (found := tree.find(path)) is not None:
                return found
        allowed = self.allowed(path)
        raise MethodNotAllowed(method, ", ".join(allowed)) if allowed else NoSuchPath(path)

    def allowed(self, path: str) -> list[str]:
        """The HTTP methods that are served at a path; none if it is not served at all."""
        found = {name for name, tree in self._trees.items() if tree.find(path) is not None}
        if "GET" in found:
            found.add("HEAD")
        return sorted(found | {"OPTIONS"}) if found else []
