"""Switches telemetry on and off: which observers the channels and servers of this process have.

Called by `meshsdk.telemetry` (the application), and by the façade as a mesh or a server starts (the environment).
It holds the process's counts; nothing of OpenTelemetry is imported before spans or a provider are asked for.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from meshsdk.errors import ConfigurationError
from meshsdk.telemetry.counted_calls import CallCounter
from meshsdk.telemetry.counts import CLIENT, SERVER, Counts
from meshsdk.telemetry.environment import Asked, Listening, asked, configure_sdk
from meshsdk.telemetry.families import Family, Source
from meshsdk.telemetry.port import OBSERVING, CallObserver, ServerObserver
from meshsdk.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from meshsdk.telemetry.access_lines import AccessLog
    from meshsdk.telemetry.prometheus import MetricsEndpoint

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """What is on. Providers None: OpenTelemetry's global ones."""

    traces: bool = False
    metrics: bool = False
    access_log: AccessLog | None = None
    endpoint: Listening | None = None
    tracer_provider: Any = None
    meter_provider: Any = None


class Switch:
    """The process's one switch. Safe from any thread: everything below is guarded by `_lock`.

    `_sources` is read by collections without it: it is replaced, never changed.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._settings = Settings()
        self._started = False
        self._said: frozenset[str] = frozenset()  # the fields of `Settings` that the application has decided on
        self._sources: tuple[Source, ...] = ()
        self._renewals: tuple[Callable[[], None], ...] = ()
        self._endpoint: MetricsEndpoint | None = None
        self._renew()

    def _renew(self) -> None:
        self._clients, self._servers = Counts(CLIENT), Counts(SERVER)

    @property
    def settings(self) -> Settings:
        """What is on."""
        return self._settings

    @property
    def port(self) -> int | None:
        """The port of the Prometheus endpoint, None where there is none."""
        return None if self._endpoint is None else self._endpoint.port

    def start(self, environ: Mapping[str, str] | None = None) -> None:
        """Switches on what the environment asks for; the first call of the process does, later ones return at once.

        What the application has said in code before stays. Raises ConfigurationError for variables of ours that cannot
        be meant; nothing is switched on then. A Prometheus endpoint that cannot be had is logged.
        """
        with self._lock:
            if self._started:
                return
            environ = os.environ if environ is None else environ
            found = asked(environ)
            self._started = True
            now = self._settings
            found = replace(
                found,
                traces=now.traces if "traces" in self._said else found.traces,
                metrics=now.metrics if "metrics" in self._said else found.metrics,
                access=None if "access_log" in self._said else found.access,
                endpoint=None if "endpoint" in self._said else found.endpoint,
            )
            signals = self._signals(found)
            if signals and not configure_sdk(signals, environ):
                on = "metrics" in self._said or found.endpoint is not None
                found = replace(found, traces=found.traces and "traces" in self._said, metrics=found.metrics and on)
            now = replace(now, traces=found.traces, metrics=found.metrics)
            if found.endpoint is not None and found.metrics:
                now = replace(now, endpoint=found.endpoint)
            if found.access:
                from meshsdk.telemetry.access_lines import AccessLog, write_somewhere  # noqa: PLC0415 - if it is wanted

                write_somewhere()
                now = replace(now, access_log=AccessLog(found.access))
            if now == self._settings:
                return
            self._put_what_can_be(now)

    def _signals(self, found: Asked) -> frozenset[str]:
        """Returns what OpenTelemetry's SDK is to be configured for: what is on and has no provider of its own."""
        unwanted = {
            "TRACES": not found.traces or self._settings.tracer_provider is not None,
            "METRICS": not found.metrics or self._settings.meter_provider is not None,
        }
        return frozenset(signal for signal in found.sdk if not unwanted.get(signal))

    def _put_what_can_be(self, asked_for: Settings) -> None:
        """A port in use, a package that is missing: no reason for a process not to serve."""
        silent = replace(asked_for, endpoint=None)
        for settings in (asked_for, silent, replace(asked_for, traces=False), replace(silent, traces=False)):
            try:
                self.put(settings)
            except ConfigurationError as error:
                _LOG.warning("%s; going on without", error)
            else:
                return

    def put(self, settings: Settings, said: Iterable[str] = ()) -> None:
        """Puts settings in force for all calls that begin from now on. Raises ConfigurationError; no change then.

        `said`: the fields that the application has decided on; the environment has no say in them any more.
        """
        with self._lock:
            try:
                observers = self._observers(settings)
            except ValueError as error:  # OpenTelemetry looks for its propagators as it is imported
                raise ConfigurationError(f"OTEL_PROPAGATORS: {error} For B3 install meshsdk[b3]") from error
            self._endpoint = self._listen(settings.endpoint)
            self._settings = settings
            self._said |= frozenset(said)
            if settings.metrics:
                self._attach(settings.meter_provider)
            self._publish(*observers)

    def _observers(self, settings: Settings) -> tuple[CallObserver | None, ServerObserver | None]:
        observer: CallObserver | None = CallCounter(self._clients) if settings.metrics else None
        tracer = None
        if settings.traces:
            tracer, observer = _traced(settings.tracer_provider, observer)
        if settings.access_log is not None:
            from meshsdk.telemetry.access_lines import CallLogger  # noqa: PLC0415 - for those who want it

            observer = CallLogger(settings.access_log, observer)
        if not (settings.traces or settings.metrics):
            return observer, None
        from meshsdk.telemetry.served_calls import ServerWatch  # noqa: PLC0415 - as above

        return observer, ServerWatch(self._servers if settings.metrics else None, tracer)

    @staticmethod
    def _publish(observer: CallObserver | None, servers: ServerObserver | None) -> None:
        OBSERVING.counter = observer.only if isinstance(observer, CallCounter) else None
        OBSERVING.observer, OBSERVING.servers = observer, servers

    def _attach(self, provider: Any) -> None:
        from opentelemetry import metrics  # noqa: PLC0415 - for those who want metrics

        provider = provider or metrics.get_meter_provider()
        if hasattr(provider, "force_flush"):  # of an SDK; the API's own does nothing with what it is given
            from meshsdk.telemetry.otel_metrics import attach  # noqa: PLC0415 - as above

            attach(provider, self.families)

    def _listen(self, wanted: Listening | None) -> MetricsEndpoint | None:
        if wanted == self._settings.endpoint and self._endpoint is not None:
            return self._endpoint
        opened = None if wanted is None else opening(wanted, self.families)
        if self._endpoint is not None:
            self._endpoint.close()
        return opened

    def add(self, source: Source, renew: Callable[[], None] | None = None) -> None:
        """Has a source read at every collection. It is never let go of: one a kind of numbers, not one an object.

        `renew` is called in a forked child, before anything is read there: it has to count from zero, and a thread of
        the parent, which does not exist in the child, may hold its locks.
        """
        with self._lock:
            if source not in self._sources:
                self._sources = (*self._sources, source)
                if renew is not None:
                    self._renewals = (*self._renewals, renew)

    def families(self) -> Iterator[Family]:
        """Reads all metrics; a source that fails is logged and left out."""
        for source in (self._clients.families, self._servers.families, *self._sources):
            try:
                yield from source()
            except Exception:  # noqa: BLE001 - the others are still worth reading
                _LOG.exception("metrics of %r could not be read", source)

    def after_fork(self) -> None:
        """In a child: it counts from zero, on a port of its own; what it inherited is the parent's."""
        self._lock = threading.RLock()
        self._renew()
        for renew in self._renewals:
            renew()
        if (exported := sys.modules.get("meshsdk.telemetry.otel_metrics")) is not None:
            exported.begin_again()
        if self._settings == Settings():
            return
        inherited, self._endpoint = self._endpoint, None
        if inherited is not None:
            inherited.abandon()
        wanted = self._settings.endpoint
        if wanted is not None:
            try:
                self._endpoint = opening(wanted, self.families)
            except ConfigurationError as error:
                _LOG.warning("%s (this is a forked process: give a range of ports, one for each)", error)
        self._publish(*self._observers(self._settings))


def _traced(provider: Any, inner: CallObserver | None) -> tuple[Tracer, CallObserver]:
    from opentelemetry import trace  # noqa: PLC0415 - for those who want spans

    from meshsdk.telemetry.spans import CallTracer  # noqa: PLC0415 - as above

    tracer = trace.get_tracer("meshsdk", VERSION, provider)
    return tracer, CallTracer(tracer, inner)


def opening(wanted: Listening, source: Source) -> MetricsEndpoint:
    """Listens on the first port that is free. Raises ConfigurationError where none is."""
    try:
        from meshsdk.telemetry.prometheus import MetricsEndpoint  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError("the Prometheus endpoint needs its extra: install meshsdk[prometheus]") from error
    for port in wanted.ports[:-1]:
        try:
            return MetricsEndpoint(wanted.address, port, source)
        except ConfigurationError:
            continue
    return MetricsEndpoint(wanted.address, wanted.ports[-1], source)


SWITCH = Switch()
os.register_at_fork(after_in_child=SWITCH.after_fork)
