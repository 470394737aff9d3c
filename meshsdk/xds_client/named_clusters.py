"""Which clusters a target's calls may ask for: of routes, of their mirrors, of filters that ask a service. Pure.

Called by `resolve`, which looks at them and puts them into the snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meshsdk.model.filters import FilterConfig, RateLimitService
from meshsdk.model.resources import Forward, Listener, VirtualHost


def named_clusters(listener: Listener, host: VirtualHost) -> Iterable[str]:
    """Returns the clusters, each once: those of routes in their order, then mirrors, then rate limit services."""
    asked = (one.cluster for one in asked_services(listener, host) if one.cluster)
    return dict.fromkeys((*_forwarded(host), *_mirrored(host), *asked))


def _forwards(host: VirtualHost) -> Iterator[Forward]:
    return (route.action for route in host.routes if isinstance(route.action, Forward))


def _forwarded(host: VirtualHost) -> Iterator[str]:
    return (cluster.name for forward in _forwards(host) for cluster in forward.clusters)


def _mirrored(host: VirtualHost) -> Iterator[str]:
    return (mirror.cluster for forward in _forwards(host) for mirror in forward.mirrors)


def asked_services(listener: Listener, host: VirtualHost) -> Iterator[RateLimitService]:
    """Yields what filters of the listener ask, or may ask because something overrides such a filter."""
    names = {one.name for one in listener.http_filters}
    configs: list[FilterConfig | None] = [one.config for one in listener.http_filters]
    clusters = (cluster.filters for forward in _forwards(host) for cluster in forward.clusters)
    for overrides in (host.filters, *(route.filters for route in host.routes), *clusters):
        configs.extend(config for name, config in overrides.items() if name in names)
    return (config for config in configs if isinstance(config, RateLimitService))
