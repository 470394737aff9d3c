"""Load reports on the wire: envoy.service.load_stats.v3 (LRS). Loaded by `load_reporter` when it is needed."""

from __future__ import annotations

from dataclasses import dataclass

from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import load_report_pb2
from envoy.service.load_stats.v3 import lrs_pb2
from google.protobuf.message import DecodeError

from meshsdk.xds_client.load_counts import Load

METHOD = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats"
# Ours, in the node's metadata.
_PROCESS, _NUMBER, _LAST = "meshsdk.process", "meshsdk.report_number", "meshsdk.last_report"
_ALL_CLUSTERS = "envoy.lrs.supports_send_all_clusters"  # client feature of LRS: the server need not list clusters


@dataclass(frozen=True, slots=True)
class Order:
    """What a server asks for: reports every `interval` seconds of these clusters, None for all."""

    interval: float
    clusters: frozenset[str] | None


def first_request(node: base_pb2.Node, process: str) -> bytes:
    """Returns the first message of a stream, which says who reports; `process`: see `LoadCounts`."""
    message = lrs_pb2.LoadStatsRequest(node=node)
    message.node.metadata.update({_PROCESS: process})
    message.node.client_features.append(_ALL_CLUSTERS)
    data: bytes = message.SerializeToString()
    return data


def report(loads: list[Load], seconds: float, number: int, *, last: bool) -> bytes:
    """Returns a report of what came about in the last `seconds`, one entry for each cluster.

    `number`: see `LoadCounts.taken`; `last`: no more come.
    """
    message = lrs_pb2.LoadStatsRequest()
    message.node.metadata.update({_NUMBER: number})
    if last:
        message.node.metadata.update({_LAST: True})
    clusters: dict[tuple[str, str], load_report_pb2.ClusterStats] = {}
    for load in loads:
        place = load.place
        stats = clusters.get((place.cluster, place.service))
        if stats is None:
            stats = message.cluster_stats.add(cluster_name=place.cluster, cluster_service_name=place.service)
            stats.load_report_interval.FromNanoseconds(round(seconds * 1e9))
            clusters[place.cluster, place.service] = stats
        entry = stats.upstream_locality_stats.add(
            total_successful_requests=load.succeeded,
            total_error_requests=load.errors,
            total_issued_requests=load.issued,
            total_requests_in_progress=load.running,
        )
        where = place.locality
        entry.locality.region, entry.locality.zone, entry.locality.sub_zone = where.region, where.zone, where.sub_zone
        for name, count in load.named:
            entry.load_metric_stats.add(
                metric_name=name, num_requests_finished_with_metric=count, total_metric_value=count
            )
    data: bytes = message.SerializeToString()
    return data


def order(data: bytes) -> Order | None:
    """Reads a response; None for bytes that are none."""
    try:
        message = lrs_pb2.LoadStatsResponse.FromString(data)
    except DecodeError:
        return None
    clusters = None if message.send_all_clusters else frozenset(message.clusters)
    return Order(message.load_reporting_interval.ToNanoseconds() / 1e9, clusters)
