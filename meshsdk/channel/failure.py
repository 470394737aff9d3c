"""Errors of calls that failed before, or without, an attempt: they look like grpcio's own.

Raised by both façades: `CallFailed` on the synchronous side, `grpc.aio.AioRpcError` on asyncio.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import grpc
import grpc.aio

from meshsdk.channel.stack import Hold, HoldKind
from meshsdk.interceptors import rich_status
from meshsdk.interceptors.policies.steps import Reject

_CODES = {
    HoldKind.UNCONFIGURED: grpc.StatusCode.UNAVAILABLE,
    HoldKind.CONNECTING: grpc.StatusCode.DEADLINE_EXCEEDED,
    HoldKind.UNRESOLVED: grpc.StatusCode.UNAVAILABLE,
    HoldKind.FAILING: grpc.StatusCode.UNAVAILABLE,
    HoldKind.REFUSED: grpc.StatusCode.UNAVAILABLE,
    HoldKind.CLOSED: grpc.StatusCode.CANCELLED,
}
CLOSED = "Channel closed!"  # grpcio's words for a call that the close of its channel ended
CLOSED_CHANNEL = "Cannot invoke RPC on closed channel!"  # grpcio's words

DEADLINE = "Deadline Exceeded"  # grpcio's words

_LOST = ("Socket closed", "Stream removed", "Connection reset", "recvmsg:", "sendmsg:", "Broken pipe", "GOAWAY", "ping")
_UNSENT = "failed to connect to all addresses; last error: "


class CallFailed(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg]  # subscriptable in stubs only
    """A call that ended in this process, with the interface of the errors that grpcio raises for blocking calls."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing: Sequence[tuple[str, str | bytes]] = ()) -> None:
        """`details` and `trailing` (metadata) are what the application reads."""
        super().__init__(details)
        self._code = code
        self._details = details
        self._trailing = tuple(trailing)

    def code(self) -> grpc.StatusCode:
        """Returns the status code."""
        return self._code

    def details(self) -> str:
        """Returns the words."""
        return self._details

    def debug_error_string(self) -> str:
        """Returns the words, marked as this library's."""
        return f"meshsdk: {self._details}"

    def initial_metadata(self) -> tuple[()]:
        """Nothing was received."""
        return ()

    def trailing_metadata(self) -> Any:
        """What refused the call says more; nothing was received."""
        return self._trailing

    def is_active(self) -> bool:
        """The call is over."""
        return False

    def time_remaining(self) -> None:  # type: ignore[override]  # None without a deadline, as grpc documents
        """The call is over."""

    def cancel(self) -> bool:
        """The call is over."""
        return False

    def add_callback(self, callback: Callable[[], None]) -> bool:  # noqa: ARG002 - grpc.RpcContext's signature
        """The call is over: the callback will not be called."""
        return False

    def cancelled(self) -> bool:
        """The application did not cancel it: see `CallCancelled`."""
        return False

    def running(self) -> bool:
        """The call is over."""
        return False

    def done(self) -> bool:
        """The call is over."""
        return True

    def result(self, timeout: float | None = None) -> NoReturn:  # noqa: ARG002 - grpc.Future's signature
        """Raises the error itself."""
        raise self

    def exception(self, timeout: float | None = None) -> Exception:  # noqa: ARG002 - grpc.Future's signature
        """Returns the error itself."""
        return self

    def traceback(self, timeout: float | None = None) -> types.TracebackType | None:
        """Returns where the error was raised."""
        error = self.exception(timeout)
        try:
            raise error
        except type(error):
            return error.__traceback__

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """The call is over: calls `fn` at once."""
        fn(self)

    def __iter__(self) -> CallFailed:
        return self

    def __next__(self) -> NoReturn:
        raise self

    def __str__(self) -> str:
        name = type(self).__name__
        return f'<{name} of RPC that terminated with:\n\tstatus = {self._code}\n\tdetails = "{self._details}"\n>'

    __repr__ = __str__


class CallCancelled(CallFailed):
    """A call that the application cancelled before there was an attempt."""

    def __init__(self) -> None:
        super().__init__(grpc.StatusCode.CANCELLED, "Locally cancelled by application!")  # grpcio's words

    def cancelled(self) -> bool:
        """The application cancelled the call."""
        return True

    def result(self, timeout: float | None = None) -> NoReturn:  # noqa: ARG002 - grpc.Future's signature
        """Raises as `grpc.Future` says."""
        raise grpc.FutureCancelledError

    def exception(self, timeout: float | None = None) -> NoReturn:  # noqa: ARG002 - grpc.Future's signature
        """Raises as `grpc.Future` says."""
        raise grpc.FutureCancelledError

    def traceback(self, timeout: float | None = None) -> NoReturn:  # noqa: ARG002 - grpc.Future's signature
        """Raises as `grpc.Future` says."""
        raise grpc.FutureCancelledError


class CallRaised(CallFailed):
    """A call whose attempt could not be made because of what the application gave it: raises that very error."""

    def __init__(self, cause: Exception) -> None:
        """`cause` is what grpc raised instead of making the attempt."""
        code = cause.code() if isinstance(cause, grpc.Call) else grpc.StatusCode.UNKNOWN
        super().__init__(code, str(cause))
        self._cause = cause

    def result(self, timeout: float | None = None) -> NoReturn:  # noqa: ARG002 - grpc.Future's signature
        """Raises the cause."""
        raise self._cause

    def exception(self, timeout: float | None = None) -> Exception:  # noqa: ARG002 - grpc.Future's signature
        """Returns the cause."""
        return self._cause

    def __next__(self) -> NoReturn:
        raise self._cause


def status(hold: Hold, wait_for_ready: bool | None) -> grpc.StatusCode:
    """Returns the code of a call that ends at this hold; one that waits for ready ends at its deadline only."""
    if hold.kind is HoldKind.FAILING and wait_for_ready:
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return _CODES[hold.kind]


def never_sent(code: grpc.StatusCode | None, details: str | None, where: str) -> bool:
    """Tells whether the request surely never left the process; `where` is the address as dialled (`ipv4:1.2.3.4:80`).

    Only core's own words for a connection that could not be made prove that ("Socket closed", "Stream removed" do not).
    A server may relay the same words about a backend of its own, so they must name the very address we dialled.
    """
    if code is not grpc.StatusCode.UNAVAILABLE or not details:
        return False
    return details.startswith(_UNSENT) and f" {where}: " in details


def not_by_server(code: grpc.StatusCode, details: str | None) -> bool:
    """Tells whether, by core's own words, a sent request was not answered: its connection was lost, or time was up."""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return details == DEADLINE
    return code is grpc.StatusCode.UNAVAILABLE and bool(details) and str(details).startswith(_LOST)


def words(target: str, hold: Hold, progress: Callable[[str], str]) -> str:
    """Returns the status details for a call that ends at this hold; `progress` is asked for what is awaited."""
    if hold.kind is HoldKind.UNCONFIGURED:
        return f"{target}: no configuration yet: {progress(target)}"
    return f"{target}: {hold.problem}"


def refused(reject: Reject) -> CallFailed:
    """Returns the error of a call that a gate refused: its code and words, and its `google.rpc` details."""
    return CallFailed(grpc.StatusCode[reject.code], reject.details, rich_status.trailing(reject))


def refused_aio(reject: Reject) -> grpc.aio.AioRpcError:
    """The same for asyncio."""
    code, trailing = grpc.StatusCode[reject.code], grpc.aio.Metadata(*rich_status.trailing(reject))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, reject.details, f"meshsdk: {reject.details}")
