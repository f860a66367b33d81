"""Choosing versions that fit together, and telling what a change would do to those chosen.

All of it works on values: a `Catalogue` says what there is, and nothing is read or written
elsewhere. The rule for pre-releases, and what "newest" means, are those of `ose.registry.versions`.
"""

from hyper_registry.plugins.resolving.catalogue import Candidate, Catalogue, bind
from hyper_registry.plugins.resolving.conflict import Chain, Conflict, Unresolvable
from hyper_registry.plugins.resolving.planning import (
    Addition,
    Change,
    Held,
    Holdings,
    Plan,
    Rebinding,
    Removal,
    plan,
)
from hyper_registry.plugins.resolving.resolver import (
    MAX_ROUNDS,
    Cancelled,
    Lock,
    TooMuchWork,
    resolve,
)

__all__ = [
    "MAX_ROUNDS",
    "Addition",
    "Cancelled",
    "Candidate",
    "Catalogue",
    "Chain",
    "Change",
    "Conflict",
    "Held",
    "Holdings",
    "Lock",
    "Plan",
    "Rebinding",
    "Removal",
    "TooMuchWork",
    "Unresolvable",
    "bind",
    "plan",
    "resolve",
]
