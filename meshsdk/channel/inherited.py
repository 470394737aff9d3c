"""What a call makes of the deadline it inherits (`interceptors.deadline`): a shorter timeout, or an end at once.

Asked by the multi-callables of both façades, and only in processes that ever held such a deadline.
"""

from __future__ import annotations

from typing import Protocol

import grpc
import grpc.aio

from meshsdk.channel.course import Course, Unplaced
from meshsdk.channel.failure import CallFailed
from meshsdk.channel.observed import observed
from meshsdk.interceptors import deadline

_CODE = grpc.StatusCode.DEADLINE_EXCEEDED


class _Target(Unplaced, Protocol):
    name: str


def blocking(method: str, target: _Target, timeout: float | None) -> float | None:
    """Returns the timeout in seconds of a blocking call. Raises CallFailed, counted, if the deadline has passed."""
    left = deadline.capped(timeout)
    if left is None or left > 0:
        return left
    failed = late(method, left)
    if failed is not None:
        course = Course(target)
        course.observed = observed(target.name, method)
        course.end(_CODE.name, failed.details())
        raise failed
    return left


def late(method: str, timeout: float | None) -> CallFailed | None:
    """Returns the end of a call with this timeout (seconds, capped already), if the deadline it inherits has passed."""
    if timeout is None or timeout > 0 or (past := deadline.late()) is None:
        return None
    return CallFailed(_CODE, _words(method, past))


def late_aio(method: str, timeout: float | None) -> grpc.aio.AioRpcError | None:
    """The same for asyncio."""
    failed = late(method, timeout)
    if failed is None:
        return None
    return grpc.aio.AioRpcError(
        _CODE, grpc.aio.Metadata(), grpc.aio.Metadata(), failed.details(), failed.debug_error_string()
    )


def _words(method: str, past: float) -> str:
    return (
        f"{method} was not called: the deadline of the call that is being handled passed {past:.3f} s before; "
        "work that is to outlive that call belongs in `with meshsdk.no_deadline():`"
    )
