"""What a plugin is for: what it says itself, then users' rules, then those of the server."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.plugins.classification import (
    EXPLICIT,
    MAX_REASONS,
    THRESHOLD,
    Candidate,
    Classifier,
    Reason,
    Rule,
    RuleSet,
    Subject,
)
from hyper_registry.plugins.classification.shipped import SURE

ROOT = Path(__file__).resolve().parents[3]
ROWS = Path(os.environ.get("CLASSIFICATION_ROWS") or ROOT.parent / "shared/data/classification.tsv")
GUIDE = [
    Rule("quantum", ".*(quantum|qiskit|cirq).*", "quantum-computing", 0.95),
    Rule("iot", ".*(iot|sensor|mqtt|edge).*", "iot-edge", 0.9),
]


def classifier(*rules: Rule, threshold: float = THRESHOLD) -> Classifier:
    """A classifier with these rules of users."""
    return Classifier(RuleSet.compile(rules), threshold)


def test_the_guides_example() -> None:
    """`tensorflow-inference-service` is for AI and machine learning, at 90 %, and it says why."""
    found = classifier().classify(Subject("tensorflow-inference-service"))
    assert (found.feature, found.confidence) == ("ai-ml", 0.9)
    reasons = [(reason.field, reason.text) for reason in found.candidates[0].reasons]
    assert reasons == [("name", "tensor"), ("name", "inferenc")]


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("pytorch-trainer", "ai-ml"),
        ("EthereumWallet", "web3-blockchain"),
        ("istio-service-mesh", "cloud-native"),
        ("kafka_streaming_etl", "data-engineering"),
        ("jenkins-ci-pipelines", "devops-platform"),
        ("vault-secrets", "security-platform"),
        ("grub-boot-disk", "system-ops"),
        ("prometheus-metrics-exporter", "observability"),
    ],
)
def test_every_feature_is_told_by_a_name(name: str, feature: str) -> None:
    """Names that say what they are for are classified without a description."""
    assert classifier().classify(Subject(name)).feature == feature


@pytest.mark.parametrize("name", ["email", "blockchain", "html-mailer", "remodel", "container"])
def test_letters_within_words_tell_nothing(name: str) -> None:
    """What has "ai", "ml" or "model" in the middle of a word is not for machine learning."""
    found = classifier().classify(Subject(name))
    assert "ai-ml" not in [candidate.feature for candidate in found.candidates]


@pytest.mark.parametrize("name", ["xyzzy", "müsli-店", "1234", "-"])
def test_of_what_says_nothing_nothing_is_said(name: str) -> None:
    """Without any reason there is no feature and no candidate."""
    found = classifier(*GUIDE).classify(Subject(name))
    assert (found.feature, found.confidence, found.candidates) == ("", 0.0, ())


def test_what_the_plugin_says_beats_every_rule() -> None:
    """A feature that is named is answered at 1, whatever the words are."""
    subject = Subject("qiskit-runner", "Machine learning", feature="my-own")
    found = classifier(*GUIDE).classify(subject)
    reason = Reason(EXPLICIT, "feature", 0, 6, "my-own")
    assert (found.feature, found.confidence) == ("my-own", 1.0)
    assert found.candidates == (Candidate("my-own", 1.0, (reason,)),)


def test_a_users_rule_answers_with_its_confidence() -> None:
    """The guide's rules are applied as printed, and what comes with the server stands behind."""
    subject = Subject("qiskit-neural-net", "Deep learning with PyTorch on quantum computers")
    alone = classifier().classify(subject)
    found = classifier(*GUIDE).classify(subject)
    assert (alone.feature, alone.confidence) == ("ai-ml", SURE)
    assert (found.feature, found.confidence) == ("quantum-computing", 0.95)
    assert [(r.field, r.text) for r in found.candidates[0].reasons] == [
        ("name", "qiskit"),
        ("description", "quantum"),
    ]
    assert [(it.feature, it.confidence) for it in found.candidates[1:]] == [("ai-ml", 0.045)]


def test_the_surest_of_the_users_rules_counts() -> None:
    """Of several rules that match, the most confident one answers; of equals the first."""
    subject = Subject("qiskit-sensor")
    assert classifier(*GUIDE).classify(subject).feature == "quantum-computing"
    even = [Rule("2", "sensor", "b", 0.7), Rule("1", "qiskit", "a", 0.7)]
    assert classifier(*even).classify(subject).feature == "b"
    assert classifier(*reversed(even)).classify(subject).feature == "a"


def test_rules_for_one_feature_do_not_add_up() -> None:
    """A stated confidence is answered as it is, even where the server's rules agree."""
    rules = [Rule("1", "torch", "ai-ml", 0.6), Rule("2", "neural", "ai-ml", 0.7)]
    found = classifier(*rules).classify(Subject("torch-neural"))
    assert (found.feature, found.confidence) == ("ai-ml", 0.7)
    assert [reason.rule for reason in found.candidates[0].reasons][:2] == ["2", "1"]


def test_a_rule_below_the_threshold_decides_nothing() -> None:
    """It is offered as a candidate, and what comes with the server is as sure as it was."""
    rule = Rule("weak", "torch", "mine", 0.4)
    found = classifier(rule).classify(Subject("xyzzy-torch-neural-net"))
    assert (found.feature, found.confidence) == ("ai-ml", SURE)
    assert (found.candidates[1].feature, found.candidates[1].confidence) == ("mine", 0.4)
    alone = classifier(Rule("weak", "xyzzy", "mine", 0.4)).classify(Subject("xyzzy"))
    assert (alone.feature, alone.confidence) == ("", 0.4)
    assert [candidate.feature for candidate in alone.candidates] == ["mine"]


def test_the_threshold_is_reached_at_its_value() -> None:
    """As sure as the threshold is sure enough; the least bit below is not."""
    rule = Rule("r", "xyzzy", "mine", 0.75)
    assert classifier(rule, threshold=0.75).classify(Subject("xyzzy")).feature == "mine"
    assert classifier(rule, threshold=0.7501).classify(Subject("xyzzy")).feature == ""


def test_reasons_are_bounded() -> None:
    """Of very many reasons the strongest are told."""
    rules = [Rule(str(n), "xyzzy", "mine", 0.5 + n / 100) for n in range(40)]
    [candidate] = classifier(*rules).classify(Subject("xyzzy")).candidates
    assert len(candidate.reasons) == MAX_REASONS
    assert candidate.reasons[0].rule == "39"


@given(
    st.lists(
        st.sampled_from(
            ["neural", "kafka", "xyzzy", "qiskit", "Edge", "monitor", "the", "vaultKeys", "é"]
        ),
        max_size=8,
    ),
    st.sampled_from([0.2, 0.5, 0.9]),
)
def test_candidates_are_in_order(words: list[str], threshold: float) -> None:
    """Each feature once, the surest first, no more than certain; the first decides."""
    rules = [*GUIDE, Rule("mine", "kafka", "ai-ml", 0.3)]
    found = classifier(*rules, threshold=threshold).classify(Subject("x", " ".join(words)))
    sure = [candidate.confidence for candidate in found.candidates]
    assert sure == sorted(sure, reverse=True)
    assert all(0 <= one <= 1 for one in sure)
    assert len({candidate.feature for candidate in found.candidates}) == len(sure)
    assert all(candidate.reasons for candidate in found.candidates)
    best = found.candidates[0] if sure and sure[0] >= threshold else None
    assert found.feature == (best.feature if best else "")
    assert found.confidence == (sure[0] if sure else 0.0)


@pytest.mark.skipif(not ROWS.is_file(), reason=f"no labelled projects at {ROWS}")
def test_real_projects_are_told() -> None:
    """Of projects that lists label, enough are told, and 0.9 is said often and true."""
    with ROWS.open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    tell = classifier().classify
    right, claims, true_claims = 0, 0, 0
    for row in rows:
        found = tell(Subject(row["name"], row["description"]))
        first = found.candidates[0].feature if found.candidates else ""
        right += first == row["feature"]
        if found.confidence >= SURE:
            claims += 1
            true_claims += first == row["feature"]
    assert right >= 0.75 * len(rows)
    assert claims >= 0.05 * len(rows)
    assert true_claims >= 0.9 * claims
