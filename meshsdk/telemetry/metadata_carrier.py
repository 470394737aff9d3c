"""Trace context and baggage in gRPC metadata, written and read by OpenTelemetry's global propagator.

The propagator is the application's choice (OTEL_PROPAGATORS: tracecontext, baggage, b3, b3multi ...); nothing here
knows a header's name.
"""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter

from meshsdk.telemetry.port import Metadata


def injected(metadata: Metadata | None, context: Context) -> Metadata:
    """Returns the metadata with the context's headers in place of any of the same names."""
    headers: dict[str, str] = {}
    propagate.inject(headers, context)
    added = {name.lower(): value for name, value in headers.items()}
    kept = tuple((key, value) for key, value in metadata or () if key not in added)
    return (*kept, *added.items())


def extracted(metadata: Iterable[tuple[str, str | bytes]] | None) -> Context:
    """Returns the context that a caller's metadata speaks of; an empty one where it speaks of none."""
    carrier: dict[str, list[str]] = {}
    for key, value in metadata or ():
        if isinstance(value, str):
            carrier.setdefault(key.lower(), []).append(value)
    return propagate.extract(carrier, Context(), _Lists())


class _Lists(Getter[dict[str, list[str]]]):
    def get(self, carrier: dict[str, list[str]], key: str) -> list[str] | None:
        return carrier.get(key.lower())

    def keys(self, carrier: dict[str, list[str]]) -> list[str]:
        return list(carrier)
