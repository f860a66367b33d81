"""Classification: tells the feature of a plugin from its words, and why.

    users = RuleSet.compile([Rule("q", "quantum|qiskit", "quantum-computing", 0.95)])
    Classifier(users).classify(Subject("qiskit-runner")).feature  # "quantum-computing"

Plain values in and out. `docs/classification.md` is the reference.
"""

from hyper_registry.plugins.classification.classifier import MAX_REASONS, THRESHOLD, Classifier
from hyper_registry.plugins.classification.patterns import MAX_PATTERN
from hyper_registry.plugins.classification.registryfile import (
    SYSTEM_FILE,
    RegistryFile,
    RegistryFileInvalid,
    parse_registry,
    read_registry,
)
from hyper_registry.plugins.classification.rules import (
    FEATURE_ID_RULE,
    MAX_RULES,
    RuleSet,
    is_feature_id,
    violations_of,
)
from hyper_registry.plugins.classification.shipped import registry, shipped
from hyper_registry.plugins.classification.values import (
    EXPLICIT,
    FIELDS,
    Candidate,
    Classification,
    Reason,
    Rule,
    Subject,
)

__all__ = [
    "EXPLICIT",
    "FEATURE_ID_RULE",
    "FIELDS",
    "MAX_PATTERN",
    "MAX_REASONS",
    "MAX_RULES",
    "SYSTEM_FILE",
    "THRESHOLD",
    "Candidate",
    "Classification",
    "Classifier",
    "Reason",
    "RegistryFile",
    "RegistryFileInvalid",
    "Rule",
    "RuleSet",
    "Subject",
    "is_feature_id",
    "parse_registry",
    "read_registry",
    "registry",
    "shipped",
    "violations_of",
]
