"""A report in the form of JUnit, which continuous integration shows: a test for each verdict."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from nexus_registry.conformance.report import Report, State, Verdict

__all__ = ["junit"]


def junit(report: Report) -> bytes:
    """The report as a file's content."""
    content: bytes = ElementTree.tostring(_suites(report), "utf-8", xml_declaration=True)
    return content


def _suites(report: Report) -> ElementTree.Element:
    root = ElementTree.Element("testsuites", name="conformance")
    for name, verdicts in (("promises", report.promises), ("methods", report.methods)):
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=name,
            tests=str(len(verdicts)),
            failures=_count(verdicts, State.BROKEN),
            skipped=_count(verdicts, State.NOT_CHECKED),
        )
        properties = ElementTree.SubElement(suite, "properties")
        for key, value in (("targets", " ".join(report.targets)), ("seed", str(report.seed))):
            ElementTree.SubElement(properties, "property", name=key, value=value)
        for verdict in verdicts:
            suite.append(_case(name, verdict))
    return root


def _count(verdicts: Sequence[Verdict], state: State) -> str:
    return str(sum(verdict.state is state for verdict in verdicts))


def _case(kind: str, verdict: Verdict) -> ElementTree.Element:
    name = f"{verdict.name}: {verdict.about}" if verdict.about else verdict.name
    case = ElementTree.Element("testcase", classname=f"conformance.{kind}", name=name)
    if verdict.objections:
        failure = ElementTree.SubElement(case, "failure", message=_clean(verdict.objections[0]))
        failure.text = _clean("\n".join(verdict.objections))
    elif verdict.state is State.NOT_CHECKED:
        ElementTree.SubElement(case, "skipped", message=_clean(verdict.not_checked))
    elif verdict.not_checked:
        ElementTree.SubElement(case, "system-out").text = f"not checked: {verdict.not_checked}"
    return case


def _clean(text: str) -> str:
    """What XML can hold: what a server said may have anything in it."""
    return "".join(one if one.isprintable() or one in "\n\t" else "\N{REPLACEMENT CHARACTER}"
                   for one in text)  # fmt: skip
