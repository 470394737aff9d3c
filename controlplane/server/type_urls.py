"""The xDS resource types by type URL: their order on ADS, which are sent whole, and which services carry them.

Used by the machine (order), the cache (nothing else knows types) and the service (paths). Reads no protobuf.
"""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "type.googleapis.com/"

LISTENER = PREFIX + "envoy.config.listener.v3.Listener"
ROUTE = PREFIX + "envoy.config.route.v3.RouteConfiguration"
SCOPED_ROUTE = PREFIX + "envoy.config.route.v3.ScopedRouteConfiguration"
VIRTUAL_HOST = PREFIX + "envoy.config.route.v3.VirtualHost"
CLUSTER = PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINT = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LB_ENDPOINT = PREFIX + "envoy.config.endpoint.v3.LbEndpoint"
SECRET = PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
RUNTIME = PREFIX + "envoy.service.runtime.v3.Runtime"
EXTENSION_CONFIG = PREFIX + "envoy.config.core.v3.TypedExtensionConfig"

# xDS "Eventual consistency considerations": what others refer to goes first, so nothing ever points into the void.
ORDER = (
    SECRET,
    CLUSTER,
    ENDPOINT,
    LB_ENDPOINT,
    EXTENSION_CONFIG,
    LISTENER,
    SCOPED_ROUTE,
    ROUTE,
    VIRTUAL_HOST,
    RUNTIME,
)
_RANKS = {type_url: rank for rank, type_url in enumerate(ORDER)}

# What listeners and routes refer to: made before them, broken after them (machine.py).
FOUNDATION = frozenset({SECRET, CLUSTER, ENDPOINT, LB_ENDPOINT, EXTENSION_CONFIG})

# Foundation types in the order in which they may be taken away: whoever refers goes before what it refers to. Single
# endpoints have a rule of their own (machine.py).
BREAK_ORDER = (CLUSTER, ENDPOINT, SECRET, EXTENSION_CONFIG)

# xDS "Grouping Resources into Responses": state-of-the-world responses of these types name everything there is.
WHOLE_STATE = frozenset({LISTENER, CLUSTER})


def rank(type_url: str) -> int:
    """Returns the place of a type in `ORDER`; types not named there come last."""
    return _RANKS.get(type_url, len(ORDER))


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC of a discovery service. `type_url` is "" on the aggregated service: each request says its own."""

    type_url: str
    delta: bool = False
    unary: bool = False


_SERVICES: tuple[tuple[str, str, str, str, bool], ...] = (
    ("listener", "ListenerDiscoveryService", "Listeners", LISTENER, True),
    ("route", "RouteDiscoveryService", "Routes", ROUTE, True),
    ("route", "ScopedRoutesDiscoveryService", "ScopedRoutes", SCOPED_ROUTE, True),
    ("route", "VirtualHostDiscoveryService", "VirtualHosts", VIRTUAL_HOST, False),
    ("cluster", "ClusterDiscoveryService", "Clusters", CLUSTER, True),
    ("endpoint", "EndpointDiscoveryService", "Endpoints", ENDPOINT, True),
    ("endpoint", "LocalityEndpointDiscoveryService", "LocalityEndpoints", LB_ENDPOINT, False),
    ("secret", "SecretDiscoveryService", "Secrets", SECRET, True),
    ("runtime", "RuntimeDiscoveryService", "Runtime", RUNTIME, True),
    ("extension", "ExtensionConfigDiscoveryService", "ExtensionConfigs", EXTENSION_CONFIG, True),
)


def methods() -> dict[str, Method]:
    """Returns every discovery RPC of the v3 API by its path (`/package.Service/Method`)."""
    aggregated = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
    found = {
        aggregated + "StreamAggregatedResources": Method(""),
        aggregated + "DeltaAggregatedResources": Method("", delta=True),
    }
    for package, service, noun, type_url, state_of_the_world in _SERVICES:
        path = f"/envoy.service.{package}.v3.{service}/"
        found[f"{path}Delta{noun}"] = Method(type_url, delta=True)
        if state_of_the_world:
            found[f"{path}Stream{noun}"] = Method(type_url)
            found[f"{path}Fetch{noun}"] = Method(type_url, unary=True)
    return found
