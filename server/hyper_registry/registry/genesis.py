"""What a registry holds from the first start: the eight features."""

from __future__ import annotations

from typing import NamedTuple

from google.protobuf.struct_pb2 import Struct

from hyper_registry.model.entity import Entity
from hyper_registry.registry.codec import pack
from hyper_registry.registry.mutations import CreateEntity, Decision, WriteRequest


class Feature(NamedTuple):
    """A feature as the integration guide lists it."""

    id: str
    name: str
    icon: str
    category: str
    namespace: str


FEATURES = (
    Feature("ai-ml", "AI & Machine Learning", "🧠", "ai", "ose-ai-ml"),
    Feature("web3-blockchain", "Web3 & Blockchain", "🔗", "web3", "ose-web3"),
    Feature("cloud-native", "Cloud Native Platform", "☁️", "cloud", "ose-cloud"),
    Feature("data-engineering", "Data Engineering", "📊", "data", "ose-data"),
    Feature("devops-platform", "DevOps & CI/CD", "🚀", "devops", "ose-devops"),
    Feature("security-platform", "Security & Compliance", "🛡️", "security", "ose-security"),
    Feature("system-ops", "System Operations", "⚙️", "system", "ose-system"),
    Feature("observability", "Monitoring & Observability", "📈", "monitoring", "ose-monitoring"),
)


def genesis() -> WriteRequest:
    """The first revision of a new history."""
    return WriteRequest(
        mutations=[CreateEntity(_entity(feature)) for feature in FEATURES],
        respond=_nothing,
        method="genesis",
        actor="registry",
    )


def _entity(feature: Feature) -> Entity:
    metadata = Struct()
    metadata.update(
        {
            "icon": feature.icon,
            "category": feature.category,
            "namespace": feature.namespace,
        }
    )
    return Entity(id=feature.id, type="feature", name=feature.name, metadata=pack(metadata))


def _nothing(_decision: Decision) -> bytes:
    return b""
