"""What DestinationRule says: how calls are spread over a host, its limits, and its subsets.

Durations are seconds. A field that is None was not written: the next outer level decides, then the client's default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.model.identity import Origin, ResourceId
from meshsdk.model.policy import EndpointPolicy, HashHeader, RetryBudget, SlowStart


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """`trafficPolicy.loadBalancer`. `hash_header` is set with the consistent-hash policies only."""

    policy: EndpointPolicy
    hash_header: HashHeader | None = None
    slow_start: SlowStart | None = None
    prefer_zone: bool = False


@dataclass(frozen=True, slots=True)
class OutlierPolicy:
    """`trafficPolicy.outlierDetection`. Percentages are 0-100."""

    consecutive_5xx: int | None = None
    consecutive_gateway: int | None = None
    split_local_origin: bool | None = None
    consecutive_local_origin: int | None = None
    interval: float | None = None
    base_ejection_time: float | None = None
    max_ejection_percent: int | None = None
    min_health_percent: int | None = None


@dataclass(frozen=True, slots=True)
class Keepalive:
    """`connectionPool.tcp.tcpKeepalive`."""

    probes: int | None = None
    time: float | None = None
    interval: float | None = None


@dataclass(frozen=True, slots=True)
class ConnectionPool:
    """`trafficPolicy.connectionPool`, both its `tcp` and its `http` part."""

    max_connections: int | None = None
    connect_timeout: float | None = None
    keepalive: Keepalive | None = None
    max_connection_duration: float | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None
    max_requests_per_connection: int | None = None
    max_retries: int | None = None
    idle_timeout: float | None = None
    max_concurrent_streams: int | None = None


@dataclass(frozen=True, slots=True)
class TrafficPolicy:
    """`trafficPolicy` of a rule or of a subset; a subset's parts replace the rule's, part by part."""

    load_balancer: LoadBalancer | None = None
    outlier: OutlierPolicy | None = None
    pool: ConnectionPool | None = None
    retry_budget: RetryBudget | None = None

    def over(self, outer: TrafficPolicy) -> TrafficPolicy:
        """Returns this policy with the parts it lacks taken from `outer`."""
        return TrafficPolicy(
            self.load_balancer or outer.load_balancer,
            self.outlier or outer.outlier,
            self.pool or outer.pool,
            self.retry_budget or outer.retry_budget,
        )


@dataclass(frozen=True, slots=True)
class Subset:
    """The workloads of a host that carry all `labels`."""

    name: str
    labels: Mapping[str, str]
    policy: TrafficPolicy = TrafficPolicy()


@dataclass(frozen=True, slots=True)
class DestinationRule:
    """`networking.istio.io/v1` DestinationRule."""

    id: ResourceId
    host: str
    policy: TrafficPolicy = TrafficPolicy()
    subsets: tuple[Subset, ...] = ()
    origin: Origin = field(default=Origin("", 0), compare=False)

    def subset(self, name: str) -> Subset | None:
        """Returns the subset of this name, or None."""
        return next((subset for subset in self.subsets if subset.name == name), None)
