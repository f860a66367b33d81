"""What there is to know of a registry at any moment, as gauges.

The first four are the integration guide's. All are read in the thread that collects metrics: they
look at single numbers, and at copies of dictionaries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hyper_registry.health.leases import Leases
from hyper_registry.health.probes.prober import Prober
from hyper_registry.model.entity import Health
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.table import Table
from hyper_registry.watch.hub import WatchStatistics
from hyper_registry.web.metrics import Metrics


def observe(
    metrics: Metrics,
    engine: Engine,
    watching: Callable[[], WatchStatistics],
    leases: Leases,
    connections: Callable[[], int],
) -> None:
    """Adds the gauges of a registry."""
    add, counts = metrics.gauge, engine.view.counts
    add("registry_entities_total", "Entities.", lambda: _sum(counts.entities_by_type))
    add(
        "registry_relationships_total",
        "Relationships.",
        lambda: _sum(counts.relationships_by_type),
    )
    add("registry_connections_active", "Open WebSocket connections.", connections)
    add(
        "registry_entities_by_type",
        "Entities by type.",
        lambda: dict(counts.entities_by_type),
        "type",
    )
    add(
        "registry_entities_by_health",
        "Entities by effective health.",
        lambda: {health.name.lower(): counts.entities_by_health[health] for health in Health},
        "health",
    )
    add(
        "registry_on_duty",
        "Whether this server does what one does at a time.",
        lambda: float(engine.duty.is_ours),
    )
    _observe_log(metrics, engine)
    _observe_view(metrics, engine)
    _observe_watching(metrics, watching)
    add("registry_leases", "Leases.", lambda: len(leases))
    add("registry_leases_held", "Overdue leases that are held back.", lambda: leases.held)


def observe_probes(metrics: Metrics, prober: Prober) -> None:
    """Adds what there is to know of probes."""
    metrics.counter("registry_probes", "Probes of services.", lambda: prober.outcomes, "outcome")
    metrics.gauge("registry_probed_services", "Services with a probe.", prober.states, "state")


def _observe_log(metrics: Metrics, engine: Engine) -> None:
    view = engine.view
    metrics.gauge("registry_revision", "The current revision.", lambda: view.visible)
    metrics.gauge(
        "registry_compacted_revision", "The oldest revision that is held.", lambda: view.floor
    )
    metrics.gauge(
        "registry_log_revisions", "Revisions in the log.", lambda: view.visible - view.floor
    )


def _observe_view(metrics: Metrics, engine: Engine) -> None:
    def tables() -> Mapping[str, Table]:
        generation = engine.view.generation
        return {"entities": generation.entities, "relationships": generation.relationships}

    metrics.gauge(
        "registry_view_versions",
        "Versions of records in memory, past ones included.",
        lambda: {name: table.slots.length for name, table in tables().items()},
        "table",
    )
    metrics.gauge(
        "registry_view_bytes",
        "Bytes of records in memory, past versions included.",
        lambda: {name: table.arena.length for name, table in tables().items()},
        "table",
    )


def _observe_watching(metrics: Metrics, watching: Callable[[], WatchStatistics]) -> None:
    metrics.gauge("registry_watchers", "Open watches.", lambda: watching().watches)
    metrics.gauge(
        "registry_watch_groups", "Different questions of watches.", lambda: watching().groups
    )
    metrics.gauge(
        "registry_watch_lag_revisions",
        "Revisions that the slowest watch is behind.",
        lambda: watching().lag,
    )
    metrics.gauge(
        "registry_watch_cached_bytes",
        "Bytes of events that watches share.",
        lambda: watching().cached_bytes,
    )


def _sum(counts: Mapping[str, int]) -> int:
    return sum(dict(counts).values())
