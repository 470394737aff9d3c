"""The xDS resources as the SDK understands them: frozen values, one per accepted resource.

Built by `meshsdk.xds_client.codec` (or straight from a registry), read by `resolve`, `routing` and `lb`.
Whatever a codec accepts but does not honour is listed in `ignored` as dotted field paths, never dropped silently.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from meshsdk.model.collection import EndpointCollection, LbEndpoint
from meshsdk.model.endpoints import EndpointMap
from meshsdk.model.filters import FilterConfig, HeaderEdit, NamedFilter, RateLimitActions
from meshsdk.model.matching import RouteMatch
from meshsdk.model.migration import Migration
from meshsdk.model.policy import (
    CircuitBreakers,
    HashPolicy,
    Hedging,
    LbConfig,
    Mirror,
    OutlierDetection,
    RetryPolicy,
    RpcDefaults,
)

Filters = Mapping[str, FilterConfig | None]
"""What overrides a listener's filters, by name; None turns one off."""
NO_FILTERS: Filters = MappingProxyType({})
Methods = Mapping[str, RpcDefaults]
"""What servers say of their methods, by full method name ("/shop.Orders/Get")."""
NO_METHODS: Methods = MappingProxyType({})


class Kind(enum.Enum):
    """The resource types, by xDS type URL."""

    LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
    ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
    CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    LB_ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.LbEndpoint"  # LEDS; keys name whole collections
    RUNTIME = "type.googleapis.com/envoy.service.runtime.v3.Runtime"  # RTDS: how we are steered, not where calls go
    INSTANCES = "meshsdk.instances"  # no type of xDS: what service registries tell, by the name of the cluster

    __hash__ = object.__hash__  # members are singletons, and Enum's own is a Python function


@dataclass(frozen=True, slots=True)
class WeightedCluster:
    """A destination with its share: `weight` of the sum of the weights beside it. Weight 0 is never chosen.

    `request_edits`, `response_edits` run before those of the `Forward`.
    """

    name: str
    weight: int
    filters: Filters = field(default_factory=lambda: NO_FILTERS, hash=False)
    request_edits: tuple[HeaderEdit, ...] = ()
    response_edits: tuple[HeaderEdit, ...] = ()


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the call to one of `clusters` (gRFC A28). `max_duration` (seconds) caps the call (A31).

    None: the route sets no cap of its own, the listener's counts; 0.0: expressly no cap, not even the listener's.
    `header_max_duration`: A31 `grpc_timeout_header_max`; 0 means no cap from the header. `authority_rewrite`: A81.
    `high_priority`: counts against the circuit breakers of HIGH priority. `request_edits`, `response_edits`: in the
    order in which they run, those of route, virtual host and route configuration together. `inherited`: the names of
    those fields that the virtual host said and not the route, for `explain`.
    """

    clusters: tuple[WeightedCluster, ...]
    max_duration: float | None = None
    header_max_duration: float | None = None
    retry: RetryPolicy | None = None
    hash_policies: tuple[HashPolicy, ...] = ()
    authority_rewrite: bool = False
    hedging: Hedging | None = None
    mirrors: tuple[Mirror, ...] = ()
    rate_limits: tuple[RateLimitActions, ...] = ()
    high_priority: bool = False
    request_edits: tuple[HeaderEdit, ...] = ()
    response_edits: tuple[HeaderEdit, ...] = ()
    inherited: frozenset[str] = field(default=frozenset(), compare=False)


@dataclass(frozen=True, slots=True)
class NoForward:
    """A route that a client may not use: the call fails UNAVAILABLE (A28: `non_forwarding_action` and unknown)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Route:
    """One entry of a virtual host; the first match wins."""

    name: str
    match: RouteMatch
    action: Forward | NoForward
    filters: Filters = field(default_factory=lambda: NO_FILTERS, hash=False)


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """Routes for the `domains` (exact, `*suffix`, `prefix*` or `*`); the longest match of the most exact kind wins."""

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]
    filters: Filters = field(default_factory=lambda: NO_FILTERS, hash=False)


@dataclass(frozen=True, slots=True)
class RouteConfiguration:
    """RDS resource, or inlined in a listener."""

    name: str
    virtual_hosts: tuple[VirtualHost, ...]
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listener:
    """LDS resource with an api_listener (A27): exactly one of `route_config_name` and `route_config` is set.

    `http_filters`: in order, those that do something to a call (the router and its like are not kept).
    """

    name: str
    route_config_name: str | None = None
    route_config: RouteConfiguration | None = None
    max_duration: float | None = None
    http_filters: tuple[NamedFilter, ...] = ()
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EdsSource:
    """Endpoints come from the EDS resource `resource_name` (the cluster's own name unless it says otherwise)."""

    resource_name: str


@dataclass(frozen=True, slots=True)
class DnsSource:
    """LOGICAL_DNS: one endpoint, the name `host`:`port`, resolved and re-resolved by the channel (A37)."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class AggregateSource:
    """An aggregate cluster (A37): the leaves of `clusters`, in order, are priorities."""

    clusters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StaticSource:
    """STATIC: endpoints inlined in the cluster's `load_assignment`."""

    endpoints: ClusterEndpoints


@dataclass(frozen=True, slots=True)
class RegistrySource:
    """Endpoints come straight from the service registry that the bootstrap calls `registry`.

    `app`: the application whose instances they are. `interface`: a gRPC service; without `app`, the applications are
    those that serve it, and where there are none it is itself the name of an application. `migration` (None: as the
    client's own settings say) counts with an `interface` only. `unit`: instances of that unit, "" of every unit.
    `labels`: only instances that have all of these.
    """

    registry: str
    app: str = ""
    unit: str = ""
    interface: str = ""
    migration: Migration | None = None
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Cluster:
    """CDS resource. `telemetry_labels` and other filter metadata are not kept.

    `reports`: the server that gives it asks for load reports (A27: `lrs_server` is `self`). `breakers`,
    `high_breakers`: the limits of DEFAULT and of HIGH priority.
    """

    name: str
    source: EdsSource | DnsSource | AggregateSource | StaticSource | RegistrySource
    lb: LbConfig = field(default_factory=LbConfig)
    outlier: OutlierDetection | None = None
    breakers: CircuitBreakers | None = None
    ignored: tuple[str, ...] = ()
    reports: bool = False
    high_breakers: CircuitBreakers | None = None


@dataclass(frozen=True, slots=True, order=True)
class Locality:
    """envoy.config.core.v3.Locality."""

    region: str = ""
    zone: str = ""
    sub_zone: str = ""


@dataclass(frozen=True, slots=True)
class LocalityEndpoints:
    """The endpoints of one locality in one priority (0 is tried first). `weight` >= 1; without one it is not kept.

    `collection`: the LEDS collection that holds them, "" if the EDS resource itself does. `resolve` puts the
    collection's endpoints in; as decoded there are none.
    """

    locality: Locality
    priority: int
    weight: int
    endpoints: EndpointMap
    collection: str = ""


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop `per_million` of one million calls, reported under `category` (EDS `policy.drop_overloads`, A32)."""

    category: str
    per_million: int


@dataclass(frozen=True, slots=True)
class ClusterEndpoints:
    """EDS resource: localities ordered by (priority, locality). `overprovisioning` 1.4 means 140 of the spec.

    `methods`: what the servers say of their methods, by full name (from a registry alone: revisions carry it).
    `layout`: the codec's notes on where endpoints lie in the serialised form, so that the next version costs what
    changed; nobody else reads it.
    """

    name: str
    localities: tuple[LocalityEndpoints, ...]
    drops: tuple[Drop, ...] = ()
    overprovisioning: float = 1.4
    ignored: tuple[str, ...] = ()
    methods: Methods = field(default_factory=lambda: NO_METHODS, hash=False)
    layout: object | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class RuntimeLayer:
    """RTDS resource: settings by which a control plane steers this process. `values`: as in JSON, numbers as float."""

    name: str
    values: Mapping[str, object]
    ignored: tuple[str, ...] = ()


Resource = Listener | RouteConfiguration | Cluster | ClusterEndpoints | EndpointCollection | LbEndpoint | RuntimeLayer
