"""Spans of client calls: one for each call and, below it, one for each attempt.

Around another observation (`counted_calls`) or none. The attempt's span is what the server's span has for a parent:
its context goes out in the attempt's metadata. Names and attributes follow OpenTelemetry's conventions for gRPC; the
gRFC (A72) has the same tree under other names.
"""

from __future__ import annotations

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Tracer, format_trace_id, set_span_in_context

from meshsdk.model.resources import Locality
from meshsdk.telemetry.metadata_carrier import injected
from meshsdk.telemetry.port import AttemptObservation, Attributes, CallObservation, CallObserver, Metadata
from meshsdk.telemetry.rpc_attributes import conclude, peer, rpc, words

_SUPPRESSED: str = contexts._SUPPRESS_INSTRUMENTATION_KEY  # noqa: SLF001 - what exporters of every kind set


class TracedAttempt:
    """See `port.AttemptObservation`."""

    __slots__ = ("_inner", "_span", "metadata")

    def __init__(self, span: Span, inner: AttemptObservation | None, metadata: Metadata) -> None:
        self._span = span
        self._inner = inner
        self.metadata: Metadata | None = metadata

    def ended(self, code: str) -> None:
        """See `port.AttemptObservation`."""
        if self._inner is not None:
            self._inner.ended(code)
        if self._span.is_recording():
            conclude(self._span, code, "", error=code != "OK")


class TracedCall:
    """See `port.CallObservation`. All fields are read-only after init."""

    __slots__ = ("_context", "_inner", "_method", "_name", "_span", "_tracer")

    def __init__(self, tracer: Tracer, target: str, method: str, inner: CallObservation | None) -> None:
        self._tracer = tracer
        self._inner = inner
        self._name = method.lstrip("/")
        self._method = rpc(method)
        self._context: Context = contexts.get_current()
        attributes = {**self._method, "grpc.target": target}
        self._span = tracer.start_span(self._name, self._context, SpanKind.CLIENT, attributes)

    @property
    def trace_id(self) -> str:
        """The trace's id in hexadecimal."""
        return format_trace_id(self._span.get_span_context().trace_id)

    def attempt(
        self, number: int, address: str, cluster: str, locality: Locality | None, metadata: Metadata | None
    ) -> TracedAttempt:
        """Starts the attempt's span and gives its context to the server."""
        inner = None if self._inner is None else self._inner.attempt(number, address, cluster, locality, metadata)
        if not self._span.is_recording():  # nobody will see the attempt's span: the server hears of the call's
            sent = injected(metadata, set_span_in_context(self._span, self._context))
            return TracedAttempt(self._span, inner, sent)
        below = set_span_in_context(self._span, self._context)
        span = self._tracer.start_span(self._name, below, SpanKind.CLIENT)
        if span.is_recording():
            told = {"meshsdk.cluster": cluster, "meshsdk.locality": words(locality)}
            span.set_attributes(
                {**self._method, **peer(address), "meshsdk.attempt": number, **{k: v for k, v in told.items() if v}}
            )
        sent = injected(metadata if inner is None else inner.metadata, set_span_in_context(span, self._context))
        return TracedAttempt(span, inner, sent)

    def event(self, name: str, attributes: Attributes) -> None:
        """See `port.CallObservation`."""
        if self._inner is not None:
            self._inner.event(name, attributes)
        self._span.add_event(name, dict(attributes))

    def ended(self, code: str, details: str, route: str, cluster: str) -> None:
        """See `port.CallObservation`."""
        if self._inner is not None:
            self._inner.ended(code, details, route, cluster)
        told = {"meshsdk.route": route, "meshsdk.cluster": cluster}
        self._span.set_attributes({key: value for key, value in told.items() if value})
        conclude(self._span, code, details, error=code != "OK")


class CallTracer:
    """See `port.CallObserver`. `inner`: what else looks at the calls."""

    __slots__ = ("_inner", "_tracer")

    def __init__(self, tracer: Tracer, inner: CallObserver | None) -> None:
        self._tracer = tracer
        self._inner = inner

    def began(self, target: str, method: str) -> CallObservation | None:
        """Starts the call's span below the one that is current where the application calls.

        Not for calls of an exporter: their spans would be exported by further calls, without end.
        """
        inner = None if self._inner is None else self._inner.began(target, method)
        if contexts.get_value(_SUPPRESSED):
            return inner
        return TracedCall(self._tracer, target, method, inner)
