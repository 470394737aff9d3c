"""Turns a refusal into `google.rpc` details: the entry `grpc-status-details-bin` of a call's trailing metadata.

Called where a call is refused: by the channel for gates and breakers, by the server interceptors for limits. What the
caller reads with `grpc_status.rpc_status.from_call`: ErrorInfo always, RetryInfo where a wait is known, QuotaFailure
where a quota was the reason. It decides nothing, and costs nothing to calls that are not refused.
"""

from __future__ import annotations

import math
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from meshsdk.interceptors.policies.steps import Reject, RejectionInfo

DOMAIN = "meshsdk"  # of ErrorInfo: who refused, as against the service itself
_LONGEST = 256  # characters of a text: all of the metadata has to fit what peers accept (8 KiB)


def trailing(reject: Reject) -> tuple[tuple[str, str | bytes], ...]:
    """Returns the trailing metadata of a refused call: what the refusal brings, and its details."""
    if reject.info is None:
        return reject.trailing
    status = status_pb2.Status(code=grpc.StatusCode[reject.code].value[0], message=reject.details)
    for detail in _details(reject.info, reject.category):
        status.details.add().Pack(detail)
    made: Any = rpc_status.to_status(status).trailing_metadata
    return (*reject.trailing, *((key, value) for key, value in made))


def _details(info: RejectionInfo, category: str) -> list[Any]:
    metadata = {"category": category, **{key: value[:_LONGEST] for key, value in info.metadata}}
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=info.reason, domain=DOMAIN, metadata=metadata)]
    if info.retry_after is not None and math.isfinite(info.retry_after):
        delay = Duration()
        delay.FromNanoseconds(max(1, round(info.retry_after * 1e9)))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if info.quota_subject:
        failure = error_details_pb2.QuotaFailure()
        failure.violations.add(subject=info.quota_subject[:_LONGEST], description=info.quota_description[:_LONGEST])
        details.append(failure)
    return details
