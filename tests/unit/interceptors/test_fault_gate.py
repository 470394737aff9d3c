"""Fault injection (gRFC A33) as a gate: what is delayed, what is refused, who may ask for it."""

from __future__ import annotations

import pytest

from meshsdk.interceptors.policies import gates
from meshsdk.interceptors.policies.fault import FaultGate
from meshsdk.interceptors.policies.gate import GateCall
from meshsdk.interceptors.policies.steps import Reject, Sleep
from meshsdk.model.filters import Fault
from meshsdk.model.matching import HeaderMatch, StringKind, StringMatch

ASK_ABORT = ("x-envoy-fault-abort-grpc-request", "8")
ASK_DELAY = ("x-envoy-fault-delay-request", "250")


def run(gate: FaultGate, *metadata: tuple[str, str]) -> tuple[list[float], str]:
    """Runs one call; returns its sleeps and the code it was refused with."""
    slept: list[float] = []

    def decided() -> object:
        for step in (passing := _Kept(gate.enter(GateCall("/s/m", metadata, 0.0)))):
            assert isinstance(step, Sleep)
            slept.append(step.seconds)
        return passing.value

    reject = decided()
    assert reject is None or isinstance(reject, Reject)
    return slept, "" if reject is None else reject.code


class _Kept:
    """Iterates a generator and keeps what it returns."""

    def __init__(self, generator):
        self._generator = generator
        self.value = None

    def __iter__(self):
        """Yields what it yields."""
        self.value = yield from self._generator


def gate(draw: float = 0.5, **config: object) -> FaultGate:
    """A gate that draws the same each time."""
    return FaultGate(Fault(**config), lambda: draw)


def test_delay_then_abort():
    """A call that both hit is delayed first, and then refused with details that say who did."""
    both = gate(delay=0.3, delay_share=1, abort_code="ABORTED", abort_share=1)
    assert run(both) == ([0.3], "ABORTED")


@pytest.mark.parametrize(("draw", "hit"), [(0.0, True), (0.29, True), (0.3, False), (0.99, False)])
def test_share(draw, hit):
    """Of the calls, the configured share is hit, each drawn anew."""
    assert run(gate(draw, abort_code="INTERNAL", abort_share=0.3)) == ([], "INTERNAL" if hit else "")
    assert run(gate(draw, delay=1, delay_share=0.3)) == ([1] if hit else [], "")


def test_the_caller_asks_in_metadata():
    """With header control, metadata says what; without it in the call, nothing happens."""
    asked = gate(abort_from_header=True, abort_share=1, delay_from_header=True, delay_share=1)
    assert run(asked) == ([], "")
    assert run(asked, ASK_ABORT, ASK_DELAY) == ([0.25], "RESOURCE_EXHAUSTED")


def test_metadata_does_nothing_unless_allowed():
    """Without header control, a caller cannot ask for a fault."""
    assert run(gate(abort_share=1, delay_share=1), ASK_ABORT, ASK_DELAY) == ([], "")


@pytest.mark.parametrize("key", ["x-envoy-fault-abort-request-percentage", "x-envoy-fault-abort-percentage"])
@pytest.mark.parametrize(("percent", "draw", "hit"), [("40", 0.3, True), ("20", 0.3, False), ("90", 0.6, False)])
def test_the_callers_percentage_is_capped(key, percent, draw, hit):
    """The caller's percentage counts up to the filter's share (here a half), under both names peers use."""
    asked = gate(draw, abort_from_header=True, abort_share=0.5)
    assert run(asked, ASK_ABORT, (key, percent)) == ([], "RESOURCE_EXHAUSTED" if hit else "")


@pytest.mark.parametrize("value", ["", "x", "17", "-1", "99999999999999999999", "1.5", "0"])
def test_nonsense_in_metadata_is_no_fault(value):
    """What is no gRPC status number (or is OK) aborts nothing."""
    assert run(gate(abort_from_header=True, abort_share=1), (ASK_ABORT[0], value)) == ([], "")


def test_only_calls_that_match():
    """All header matches have to hold, `:path` being the method."""
    exact = StringMatch(StringKind.EXACT, "canary")
    path = HeaderMatch(":path", StringMatch(StringKind.PREFIX, "/s/"))
    chosen = gate(abort_code="ABORTED", abort_share=1, headers=(HeaderMatch("env", exact), path))
    assert run(chosen) == ([], "")
    assert run(chosen, ("env", "canary")) == ([], "ABORTED")


def test_faults_at_one_time():
    """Beyond max_active a call meets no fault; one that is given up while it sleeps makes room."""
    few = gate(delay=1, delay_share=1, max_active=1)
    first = few.enter(GateCall("/s/m", (), 0.0))
    assert next(first) == Sleep(1)
    assert run(few) == ([], "")
    first.close()
    assert run(few) == ([1], "")


def test_a_fault_is_a_gate():
    """`make` knows the filter."""
    assert isinstance(gates.make(Fault(), (), lambda: 0.0, None), FaultGate)
