"""ORCA's messages (xds.data.orca.v3, xds.service.orca.v3) as `LoadReport`: the one file here that knows protobuf."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

from google.protobuf.message import DecodeError
from xds.data.orca.v3 import orca_load_report_pb2 as report_pb
from xds.service.orca.v3 import orca_pb2 as service_pb

from meshsdk.lb.endpoint_load import LoadReport

# Trailing metadata of an answer: gRFC A51's key, and Envoy's for the same in text. A grpcio client cannot see the first
# one (core keeps it for its own balancers), and gRPC's other clients do not know the second: servers send both.
BINARY_KEY = "endpoint-load-metrics-bin"
TEXT_KEY = "endpoint-load-metrics"
KEYS = frozenset((BINARY_KEY, TEXT_KEY))
_BINARY = "BIN "  # how a text begins that is a serialised report in base64
_LARGEST = 64 * 1024  # bytes of a report from outside
_MOST_ENTRIES = 1000  # of each map in it


class UnreadableReport(ValueError):
    """What came is no load report; the message says why."""


def encode(report: LoadReport) -> bytes:
    """Serialises a report."""
    data: bytes = report_pb.OrcaLoadReport(
        cpu_utilization=report.cpu,
        application_utilization=report.application,
        mem_utilization=report.memory,
        rps_fractional=report.qps,
        eps=report.eps,
        utilization=report.utilization,
        request_cost=report.costs,
        named_metrics=report.named,
    ).SerializeToString()
    return data


def decode(data: bytes) -> LoadReport:
    """Reads a report. Values that are no finite number >= 0 count as not told. Raises `UnreadableReport`."""
    if len(data) > _LARGEST:
        raise UnreadableReport(f"load report of {len(data)} bytes: at most {_LARGEST} are read")
    try:
        message = report_pb.OrcaLoadReport.FromString(data)
    except DecodeError as error:
        raise UnreadableReport(f"load report cannot be parsed: {error}") from error
    for entries in (message.utilization, message.request_cost, message.named_metrics):
        if len(entries) > _MOST_ENTRIES:
            raise UnreadableReport(f"load report has a map of {len(entries)} entries: at most {_MOST_ENTRIES} are read")
    return LoadReport(
        cpu=_told(message.cpu_utilization),
        application=_told(message.application_utilization),
        memory=_told(message.mem_utilization),
        qps=_told(message.rps_fractional or float(message.rps)),  # the whole-numbered field is the older one
        eps=_told(message.eps),
        utilization=_all_told(message.utilization),
        costs=_all_told(message.request_cost),
        named={name: value for name, value in message.named_metrics.items() if isfinite(value)},
    )


def entries(report: LoadReport) -> tuple[tuple[str, str | bytes], ...]:
    """Returns the trailing metadata that tells a report."""
    data = encode(report)
    return (BINARY_KEY, data), (TEXT_KEY, _BINARY + b64encode(data).decode())


def reported(trailing: Iterable[Any]) -> LoadReport | None:
    """Reads the report in trailing metadata, None if there is none. Raises `UnreadableReport`."""
    for key, value in trailing:
        if key == TEXT_KEY:
            return _decode_text(value)
        if key == BINARY_KEY:
            return decode(value)
    return None


def _decode_text(value: str) -> LoadReport:
    if not value.startswith(_BINARY) or len(value) > 2 * _LARGEST:
        raise UnreadableReport(f"{TEXT_KEY} of {len(value)} characters: {_BINARY.strip()!r} and base64 are expected")
    try:
        return decode(b64decode(value.removeprefix(_BINARY), validate=True))
    except binascii.Error as error:
        raise UnreadableReport(f"{TEXT_KEY} is no base64: {error}") from error


def encode_request(interval: float) -> bytes:
    """Serialises the request for a report every `interval` seconds (OrcaLoadReportRequest)."""
    request = service_pb.OrcaLoadReportRequest()
    request.report_interval.FromNanoseconds(int(interval * 1e9))
    data: bytes = request.SerializeToString()
    return data


def decode_request(data: bytes) -> float:
    """Returns the interval that is asked for, in seconds; 0.0 leaves it to the server. Raises `UnreadableReport`."""
    try:
        request = service_pb.OrcaLoadReportRequest.FromString(data)
    except DecodeError as error:
        raise UnreadableReport(f"request for load reports cannot be parsed: {error}") from error
    interval: float = request.report_interval.seconds + request.report_interval.nanos / 1e9
    return max(0.0, interval)


def _told(value: float) -> float:
    return value if isfinite(value) and value > 0 else 0.0


def _all_told(values: Mapping[str, float]) -> Mapping[str, float]:
    return {name: value for name, value in values.items() if isfinite(value) and value >= 0}
