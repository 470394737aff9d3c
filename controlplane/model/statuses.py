"""gRPC's status codes by name, and what a call sees of an HTTP status. Used by `config` and `translate`."""

from __future__ import annotations

# Number by name; OK, which is 0, is not among them.
ERRORS = {
    name: number
    for number, name in enumerate(
        ("CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
         "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
         "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"), 1,
    )
}  # fmt: skip
STATUSES = {"OK": 0, **ERRORS}
# gRPC's http-grpc-status-mapping.md (gRFC A33 refers to it); any other HTTP status is UNKNOWN.
OF_HTTP = {
    400: "INTERNAL", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "UNIMPLEMENTED", 429: "UNAVAILABLE",
    502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "UNAVAILABLE",
}  # fmt: skip
