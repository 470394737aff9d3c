"""The words of OpenTelemetry's semantic conventions for gRPC: names of spans and what stands in them.

Used by `spans` and `server_spans`; looks at nothing but its arguments.
"""

from __future__ import annotations

from opentelemetry.trace import Span, Status, StatusCode

from meshsdk.model.resources import Locality

STATUS_CODE = "rpc.grpc.status_code"

CODES = {
    name: number
    for number, name in enumerate(
        (
            *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
            *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
            *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
        )
    )
}
SERVER_ERRORS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""What the conventions call a server's own error; the others are the caller's."""

_DETAILS = 1024  # characters of a status's details kept in a span


def rpc(method: str) -> dict[str, str]:
    """Returns `rpc.system`, `rpc.service` and `rpc.method` of `/pkg.Service/Method`."""
    service, _, name = method.lstrip("/").partition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}


def peer(address: str) -> dict[str, str | int]:
    """Returns `server.address` and `server.port` of an endpoint's address, whatever form it has."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        return {"server.address": address}
    return {"server.address": host.strip("[]"), "server.port": int(port)}


def words(locality: Locality | None) -> str:
    """Returns `region/zone/sub_zone`, as far as they are known."""
    return "" if locality is None else f"{locality.region}/{locality.zone}/{locality.sub_zone}".strip("/")


def conclude(span: Span, code: str, details: str, *, error: bool) -> None:
    """Writes a gRPC status into a span and ends it."""
    span.set_attribute(STATUS_CODE, CODES.get(code, CODES["UNKNOWN"]))
    if error:
        span.set_status(Status(StatusCode.ERROR, f"{code}: {details[:_DETAILS]}" if details else code))
        span.set_attribute("error.type", code)
    span.end()
