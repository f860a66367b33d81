"""Files of classification rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from nexus_registry.documents import Document, parse
from nexus_registry.failures import USAGE, Failure

if TYPE_CHECKING:
    from ose.registry.v1.feature_pb2 import ClassificationRule

__all__ = ["read_rules"]

_KEY: Final = "classification_rules"


def read_rules(data: bytes, name: str) -> list[ClassificationRule]:
    """The rules of a file: a list of them, or an object that has one as `classification_rules`.

    Raises Failure (2) if it holds something else.
    """
    from ose.registry.jsonform import FormError, from_dict
    from ose.registry.v1.feature_pb2 import ClassificationRule

    rules = []
    for number, form in enumerate(_forms(parse(data, name), name), start=1):
        try:
            rules.append(from_dict(form, ClassificationRule()))
        except FormError as error:
            found = [str(violation) for violation in error.violations]
            raise Failure(f"{name}: rule {number} is wrong", USAGE, details=found) from None
    return rules


def _forms(documents: Iterator[Document], name: str) -> Iterator[Mapping[str, Any]]:
    for document in documents:
        value = document.value
        forms = value.get(_KEY) if isinstance(value, Mapping) else value
        if not isinstance(forms, list) or not all(isinstance(one, Mapping) for one in forms):
            where = f"{name}, line {document.line}"
            raise Failure(f"{where}: expected a list of rules, or {_KEY} with one", USAGE)
        yield from forms
