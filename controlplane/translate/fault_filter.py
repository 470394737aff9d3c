"""A fault to `envoy.extensions.filters.http.fault.v3.HTTPFault` (gRFC A33). Pure; used by `http_filters`."""

from __future__ import annotations

from envoy.extensions.filters.http.fault.v3 import fault_pb2

from controlplane.model.statuses import ERRORS
from controlplane.translate.durations import duration
from controlplane.translate.packing import fraction
from meshsdk.model.filters import Fault


def http_fault(value: Fault) -> fault_pb2.HTTPFault:
    """Returns the wire form: a fixed delay and a gRPC status, each for its share of the calls."""
    message = fault_pb2.HTTPFault()
    if value.delay_share:
        message.delay.fixed_delay.CopyFrom(duration(value.delay))
        message.delay.percentage.CopyFrom(fraction(value.delay_share))
    if value.abort_share:
        message.abort.grpc_status = ERRORS[value.abort_code]
        message.abort.percentage.CopyFrom(fraction(value.abort_share))
    return message
