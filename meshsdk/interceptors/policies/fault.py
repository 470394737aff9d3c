"""Fault injection (gRFC A33): delays and aborts a share of the calls, as the filter or the caller's metadata says.

Made by `gates`. Keeps no clock: a delay is a `Sleep` that the driver carries out, cut short by the call's deadline.
"""

from __future__ import annotations

from collections.abc import Callable

from meshsdk.interceptors.policies.descriptors import header
from meshsdk.interceptors.policies.gate import GateCall, Passing
from meshsdk.interceptors.policies.steps import Reject, RejectionInfo, Sleep
from meshsdk.model.filters import Fault
from meshsdk.routing.matchers import header_test

DELAY = "x-envoy-fault-delay-request"  # milliseconds
DELAY_PERCENT = ("x-envoy-fault-delay-request-percentage",)
ABORT = "x-envoy-fault-abort-grpc-request"  # number of a gRPC status
ABORT_PERCENT = (
    "x-envoy-fault-abort-request-percentage",  # Envoy, gRPC in Java and Go
    "x-envoy-fault-abort-percentage",  # gRPC's C core
)
_CODES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
_MAX_DIGITS = 10


class FaultGate:
    """One fault filter. `_active`: an entry per fault under way; append and pop are atomic, so any thread may."""

    __slots__ = ("_active", "_config", "_draw", "_headers")

    def __init__(self, config: Fault, draw: Callable[[], float]) -> None:
        """`draw` gives floats in [0, 1). Raises ValueError for a header match that cannot be compiled."""
        self._config = config
        self._draw = draw
        self._headers = tuple(header_test(match) for match in config.headers)
        self._active: list[None] = []

    def enter(self, call: GateCall) -> Passing:
        """Sleeps, refuses, both or neither. What the caller asks for in its metadata is capped by the filter."""
        if not all(test.decide(header(call, test.name)) for test in self._headers):
            return None
        delay = self._delay(call)
        code = self._abort_code(call)
        if not delay and not code:
            return None
        if not self._begin():
            return None
        try:
            if delay:
                yield Sleep(delay)
        finally:  # a call that is cancelled while it sleeps closes this generator
            self._active.pop()
        if not code:
            return None
        return Reject(code, "fault injected: aborted by the fault filter", "fault", (), RejectionInfo("FAULT_INJECTED"))

    def _begin(self) -> bool:
        self._active.append(None)
        most = self._config.max_active
        if most is None or len(self._active) <= most:
            return True
        self._active.pop()
        return False

    def _delay(self, call: GateCall) -> float:
        config = self._config
        if not config.delay_from_header:
            return config.delay if config.delay > 0 and self._hits(config.delay_share) else 0.0
        milliseconds = _number(call, DELAY)
        if not milliseconds or not self._hits(_capped(call, DELAY_PERCENT, config.delay_share)):
            return 0.0
        return milliseconds / 1000

    def _abort_code(self, call: GateCall) -> str:
        config = self._config
        if not config.abort_from_header:
            return config.abort_code if config.abort_code != "OK" and self._hits(config.abort_share) else ""
        number = _number(call, ABORT)
        if not number or number >= len(_CODES):
            return ""
        return _CODES[number] if self._hits(_capped(call, ABORT_PERCENT, config.abort_share)) else ""

    def _hits(self, share: float) -> bool:
        return share >= 1 or (share > 0 and self._draw() < share)


def _capped(call: GateCall, names: tuple[str, ...], share: float) -> float:
    """The caller's percentage (of a hundred), at most the filter's share; without one, the filter's."""
    for name in names:
        percent = _number(call, name)
        if percent is not None:
            return min(percent / 100, share)
    return share


def _number(call: GateCall, name: str) -> int | None:
    text = header(call, name)
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None
