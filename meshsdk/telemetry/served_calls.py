"""Calls that a server handles, counted and traced: the observer behind the server interceptors.

A span of kind SERVER has the caller's context for its parent and is current while the handler runs, so that whatever
the handler calls belongs to it (through contextvars: threads and tasks alike).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import Token

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Tracer, set_span_in_context

from meshsdk.telemetry.counts import Counts, MethodCounts
from meshsdk.telemetry.port import Metadata
from meshsdk.telemetry.rpc_attributes import SERVER_ERRORS, conclude, rpc


class ServedCall:
    """See `port.ServedCall`.

    Thread rule: whoever pops the one entry of `_open` ends the call; the rest is read-only.
    """

    __slots__ = ("_began", "_context", "_counts", "_open", "_span")

    def __init__(self, counts: MethodCounts | None, span: Span | None, context: Context | None) -> None:
        self._counts = counts
        self._span = span
        self._context = context
        self._open = [None]
        self._began = time.perf_counter()
        if counts is not None:
            counts.begin(None)

    def enter(self) -> object:
        """See `port.ServedCall`."""
        return None if self._context is None else contexts.attach(self._context)

    def leave(self, entered: object) -> None:
        """See `port.ServedCall`."""
        if isinstance(entered, Token):
            contexts.detach(entered)

    def ended(self, code: str, details: str) -> None:
        """See `port.ServedCall`."""
        try:
            self._open.pop()
        except IndexError:
            return
        if self._counts is not None:
            self._counts.attempts.add(code, time.perf_counter() - self._began)
            self._counts.leave()
        if self._span is not None:
            conclude(self._span, code, details, error=code in SERVER_ERRORS)


class ServerWatch:
    """See `port.ServerObserver`. `counts` None: no metrics; `tracer` None: no spans, and no context either."""

    __slots__ = ("_counts", "_extract", "_tracer")

    def __init__(self, counts: Counts | None, tracer: Tracer | None) -> None:
        """Raises ValueError for a propagator (OTEL_PROPAGATORS) that is not there, where there are spans."""
        self._counts = counts
        self._tracer = tracer
        self._extract: Callable[[Metadata | None], Context] | None = None
        if tracer is not None:
            from meshsdk.telemetry.metadata_carrier import extracted  # noqa: PLC0415 - metrics need no propagator

            self._extract = extracted

    def began(self, method: str, metadata: Metadata | None, peer: str) -> ServedCall:
        """See `port.ServerObserver`. Only methods that have a handler come here: each has a label of its own."""
        counts = None if self._counts is None else self._counts.of("", method)
        if self._tracer is None or self._extract is None:
            return ServedCall(counts, None, None)
        caller = self._extract(metadata)
        span = self._tracer.start_span(method.lstrip("/"), caller, SpanKind.SERVER, {**rpc(method), **_client(peer)})
        return ServedCall(counts, span, set_span_in_context(span, caller))


def _client(peer: str) -> dict[str, str]:
    """Returns `client.address` of grpc's `ipv4:10.0.0.7:50051`, `ipv6:%5B::1%5D:50051` or `unix:path`."""
    scheme, _, rest = peer.partition(":")
    if scheme not in ("ipv4", "ipv6"):
        return {"client.address": peer}
    host, _, _ = rest.rpartition(":")
    return {"client.address": host.replace("%5B", "").replace("%5D", "").strip("[]")}
