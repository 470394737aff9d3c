"""A route's action -> `Forward` or `NoForward`. Called by `route`.

Specs: gRFC A28 (clusters), A31 (max_stream_duration; `timeout` does not count), A42 (hash policies), A81
(authority rewrite); `inheritance` for what virtual hosts may say too.
"""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import base_pb2

from meshsdk.model.resources import Forward, NoForward, WeightedCluster
from meshsdk.xds_client.codec import inheritance
from meshsdk.xds_client.codec.hashing import hash_policies
from meshsdk.xds_client.codec.http_filters import overrides
from meshsdk.xds_client.codec.ignored import Honoured
from meshsdk.xds_client.codec.inheritance import Level
from meshsdk.xds_client.codec.refusal import FieldError, cut, shown
from meshsdk.xds_client.codec.values import UINT32_MAX, required, seconds

HONOURED: Honoured = {
    **inheritance.ACTION,
    "cluster": None,
    "weighted_clusters": {
        "clusters": {"name": None, "weight": None, "typed_per_filter_config": None, **inheritance.EDITS}
    },
    "cluster_specifier_plugin": None,
    "timeout": None,  # `timeout_counts`
    "max_stream_duration": {"max_stream_duration": None, "grpc_timeout_header_max": None},
    "hash_policy": None,
}

_FORWARDING = ("cluster", "weighted_clusters")


def unsupported_specifier(action: Any) -> str:
    """Returns the name of a cluster specifier that A28 skips the route for, "" if the route is to be kept."""
    kind = action.WhichOneof("cluster_specifier")
    return "" if kind in _FORWARDING else kind or "cluster_specifier"


def forward(action: Any, level: Level, path: str, noted: set[str], listed: str) -> Forward:
    """Returns a RouteAction. `level`: what route, virtual host and configuration say; the action itself says more.

    `noted` gets what has no effect, below `listed`.
    """
    above, level = level, inheritance.of_action(action, level, path, noted, listed)
    limit = action.max_stream_duration
    where = f"{path}.max_stream_duration"
    header_max = limit.HasField("grpc_timeout_header_max")
    stream_max = limit.HasField("max_stream_duration")
    return Forward(
        clusters=_clusters(action, path, noted, listed),
        max_duration=seconds(limit.max_stream_duration, f"{where}.max_stream_duration") if stream_max else None,
        header_max_duration=(
            seconds(limit.grpc_timeout_header_max, f"{where}.grpc_timeout_header_max") if header_max else None
        ),
        retry=level.retry,
        hash_policies=hash_policies(action.hash_policy, f"{path}.hash_policy"),
        authority_rewrite=action.auto_host_rewrite.value,
        hedging=inheritance.hedging(level),
        mirrors=level.mirrors,
        rate_limits=level.rate_limits,
        high_priority=action.priority == base_pb2.RoutingPriority.HIGH,
        request_edits=level.request_edits,
        response_edits=level.response_edits,
        inherited=inheritance.inherited(above, level),
    )


def timeout_counts(action: Any) -> bool:
    """Whether what `timeout` says is what happens here, where only max_stream_duration counts (A31).

    Control planes that serve Envoy too send both with one value, or "0s" against Envoy's default of 15 s.
    """
    if not action.HasField("timeout"):
        return True
    limit = action.max_stream_duration.max_stream_duration
    return bool(action.timeout.seconds == limit.seconds and action.timeout.nanos == limit.nanos)


def no_forward(kind: str | None, words: str) -> NoForward:
    """Returns the action of a route that a client cannot follow: calls that match it fail (A28, A36).

    `words`: what a direct response says, which is for the caller.
    """
    if words:
        return NoForward(f"the control plane answers: {cut(repr(words))}")
    return NoForward(f"the route's action is {kind}, which a gRPC client cannot follow" if kind else "no action is set")


def _clusters(action: Any, path: str, noted: set[str], listed: str) -> tuple[WeightedCluster, ...]:
    if action.WhichOneof("cluster_specifier") == "cluster":
        return (WeightedCluster(required(action.cluster, f"{path}.cluster"), 1),)
    where, listed = f"{path}.weighted_clusters", f"{listed}.weighted_clusters.clusters"
    total = 0
    chosen = []
    for i, one in enumerate(action.weighted_clusters.clusters):
        place = f"{where}.clusters[{i}]"
        if one.cluster_header:
            raise FieldError(f"{place}.cluster_header", f"{shown(one.cluster_header)} is not supported")
        name = required(one.name, f"{place}.name")
        filters = overrides(
            one.typed_per_filter_config,
            f"{place}.typed_per_filter_config",
            noted,
            f"{listed}.typed_per_filter_config",
        )
        requests, responses = inheritance.own_edits(one, f"{place}.", noted, f"{listed}.")
        total += one.weight.value
        if one.weight.value:  # weight 0 is never chosen: not even subscribed to
            chosen.append(WeightedCluster(name, one.weight.value, filters, requests, responses))
    if not 0 < total <= UINT32_MAX:
        raise FieldError(where, f"the sum of the weights is {total}, must be 1 to {UINT32_MAX}")
    return tuple(chosen)
