"""Gives the families of `meshsdk.telemetry` to the metric readers of an OpenTelemetry MeterProvider, as they collect.

OpenTelemetry's SDK for Python has no way in for histograms that somebody else has counted (its specification calls
that a MetricProducer), so this stands between each reader and what it asks: the one file that reads the SDK's private
fields (seen: 1.30 to 1.45). Where they look different, `attach` says so and changes nothing.
"""

from __future__ import annotations

import dataclasses
import logging
import time
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from meshsdk.telemetry.families import Family, Kind, Point, Source, Spread
from meshsdk.version import VERSION

_SCOPE = InstrumentationScope("meshsdk", VERSION)
_LOG = logging.getLogger(__name__)
_attached: weakref.WeakKeyDictionary[Any, _Collecting] = weakref.WeakKeyDictionary()  # by reader; lock of `switch`


def attach(provider: Any, source: Source) -> bool:
    """Adds the families of `source` to what each reader of an SDK MeterProvider collects, once a reader.

    Cumulative, whatever temporality a reader prefers; views and exemplars do not apply. Returns False, with a warning,
    for a provider that cannot be told.
    """
    readers = _readers(provider)
    if readers is None:
        _LOG.warning(
            "metrics of meshsdk do not reach this MeterProvider (%s): its SDK is not the one that meshsdk knows; "
            "the Prometheus endpoint (meshsdk.telemetry.enable(prometheus=...)) has them",
            type(provider).__name__,
        )
        return False
    for reader in readers:
        if reader not in _attached:
            _attached[reader] = reader._collect = _Collecting(reader._collect, provider, source)  # noqa: SLF001 - see above
    return True


def begin_again() -> None:
    """In a forked child: its sums began with it."""
    for collecting in list(_attached.values()):
        collecting.began = time.time_ns()


def _readers(provider: Any) -> Sequence[Any] | None:
    held = getattr(provider, "_metric_readers", None)
    if held is None:
        held = getattr(getattr(provider, "_sdk_config", None), "metric_readers", None)
    if held is None or not all(callable(getattr(reader, "_collect", None)) for reader in held):
        return None
    return list(held)


class _Collecting:
    """What a reader calls to collect: what the SDK has, and ours. Read-only after init.

    `began`: when its sums were zero, in nanoseconds since 1970.
    """

    def __init__(self, collect: Any, provider: Any, source: Source) -> None:
        self._collect = collect
        self._provider = provider
        self._source = source
        self.began = time.time_ns()

    def __call__(self, reader: Any, timeout_millis: float = 10_000) -> MetricsData | None:
        data: MetricsData | None = self._collect(reader, timeout_millis=timeout_millis)
        now = time.time_ns()
        metrics = [_metric(family, self.began, now) for family in self._source() if family.points]
        if not metrics:
            return data
        scope = ScopeMetrics(_SCOPE, metrics, "")
        if data is None or not data.resource_metrics:
            resource = self._provider._sdk_config.resource  # noqa: SLF001 - see above
            return MetricsData([ResourceMetrics(resource, [scope], resource.schema_url)])
        first, *others = data.resource_metrics
        return MetricsData([dataclasses.replace(first, scope_metrics=[*first.scope_metrics, scope]), *others])


def _metric(family: Family, began: int, now: int) -> Metric:
    cumulative = AggregationTemporality.CUMULATIVE
    if family.kind is Kind.HISTOGRAM:
        bounds = family.bounds
        data: Any = Histogram([_spread(point, bounds, began, now) for point in family.points], cumulative)
    else:
        numbers = _numbers(family.points, began, now)
        data = Gauge(numbers) if family.kind is Kind.GAUGE else Sum(numbers, cumulative, is_monotonic=True)
    return Metric(family.name, family.words, family.unit, data)


def _numbers(points: Iterable[Point], began: int, now: int) -> list[NumberDataPoint]:
    return [
        NumberDataPoint(dict(point.labels), began, now, point.value)
        for point in points
        if not isinstance(point.value, Spread)
    ]


def _spread(point: Point, bounds: tuple[float, ...], began: int, now: int) -> HistogramDataPoint:
    value = point.value
    if not isinstance(value, Spread):
        raise TypeError(f"a point of a histogram is a Spread, not {value!r}")
    # The smallest and the largest value are not kept: NaN would be sent, so the ends of their buckets stand for them.
    used = [index for index, count in enumerate(value.counts) if count]
    low = bounds[used[0] - 1] if used and used[0] else 0.0
    high = bounds[min(used[-1], len(bounds) - 1)] if used else 0.0
    labels = dict(point.labels)
    return HistogramDataPoint(labels, began, now, value.count, value.total, value.counts, bounds, low, high)
