"""Histograms for what happens at every call.

The SDK's own histogram takes about 7 µs for a value, a tenth of what it takes to serve a read; one
of these takes a twentieth of that. They give the SDK's data points when metrics are collected, so
whoever reads them sees no difference.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
)


class Series:
    """The values with one set of attributes. Only one thread adds to it; any may read it."""

    __slots__ = ("_bounds", "_counts", "_least", "_most", "_sum", "attributes")

    def __init__(self, attributes: Mapping[str, str], bounds: Sequence[float]) -> None:
        self.attributes = dict(attributes)
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._least = math.inf
        self._most = -math.inf

    def add(self, value: float) -> None:
        """Adds a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value
        if value < self._least:
            self._least = value
        if value > self._most:
            self._most = value

    def point(self, start: int, now: int) -> HistogramDataPoint:
        """The values so far; times are in nanoseconds since 1970."""
        counts = tuple(self._counts)
        return HistogramDataPoint(
            attributes=self.attributes,
            start_time_unix_nano=start,
            time_unix_nano=now,
            count=sum(counts),
            sum=self._sum,
            bucket_counts=counts,
            explicit_bounds=self._bounds,
            min=self._least,
            max=self._most,
        )


class Distribution:
    """A histogram: `bounds` are upper, the last bucket has none."""

    def __init__(self, name: str, unit: str, description: str, bounds: Sequence[float]) -> None:
        self.name = name
        self._unit = unit
        self._description = description
        self._bounds = tuple(bounds)
        self._series: list[Series] = []
        self._start = time.time_ns()

    def series(self, attributes: Mapping[str, str]) -> Series:
        """A new series. Keep it: asking again with equal attributes would make a second one."""
        made = Series(attributes, self._bounds)
        self._series.append(made)
        return made

    def metric(self) -> Metric:
        """Everything so far."""
        now = time.time_ns()
        points = [series.point(self._start, now) for series in [*self._series]]
        data = Histogram(points, AggregationTemporality.CUMULATIVE)
        return Metric(self.name, self._description, self._unit, data)
