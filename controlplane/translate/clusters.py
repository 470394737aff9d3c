"""The CDS resources of a service: one cluster for all of it and one for each subset, in each unit. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from controlplane.model.call_policy import ServiceParts
from controlplane.model.configuration import Configuration
from controlplane.model.policy import LoadBalancer, Subset, TrafficPolicy
from controlplane.translate.balancing import apply_load_balancer, apply_to_aggregate
from controlplane.translate.cluster_sources import Aggregate, Source, apply_source, called, sources
from controlplane.translate.limits import apply_limits
from controlplane.translate.names import cluster_name
from controlplane.translate.outliers import apply_outliers
from controlplane.translate.packing import packed
from controlplane.translate.units import unit_parts
from controlplane.translate.view import View
from meshsdk.model.policy import RoundRobin

_PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def clusters(host: str, configuration: Configuration, view: View) -> Iterator[cluster_pb2.Cluster]:
    """Yields the clusters of a host that the view may use.

    `host` and, where a DestinationRule has subsets, `host|subset` for each; for a host under a UnitPolicy those of the
    caller's unit and its exits, `host||unit`. What others are made of comes before them.
    """
    rule = configuration.rules.get(host)
    policy = rule.policy if rule else TrafficPolicy()
    calls = configuration.calls_of(host).service
    parts = unit_parts(host, configuration, view)
    for subset in (Subset("", {}), *(rule.subsets if rule else ())):
        effective = subset.policy.over(policy)
        for part in parts:
            name = cluster_name(host, subset.name, part.name)
            if part.leaves:
                leaves = ((leaf, cluster_name(host, subset.name, leaf)) for leaf in part.leaves)
                found = tuple(called(whole, host, leaf, configuration, view) for leaf, whole in leaves)
                yield _cluster(name, Aggregate(found), effective, calls, view)
                continue
            for each, source in sources(name, host, subset.labels, part.name, configuration, view).items():
                yield _cluster(each, source, effective, calls, view)


def _cluster(name: str, source: Source, policy: TrafficPolicy, calls: ServiceParts, view: View) -> cluster_pb2.Cluster:
    message = cluster_pb2.Cluster(name=name)
    apply_source(message, source)
    balancer = policy.load_balancer or LoadBalancer(RoundRobin())
    if calls.weighted:
        balancer = LoadBalancer(calls.weighted, slow_start=balancer.slow_start, prefer_zone=balancer.prefer_zone)
    if isinstance(source, Aggregate):
        apply_to_aggregate(message, balancer)  # limits and outlier detection are its leaves' matter
        return message
    apply_load_balancer(message, balancer)
    if view.load_reports:
        message.lrs_server.self.SetInParent()  # gRFC A27: the counts of its calls go where the cluster came from
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.explicit_http_config.http2_protocol_options.SetInParent()  # Envoy would speak HTTP/1.1
    apply_limits(message, options, policy, calls)
    apply_outliers(message, policy.outlier, calls.outliers)
    message.typed_extension_protocol_options[_PROTOCOL_OPTIONS].CopyFrom(packed(options))
    return message
