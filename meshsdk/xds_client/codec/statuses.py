"""Statuses that configuration names by number: HTTP's and gRPC's -> gRPC status names. Called by the filters' decoders.

Spec: https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md, which Envoy and gRFC A33 go by.
"""

from __future__ import annotations

_NAMES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
_BY_HTTP = {
    400: "INTERNAL",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "UNIMPLEMENTED",
    429: "UNAVAILABLE",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "UNAVAILABLE",
}
_FIRST_ERROR = 400
_TOO_MANY = 429


def grpc_status(number: int) -> str:
    """Returns the name of a gRPC status; a number that gRPC does not know is UNKNOWN."""
    return _NAMES[number] if 0 <= number < len(_NAMES) else "UNKNOWN"


def known_status(number: int) -> bool:
    """Whether gRPC has a status of this number."""
    return 0 <= number < len(_NAMES)


def from_http(code: int) -> str:
    """Returns what a client makes of an HTTP status that comes in place of a gRPC one."""
    return _BY_HTTP.get(code, "UNKNOWN")


def refusing(code: int, default: int = _TOO_MANY) -> str:
    """Returns what an envoy.type.v3.HttpStatus of a refusal comes to; Envoy takes none below 400."""
    return from_http(code if code >= _FIRST_ERROR else default)
