"""Which filters and header edits hold for the calls of one route to one cluster (gRFC A39: the most specific wins).

Called by `compiled_route`, when a snapshot arrives. What would do nothing to a call is left out, so that it costs none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from meshsdk.model.filters import (
    AdaptiveConcurrency,
    AdmissionControl,
    Fault,
    FilterConfig,
    HeaderEdit,
    HeaderMutation,
    LocalRateLimit,
    NamedFilter,
    RateLimitRoute,
    RateLimitService,
    StatefulSession,
)
from meshsdk.model.resources import Filters, Forward, WeightedCluster


@dataclass(frozen=True, slots=True)
class Destination:
    """A cluster that the route may choose, with what holds for calls that go there.

    `filters`: those in force, in the listener's order, each with its most specific configuration, a `GateConfig`.
    Edits: all of them, in the order in which they run.
    """

    cluster: str
    filters: tuple[NamedFilter, ...] = ()
    request_edits: tuple[HeaderEdit, ...] = ()
    response_edits: tuple[HeaderEdit, ...] = ()


def destination(
    cluster: WeightedCluster, forward: Forward, filters: Sequence[NamedFilter], overrides: Sequence[Filters]
) -> Destination:
    """Returns what holds for one cluster. `overrides`: above the cluster's own, the least specific first.

    Edits run in Envoy's order: filters, the weighted cluster, the route and what is above it; on the way back the
    filters come last.
    """
    levels = (*overrides, cluster.filters)
    chosen = []
    mutations: list[HeaderMutation] = []
    for one in filters:
        if isinstance(one.config, HeaderMutation):
            mutations.extend(_mutations(one, one.config, levels))
            continue
        config = _asking(_effective(one, levels), forward)
        if config is not None and _acts(config, cluster.name):
            chosen.append(one if config is one.config and not one.off else NamedFilter(one.name, config))
    return Destination(
        cluster.name,
        tuple(chosen),
        tuple(edit for one in mutations for edit in one.request_edits) + cluster.request_edits + forward.request_edits,
        cluster.response_edits + forward.response_edits + tuple(e for one in mutations for e in one.response_edits),
    )


def _effective(one: NamedFilter, levels: Sequence[Filters]) -> FilterConfig | None:
    config = None if one.off else one.config
    for level in levels:
        if one.name not in level:
            continue
        override = level[one.name]
        if isinstance(override, RateLimitRoute):
            base = config or one.config
            if isinstance(base, RateLimitService):
                config = replace(
                    base, domain=override.domain or base.domain, rate_limits=override.rate_limits or base.rate_limits
                )
        elif override is None or one.config is None or type(override) is type(one.config):
            config = override
    return config


def _asking(config: FilterConfig | None, forward: Forward) -> FilterConfig | None:
    """Gives a rate limit that has no actions of its own those of the route."""
    if isinstance(config, LocalRateLimit | RateLimitService) and forward.rate_limits and not config.rate_limits:
        return replace(config, rate_limits=forward.rate_limits)
    return config


def _mutations(one: NamedFilter, config: HeaderMutation, levels: Sequence[Filters]) -> Iterator[HeaderMutation]:
    """Yields the mutations of the listener and of every level, which add up; the most specific level's first."""
    said = [level[one.name] for level in levels if one.name in level]
    if said[-1] is None if said else one.off:
        return
    yield config
    for level in levels if config.specific_last else reversed(levels):
        override = level.get(one.name)
        if isinstance(override, HeaderMutation):
            yield override


def _acts(config: FilterConfig, cluster: str) -> bool:
    """Whether a call to `cluster` can notice the filter."""
    if isinstance(config, Fault):
        aborts = bool(config.abort_code or config.abort_from_header) and config.abort_share > 0
        delays = bool(config.delay or config.delay_from_header) and config.delay_share > 0
        return (aborts or delays) and config.max_active != 0 and config.cluster in {"", cluster}
    if isinstance(config, LocalRateLimit):
        return config.enabled > 0 and bool(config.bucket or config.descriptors)
    if isinstance(config, AdaptiveConcurrency | AdmissionControl):
        return config.enabled
    if isinstance(config, StatefulSession):
        return config.enabled and bool(config.name)
    return isinstance(config, RateLimitService)
