"""Whether a server takes a call: its limits, compiled per method.

Called by the server interceptors when a call arrives, before it waits for a thread or a task of its own. Made from
`ServerLimits` and from what `@meshsdk.rpc(limit=...)` says. Decides by the same gates as a client's calls; knows no
server, and never answers a call itself.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from meshsdk.errors import ConfigurationError
from meshsdk.interceptors.load_signals import LoopLag, QueueWait
from meshsdk.interceptors.permit import Permit
from meshsdk.interceptors.policies.adaptive_concurrency import AdaptiveConcurrencyGate
from meshsdk.interceptors.policies.admission import AdmissionGate
from meshsdk.interceptors.policies.concurrency import ConcurrencyGate
from meshsdk.interceptors.policies.gate import CallEnd, Gate, GateCall, Metadata, Passed
from meshsdk.interceptors.policies.local_rate_limit import LocalRateLimitGate
from meshsdk.interceptors.policies.steps import Reject
from meshsdk.interceptors.rpc_options import Limit, options_of, read_limit
from meshsdk.model.filters import AdaptiveConcurrency, AdmissionControl, LocalRateLimit, TokenBucket
from meshsdk.model.server_limits import MethodLimits, ServerLimits

# What keeps a server in sight of probes and operators is never refused.
_EXEMPT = ("/grpc.health.", "/grpc.reflection.", "/grpc.channelz.", "/envoy.service.status.")
_MAX_METHODS = 4096  # with limits of their own; a generic handler that makes up names must not grow the process
_STATUS = "RESOURCE_EXHAUSTED"  # of a limit that someone set; what is learnt says UNAVAILABLE: another instance may do
_ORDER = (ConcurrencyGate, AdaptiveConcurrencyGate, LocalRateLimitGate, AdmissionGate)


class Admissions:
    """The limits of one server. `active`: whether any method has one; until then a call pays for one look at it.

    Thread rules: `_methods` is added to by whoever meets a method first, two that race add equal entries under _lock;
    `active` only ever becomes True.
    """

    __slots__ = ("_limits", "_lock", "_methods", "_shared", "active", "loop_lag", "queue")

    def __init__(self, limits: ServerLimits | None) -> None:
        """Raises ConfigurationError for limits that cannot be meant."""
        self._limits = limits = _checked(limits or ServerLimits())
        adaptive = bool(limits.adaptive) or any(_spelt(entry, "").adaptive for entry in limits.methods.values())
        self.loop_lag = LoopLag(limits.loop_lag) if adaptive else None
        self.queue = QueueWait(limits.queue_wait) if adaptive else None
        self._lock = threading.Lock()
        self._shared = self._gates(limits, "all calls of this server")
        for method, entry in limits.methods.items():
            self._gates(_spelt(entry, method), method)  # to refuse now what cannot be meant
        self._methods: dict[str, tuple[Gate, ...]] = {}
        self.active = bool(self._shared)

    def met(self, method: str, handler: Any) -> None:
        """Learns what limits a method has of its own, before its first call and when its handler changes."""
        with self._lock:
            if method in self._methods or len(self._methods) >= _MAX_METHODS or method.startswith(_EXEMPT):
                return
            own = self._own(method, handler)
            if own:
                self._methods[method] = _ordered((*self._shared, *own))
                self.active = True

    def enter(self, method: str, metadata: Metadata, *, streamed: bool = False) -> Permit | Reject | None:
        """Decides on a call that has arrived; None: nothing limits it. `streamed`: its answer is a stream."""
        gates = self._methods.get(method, self._shared)
        if not gates or method.startswith(_EXEMPT):
            return None
        now = time.monotonic()
        call = GateCall(method, metadata, now, streamed=streamed)
        passed: list[Passed] = []
        for gate in gates:
            decision = _decision(gate, call)
            if isinstance(decision, Reject):
                end = CallEnd(decision.code, now, 0.0)
                for told in passed:
                    if told is not None:
                        told(end)
                return decision
            passed.append(decision)
        return Permit(now, tuple(told for told in passed if told is not None), self.queue)

    def pressure(self) -> float:
        """How overloaded the process is by its own signs."""
        lag = 0.0 if self.loop_lag is None else self.loop_lag.pressure
        return lag if self.queue is None else max(lag, self.queue.pressure)

    def _own(self, method: str, handler: Any) -> tuple[Gate, ...]:
        methods = self._limits.methods
        entry = methods.get(method, methods.get(f"{method.rpartition('/')[0]}/*"))
        if entry is not None:
            return self._gates(_spelt(entry, method), method)
        options = options_of(_behavior(handler))
        return () if options is None or options.limit is None else tuple(_fixed(options.limit, method))

    def _gates(self, limits: MethodLimits, subject: str) -> tuple[Gate, ...]:
        gates: list[Gate] = []
        limit = read_limit(limits.limit, f"ServerLimits: {subject}: limit")
        if limit is not None:
            gates += _fixed(limit, subject)
        try:
            gates += self._learnt(limits)
            if limits.local_rate_limit is not None:
                gates.append(_local(limits.local_rate_limit, subject))
        except ValueError as problem:
            raise ConfigurationError(f"ServerLimits: {subject}: {problem}") from None
        return _ordered(tuple(gates))

    def _learnt(self, limits: MethodLimits) -> Iterator[Gate]:
        adaptive = AdaptiveConcurrency() if limits.adaptive is True else limits.adaptive
        if adaptive is not False:
            yield AdaptiveConcurrencyGate(adaptive, random.random, threading.Lock, self.pressure)
        admission = AdmissionControl() if limits.admission is True else limits.admission
        if admission is not False:
            yield AdmissionGate(admission, random.random, threading.Lock)


def _decision(gate: Gate, call: GateCall) -> Reject | Passed:
    try:
        next(gate.enter(call))
    except StopIteration as ended:
        decision: Reject | Passed = ended.value
        return decision
    raise AssertionError(f"{type(gate).__name__} waits, which no gate of a server may")


def _ordered(gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
    """Places first: they are given back if a later gate refuses. Then tokens, which are not; admission counts last."""
    return tuple(sorted(gates, key=lambda gate: _ORDER.index(type(gate))))


def _fixed(limit: Limit, subject: str) -> list[Gate]:
    gates: list[Gate] = []
    if limit.concurrent is not None:
        gates.append(ConcurrencyGate(limit.concurrent, subject, _STATUS))
    if limit.rate is not None:
        gates.append(_local(LocalRateLimit(_bucket(limit.rate), status=_STATUS), subject))
    return gates


def _local(config: LocalRateLimit, subject: str) -> Gate:
    return LocalRateLimitGate(config, (), random.random, threading.Lock, subject)


def _bucket(rate: float) -> TokenBucket:
    """A second's worth of calls at once, at least one; tokens come one by one."""
    most = max(1, math.ceil(rate))
    return TokenBucket(most, int(rate), 1.0) if rate >= 1 and rate == int(rate) else TokenBucket(most, 1, 1.0 / rate)


def _spelt(entry: object, method: str) -> MethodLimits:
    if isinstance(entry, MethodLimits):
        return entry
    return MethodLimits(limit=read_limit(entry, f"ServerLimits: methods[{method!r}]") if method else entry)


def _checked(limits: ServerLimits) -> ServerLimits:
    if not isinstance(limits, ServerLimits):
        raise ConfigurationError(f"server_interceptors(limits={limits!r}): write limits=meshsdk.ServerLimits(...)")
    if not isinstance(limits.methods, Mapping):
        raise ConfigurationError(f"ServerLimits: methods={limits.methods!r} must be a mapping of methods to limits")
    for method in limits.methods:
        if not (str(method).startswith("/") and str(method).count("/") == 2):  # noqa: PLR2004
            raise ConfigurationError(
                f"ServerLimits: methods: {method!r} is not of the form /pkg.Service/Method or /pkg.Service/*"
            )
    for name, value in (("loop_lag", limits.loop_lag), ("queue_wait", limits.queue_wait)):
        if not (math.isfinite(value) and value > 0):
            raise ConfigurationError(f"ServerLimits: {name}={value!r} must be seconds, more than 0")
    return limits


def _behavior(handler: Any) -> object:
    if handler.request_streaming:
        return handler.stream_stream if handler.response_streaming else handler.stream_unary
    return handler.unary_stream if handler.response_streaming else handler.unary_unary
