"""What became of manifests: told as it happens, and summed up at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import click

from nexus_registry.failures import ERROR, Failure
from nexus_registry.rendering.output import Cell
from nexus_registry.rendering.words import clean, counted, entity_name, feature_of

if TYPE_CHECKING:
    from nexus_registry.registering import Outcome
    from nexus_registry.session import Session

__all__ = ["Teller"]

_WOULD: Final = {
    "registered": "would register",
    "replaced": "would replace",
    "unregistered": "would unregister",
}
_STYLES: Final = {"registered": "green", "replaced": "yellow", "unregistered": "red"}
_BAD: Final = ("broken", "refused")
_UNCLASSIFIED: Final = "unclassified"


@dataclass(slots=True)
class Teller:
    """Tells outcomes, and remembers how many of each there were.

    With `changes_only` what is unchanged is only counted.
    """

    session: Session
    dry_run: bool = False
    changes_only: bool = False
    _counts: Counter[str] = field(default_factory=Counter)
    _codes: set[int] = field(default_factory=set)
    _new: list[tuple[str, str]] = field(default_factory=list)

    def tell(self, outcome: Outcome) -> None:
        """Writes a line for people: what went well as a result, what is wrong as an error."""
        self._count(outcome)
        if self.changes_only and outcome.what == "unchanged":
            return
        if outcome.what in _BAD:
            for problem in outcome.problems:
                click.echo(clean(str(problem)), err=True)
        elif outcome.what == "gone":
            self.session.note(
                f"{clean(outcome.file)}: the manifest of {clean(outcome.name)} is gone; "
                "the plugin stays registered (--prune)"
            )
        elif not self.session.settings.quiet:
            verb = _WOULD.get(outcome.what, outcome.what) if self.dry_run else outcome.what
            self.session.output.line(Cell(verb, _STYLES.get(outcome.what, "dim")), _rest(outcome))
        elif outcome.plugin is not None:
            self.session.output.line(outcome.plugin.id)

    def forms(self, outcomes: Iterable[Outcome]) -> Iterator[dict[str, object]]:
        """The outcomes as JSON, counted as they pass."""
        for outcome in outcomes:
            self._count(outcome)
            yield outcome.form()

    def tell_needs(self) -> None:
        """Notes what the new plugins need and nothing meets; forgets them."""
        new, self._new = self._new, []
        for plugin_id, name in new if not self.session.settings.quiet else ():
            found = self.session.client.list_requirements(plugin_id=plugin_id, unsatisfied=True)
            if needs := ", ".join(one.text for one in found):
                self.session.note(clean(f"{name} needs what is not there yet: {needs}"))

    def sum_up(self) -> None:
        """Says how many there were of each."""
        counts = ", ".join(f"{count:,} {what}" for what, count in self._counts.most_common())
        if counts and not self.session.settings.quiet:
            dry = " (dry run: nothing was written)" if self.dry_run else ""
            self.session.output.line(f"{counts}{dry}")

    def end(self) -> None:
        """Raises Failure if something was not registered."""
        bad = sum(self._counts[what] for what in _BAD)
        if bad:
            code = self._codes.pop() if len(self._codes) == 1 else ERROR
            all_ = counted(sum(self._counts.values()), "manifest")
            raise Failure(f"{bad} of {all_} could not be registered", code)

    def _count(self, outcome: Outcome) -> None:
        self._counts[outcome.what] += 1
        if outcome.exit_code:
            self._codes.add(outcome.exit_code)
        is_new = outcome.what in ("registered", "replaced") and outcome.requires
        if is_new and outcome.plugin is not None and not self.dry_run:
            self._new.append((outcome.plugin.id, outcome.name))


def _rest(outcome: Outcome) -> str:
    plugin = outcome.plugin
    if plugin is None:
        return f" plugin/{outcome.name}"
    feature = feature_of(plugin)
    where = f" in {feature}" if feature not in ("", _UNCLASSIFIED) else ", unclassified"
    revision = f", revision {plugin.revision}" if plugin.revision else ""
    return f" {entity_name(plugin)}{where} (id {plugin.id}{revision})"
