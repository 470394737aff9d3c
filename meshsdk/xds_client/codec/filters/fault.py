"""HTTPFault -> `Fault` (gRFC A33). Called by `http_filters`; injects nothing itself."""

from __future__ import annotations

import re
from typing import Any

from envoy.extensions.filters.http.fault.v3 import fault_pb2

from meshsdk.model.filters import Fault
from meshsdk.model.matching import HeaderMatch, StringKind, StringMatch
from meshsdk.routing.regex import compile_regex
from meshsdk.xds_client.codec.ignored import Honoured, unhonoured
from meshsdk.xds_client.codec.matching import header_matches
from meshsdk.xds_client.codec.refusal import FieldError, cut
from meshsdk.xds_client.codec.runtime_values import share_of
from meshsdk.xds_client.codec.statuses import from_http, grpc_status
from meshsdk.xds_client.codec.values import positive_seconds

MESSAGE = fault_pb2.HTTPFault
_HONOURED: Honoured = {
    "delay": {"fixed_delay": None, "header_delay": None, "percentage": None},
    "abort": {"http_status": None, "grpc_status": None, "header_abort": None, "percentage": None},
    "upstream_cluster": None,
    "headers": None,
    "downstream_nodes": None,
    "max_active_faults": None,
    "disable_downstream_cluster_stats": None,  # of statistics
}
_HTTP_STATUSES = range(200, 600)
_NODE = "x-envoy-downstream-service-node"


def fault(message: Any, path: str, noted: set[str], listed: str) -> Fault:
    """Returns an HTTPFault; one without delay and abort injects nothing."""
    noted.update(unhonoured(message, _HONOURED, listed))
    delay, abort = message.delay, message.abort
    code = _abort_code(abort, f"{path}.abort") if message.HasField("abort") else ""
    kind = delay.WhichOneof("fault_delay_secifier")
    if message.HasField("delay") and kind is None:
        raise FieldError(f"{path}.delay", "says neither fixed_delay nor header_delay")
    return Fault(
        delay=positive_seconds(delay.fixed_delay, f"{path}.delay.fixed_delay") if kind == "fixed_delay" else 0.0,
        delay_share=share_of(delay.percentage, f"{path}.delay.percentage"),
        delay_from_header=kind == "header_delay",
        abort_code=code,
        abort_share=share_of(abort.percentage, f"{path}.abort.percentage"),
        abort_from_header=abort.WhichOneof("error_type") == "header_abort",
        max_active=message.max_active_faults.value if message.HasField("max_active_faults") else None,
        headers=header_matches(message.headers, f"{path}.headers") + _nodes(message.downstream_nodes, path),
        cluster=message.upstream_cluster,
    )


def _abort_code(abort: Any, path: str) -> str:
    kind = abort.WhichOneof("error_type")
    if kind == "http_status":
        if abort.http_status not in _HTTP_STATUSES:
            raise FieldError(f"{path}.http_status", f"{abort.http_status} is not in 200 to 599")
        return from_http(abort.http_status)
    if kind == "grpc_status":
        if abort.grpc_status == 0:
            raise FieldError(f"{path}.grpc_status", "0 (OK) is no failure, and a call without an answer cannot be OK")
        return grpc_status(abort.grpc_status)
    if kind is None:
        raise FieldError(path, "says none of http_status, grpc_status and header_abort")
    return ""


def _nodes(names: Any, path: str) -> tuple[HeaderMatch, ...]:
    """The callers that the fault is meant for, by the header that names them (as in Envoy)."""
    if not names:
        return ()
    pattern = "|".join(re.escape(name) for name in names)
    try:
        compile_regex(pattern)
    except ValueError as error:
        raise FieldError(f"{path}.downstream_nodes", cut(str(error))) from error
    return (HeaderMatch(_NODE, StringMatch(StringKind.REGEX, pattern)),)
