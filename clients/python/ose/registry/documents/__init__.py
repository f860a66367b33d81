"""Files of YAML and JSON, as trees of values that know where they stand.

    parsed = parse(Path("plugin.yaml").read_bytes(), "plugin.yaml")
    for document in parsed.documents:
        plain(document.root)  # mappings, lists, texts, numbers, booleans and None

Nothing is constructed but plain values. YAML follows the core schema of YAML 1.2, so `no`, `on` and
`12:30` are texts, with the merge key `<<` of YAML 1.1. A duplicate key, a tag of a language's own
objects or a number that JSON has not is a `Problem`, and the rest is read on. How large a document
is, its aliases written out, is bounded by `Limits`.
"""

from ose.registry.documents._nodes import (
    Document,
    Entry,
    Limits,
    Mark,
    Node,
    Parsed,
    Path,
    Problem,
    child,
    path_text,
    plain,
)
from ose.registry.documents._parsing import parse

__all__ = [
    "Document",
    "Entry",
    "Limits",
    "Mark",
    "Node",
    "Parsed",
    "Path",
    "Problem",
    "child",
    "parse",
    "path_text",
    "plain",
]
