"""Figures of the rate limit service in Prometheus' form. Called by `metrics`."""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.ratelimit.limiter import LimitFigures
from meshsdk.errors import ConfigurationError

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
except ModuleNotFoundError as error:
    raise ConfigurationError("metrics need prometheus_client: pip install 'meshsdk[controlplane]'") from error

_NAME = "meshsdk_rate_limit"
_LABELS = ["domain", "limit", "outcome"]


def rate_limit_metrics(figures: LimitFigures) -> Iterator[Metric]:
    """Yields the families. Labels are of the configuration: domains and limits that nobody configured have none."""
    decisions = CounterMetricFamily(f"{_NAME}_decisions", "Descriptors decided, by limit and outcome", labels=_LABELS)
    for (domain, limit, outcome), count in sorted(figures.decisions.items()):
        decisions.add_metric([domain, limit, outcome], count)
    yield decisions
    yield CounterMetricFamily(f"{_NAME}_failures", "Questions that the store could not count", figures.failures)
    yield GaugeMetricFamily(f"{_NAME}_store_up", "1 while hits can be counted", int(figures.store.up))
    if figures.store.counters is not None:
        yield GaugeMetricFamily(f"{_NAME}_counters", "Counters held in memory", figures.store.counters)
        words = "Counters dropped before the end of their window, for want of room"
        yield CounterMetricFamily(f"{_NAME}_counters_dropped", words, figures.store.dropped)
