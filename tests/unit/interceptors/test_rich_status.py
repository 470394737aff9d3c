"""What callers read of a refusal: google.rpc details by grpcio-status."""

from __future__ import annotations

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2

from meshsdk.interceptors import rich_status
from meshsdk.interceptors.policies.steps import Reject, RejectionInfo


def details(reject: Reject) -> tuple[status_pb2.Status, dict[str, object]]:
    """Parses the trailing metadata; returns the status and its details by type."""
    held = dict(rich_status.trailing(reject))
    status = status_pb2.Status.FromString(held["grpc-status-details-bin"])
    return status, {detail.TypeName().rpartition(".")[2]: unpacked(detail) for detail in status.details}


def unpacked(detail: Any) -> object:
    """Returns the message in an Any."""
    message = getattr(error_details_pb2, detail.TypeName().rpartition(".")[2])()
    assert detail.Unpack(message)
    return message


def test_all_details():
    """ErrorInfo, RetryInfo and QuotaFailure, under the status's own code and message."""
    info = RejectionInfo("LOCAL_RATE_LIMITED", 1.5, "user=ann", "5 per minute", (("domain", "shop"),))
    status, found = details(Reject("RESOURCE_EXHAUSTED", "too many", "local_rate_limit", (), info))
    assert (status.code, status.message) == (grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], "too many")
    error = found["ErrorInfo"]
    assert (error.reason, error.domain) == ("LOCAL_RATE_LIMITED", "meshsdk")
    assert dict(error.metadata) == {"category": "local_rate_limit", "domain": "shop"}
    assert found["RetryInfo"].retry_delay.ToTimedelta().total_seconds() == 1.5
    violation = found["QuotaFailure"].violations[0]
    assert (violation.subject, violation.description) == ("user=ann", "5 per minute")


def test_what_is_not_known_is_left_out():
    """Without a wait there is no RetryInfo, without a quota no QuotaFailure."""
    _, found = details(Reject("UNAVAILABLE", "", "fault", (), RejectionInfo("FAULT_INJECTED", float("inf"))))
    assert set(found) == {"ErrorInfo"}


def test_trailing_metadata_stays():
    """What the refusal brings itself is kept; without `info` nothing is added."""
    plain = Reject("UNAVAILABLE", "", "x", (("a", "1"),))
    assert rich_status.trailing(plain) == (("a", "1"),)
    rich = Reject("UNAVAILABLE", "", "x", (("a", "1"),), RejectionInfo("X"))
    assert [key for key, _ in rich_status.trailing(rich)] == ["a", "grpc-status-details-bin"]


def test_what_callers_made_up_does_not_grow_the_answer():
    """Texts are cut: metadata of 8 KiB is what peers accept."""
    info = RejectionInfo("X", None, "u" * 100_000, "d" * 100_000, (("k", "v" * 100_000),))
    assert sum(len(value) for _, value in rich_status.trailing(Reject("UNAVAILABLE", "", "x", (), info))) < 2048
