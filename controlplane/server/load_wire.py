"""Load reports as clients send them (envoy.service.load_stats.v3): bytes to counts, with limits. Pure.

Called by `load_stats`. A cluster's localities are summed up: reports are about clients and services.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import load_report_pb2
from envoy.service.load_stats.v3 import lrs_pb2
from google.protobuf.message import DecodeError

from controlplane.loads.buckets import Counted
from controlplane.server.wire import Refused

METHOD = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats"
ALL_CLUSTERS = "envoy.lrs.supports_send_all_clusters"
_NAMED = ("cancelled", "retried", "moved", "doubled")  # load_metric_stats `meshsdk.NAME`
_OURS, _STATUS = "meshsdk.", "meshsdk.status."
# In the node's metadata.
_PROCESS, _NUMBER, _LAST = "meshsdk.process", "meshsdk.report_number", "meshsdk.last_report"
# gRPC's statuses; clients may make names up.
_STATUSES = frozenset(
    (
        *("CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED"),
        *("NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "UNAUTHENTICATED"),
        *("RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
        *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    )
)
_MOST_ENTRIES = 10_000  # clusters with their localities in one report
_LONGEST_NAME = 1_024  # characters
_MOST_CALLS = 1_000_000_000  # in one count of one report


@dataclass(slots=True)
class _Sum:
    numbers: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)


def read(raw: bytes) -> tuple[base_pb2.Node, dict[str, Counted]]:
    """Returns the node, which only a stream's first message has, and what calls came to, by cluster.

    Raises:
        Refused: not a report, or over a limit.
    """
    try:
        message = lrs_pb2.LoadStatsRequest.FromString(raw)
    except DecodeError as error:
        raise Refused(f"the request is not a LoadStatsRequest: {error}") from error
    entries = sum(1 + len(stats.upstream_locality_stats) for stats in message.cluster_stats)
    if entries > _MOST_ENTRIES:
        raise Refused(f"{entries} clusters and localities in one report; this server takes {_MOST_ENTRIES}")
    sums: dict[str, _Sum] = {}
    for stats in message.cluster_stats:
        if len(stats.cluster_name) > _LONGEST_NAME:
            raise Refused(
                f"a cluster's name of {len(stats.cluster_name)} characters; this server takes {_LONGEST_NAME}"
            )
        _add(sums.setdefault(stats.cluster_name, _Sum()), stats)
    return message.node, {name: _counted(one) for name, one in sums.items()}


def _add(total: _Sum, stats: load_report_pb2.ClusterStats) -> None:
    total.numbers["failed"] += _count(stats.total_dropped_requests)  # they failed as the application sees it
    for each in stats.upstream_locality_stats:
        total.numbers["succeeded"] += _count(each.total_successful_requests)
        total.numbers["failed"] += _count(each.total_error_requests)
        for metric in each.load_metric_stats:
            count = _count(metric.num_requests_finished_with_metric)
            if metric.metric_name.startswith(_STATUS):
                status = metric.metric_name.removeprefix(_STATUS)
                total.statuses[status if status in _STATUSES else "UNKNOWN"] += count
            elif metric.metric_name.removeprefix(_OURS) in _NAMED:
                total.numbers[metric.metric_name.removeprefix(_OURS)] += count


def _count(number: int) -> int:
    if number > _MOST_CALLS:
        raise Refused(f"{number} calls in one report; this server takes {_MOST_CALLS}")
    return number


def _counted(total: _Sum) -> Counted:
    """LRS counts calls that the application cancelled as errors; here they are none."""
    numbers = total.numbers
    failed = max(0, numbers["failed"] - numbers["cancelled"])
    return Counted(
        numbers["succeeded"],
        failed,
        numbers["cancelled"],
        numbers["retried"],
        numbers["moved"],
        numbers["doubled"],
        statuses=total.statuses,
    )


def process_of(node: base_pb2.Node) -> str:
    """Returns the text that a client's process has for itself, "" for one that says none."""
    if _PROCESS not in node.metadata.fields:
        return ""
    return str(node.metadata.fields[_PROCESS].string_value)[:64]


def number_of(node: base_pb2.Node) -> int | None:
    """Returns how many reports with counts a client's process says to have sent so far; None if it says no count."""
    number = node.metadata.fields[_NUMBER].number_value if _NUMBER in node.metadata.fields else -1.0
    return int(number) if 0 <= number <= _MOST_CALLS else None


def is_last(node: base_pb2.Node) -> bool:
    """Tells whether a client says that this is its last report. One that ends its stream without may have had more."""
    return bool(_LAST in node.metadata.fields and node.metadata.fields[_LAST].bool_value)


def order(interval: float, clusters: tuple[str, ...] | None) -> bytes:
    """Returns the response that asks for reports every `interval` seconds of `clusters`, None for all."""
    message = lrs_pb2.LoadStatsResponse(clusters=clusters or (), send_all_clusters=clusters is None)
    message.load_reporting_interval.FromNanoseconds(round(interval * 1e9))
    data: bytes = message.SerializeToString()
    return data
