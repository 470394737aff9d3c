"""The load report of one answer, in its trailing metadata (gRFC A51). Called in handlers.

Works in handlers of `grpc` and `grpc.aio`, of all four shapes. Other trailing metadata stays, but what the handler sets
afterwards replaces the report: record last, or add to `context.trailing_metadata()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meshsdk.lb.endpoint_load import LoadReport
from meshsdk.orca.codec import KEYS, UnreadableReport, entries, reported
from meshsdk.orca.load_setters import LoadSetters, merged, over
from meshsdk.orca.server_load import ServerLoad


class CallRecorder(LoadSetters):
    """The report of one call; owned by its handler. Each setter writes the whole report anew."""

    def __init__(self, context: Any, server: ServerLoad | None) -> None:
        """See `recorder`."""
        self._context = context
        self._others, self._report = _split(_trailing(context))
        if server is not None:
            self._report = over(self._report, server.report)
            self._write()

    def request_cost(self, name: str, value: float) -> CallRecorder:
        """What this one request cost of a resource, in units of the application's own."""
        if not value >= 0 or value == float("inf"):
            raise ValueError(f"request_cost {name!r} is {value}: a finite number >= 0 is expected")
        self._put(costs={name: float(value)})
        return self

    def _put(self, **fields: Any) -> None:
        self._report = merged(self._report, fields)
        self._write()

    def _write(self) -> None:
        trailing = _trailing(self._context)
        others = self._others if trailing is None else _split(trailing)[0]
        self._context.set_trailing_metadata((*others, *entries(self._report)))


def recorder(context: Any, server: ServerLoad | None = None) -> CallRecorder:
    """Returns the recorder of a handler's `context`; a second one for the same call goes on with what the first wrote.

    `server`: what the report says where the call itself says nothing. A handler that runs in the threads of a
    `grpc.aio` server needs `meshsdk.aio.server_interceptors()` to keep its other trailing metadata: grpc's own context
    cannot be asked for it there.
    """
    return CallRecorder(context, server)


def _trailing(context: Any) -> Sequence[Any] | None:
    """Returns the trailing metadata set so far; None where the context cannot be asked."""
    asked = getattr(context, "trailing_metadata", None)
    return None if asked is None else tuple(asked() or ())


def _split(trailing: Sequence[Any] | None) -> tuple[tuple[Any, ...], LoadReport]:
    """Returns the other entries, and the report among them."""
    others = tuple(entry for entry in trailing or () if entry[0] not in KEYS)
    try:
        return others, reported(trailing or ()) or LoadReport()
    except UnreadableReport as error:
        raise ValueError(f"the trailing metadata has a load report that is none: {error}") from error
