"""Limits of a server, compiled per method; permits; load signals. No server, no clock but where a permit looks."""

from __future__ import annotations

import asyncio
import gc
from typing import ClassVar

import grpc
import pytest

from meshsdk.errors import ConfigurationError
from meshsdk.interceptors.load_signals import LoopLag, QueueWait
from meshsdk.interceptors.permit import Permit
from meshsdk.interceptors.policies.steps import Reject
from meshsdk.interceptors.rpc import rpc
from meshsdk.interceptors.server_admission import Admissions
from meshsdk.model.filters import AdaptiveConcurrency, AdmissionControl, LocalRateLimit, TokenBucket
from meshsdk.model.server_limits import MethodLimits, ServerLimits


@rpc(limit=1)
def decorated(_request, _context):
    """A handler with a limit."""


def plain(_request, _context):
    """A handler without."""


def met(limits: ServerLimits | None, method: str = "/s.S/m", behavior=plain) -> Admissions:
    """Admissions that know a method."""
    admissions = Admissions(limits)
    admissions.met(method, grpc.unary_unary_rpc_method_handler(behavior))
    return admissions


def entered(admissions: Admissions, method: str = "/s.S/m", count: int = 3) -> list[object]:
    """Lets calls in that do not end; the codes of those that are refused, None for the others."""
    held = [admissions.enter(method, ()) for _ in range(count)]
    admissions.kept = held  # type: ignore[attr-defined]
    return [one.code if isinstance(one, Reject) else None for one in held]


class Kept(Admissions):
    """Admissions that may hold the permits of a test."""

    kept: ClassVar[list[object]] = []


@pytest.fixture(autouse=True)
def keep(monkeypatch):
    """Permits live as long as the test."""
    monkeypatch.setattr("tests.unit.interceptors.test_server_admission.Admissions", Kept)


def test_nothing_is_limited_unless_said():
    """Without limits a method is not even asked about."""
    admissions = met(None)
    assert not admissions.active
    assert admissions.enter("/s.S/m", ()) is None


def test_the_decorators_limit():
    """`@rpc(limit=1)` is enforced once the method is known, for that method."""
    admissions = met(None, behavior=decorated)
    admissions.met("/s.S/other", grpc.unary_unary_rpc_method_handler(plain))
    assert admissions.active
    assert entered(admissions) == [None, "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED"]
    assert entered(admissions, "/s.S/other") == [None] * 3


@pytest.mark.parametrize("name", ["/s.S/m", "/s.S/*"])
def test_a_methods_entry_is_above_its_decorator(name):
    """ServerLimits says 2 where the handler says 1."""
    assert entered(met(ServerLimits(methods={name: 2}), behavior=decorated)) == [None, None, "RESOURCE_EXHAUSTED"]


def test_the_servers_limit_is_of_all_methods_together():
    """Calls of different methods take the same places; a method's own limit holds beside it."""
    admissions = met(ServerLimits(limit=2), behavior=decorated)
    assert entered(admissions, "/s.S/m", 1) == [None]
    first = admissions.kept
    assert entered(admissions, "/s.S/m", 1) == ["RESOURCE_EXHAUSTED"], "the method's"
    assert entered(admissions, "/s.S/unknown", 2) == [None, "RESOURCE_EXHAUSTED"], "the server's"
    assert first


def test_probes_are_never_refused():
    """Health, reflection, channelz and CSDS answer however full the server is."""
    admissions = Admissions(ServerLimits(limit={"concurrent": 1, "rate": "1/h"}, adaptive=True))
    for method in (
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.channelz.v1.Channelz/GetServers",
        "/envoy.service.status.v3.ClientStatusDiscoveryService/StreamClientStatus",
    ):
        assert entered(admissions, method, 20) == [None] * 20


def test_a_place_is_given_back_when_a_later_gate_refuses():
    """The rate refuses; the place that the call had taken before is free."""
    admissions = Admissions(ServerLimits(limit={"concurrent": 2, "rate": "1/h"}))
    permit = admissions.enter("/s.S/m", ())
    assert isinstance(permit, Permit)
    for _ in range(5):
        refusal = admissions.enter("/s.S/m", ())
        assert isinstance(refusal, Reject)
        assert refusal.category == "local_rate_limit"


def test_streams_count_for_fixed_limits_only():
    """Streams pass what is learnt; a fixed limit counts them."""
    learnt = Admissions(ServerLimits(adaptive=AdaptiveConcurrency(max_limit=1, min_concurrency=1)))
    held = [learnt.enter("/s.S/m", (), streamed=True) for _ in range(5)]
    assert not any(isinstance(one, Reject) for one in held)
    assert entered(learnt, count=2) == [None, "UNAVAILABLE"]
    fixed = Admissions(ServerLimits(limit=1))
    both = [fixed.enter("/s.S/m", (), streamed=True) for _ in range(2)]
    assert [type(one) for one in both] == [Permit, Reject]


def test_buckets_of_ones_own():
    """A token bucket may be given as Envoy has it."""
    limit = LocalRateLimit(TokenBucket(1, 1, 3600.0), status="UNAVAILABLE")
    assert entered(met(ServerLimits(methods={"/s.S/m": MethodLimits(local_rate_limit=limit)}))) == [
        None,
        "UNAVAILABLE",
        "UNAVAILABLE",
    ]


@pytest.mark.parametrize(
    "limits",
    [
        {"limit": 0},
        {"limit": "many"},
        {"limit": {"rps": 5}},
        {"limit": {"rate": "5/fortnight"}},
        {"limit": {"concurrent": "5"}},
        {"methods": {"Get": 5}},
        {"methods": {"/s.S/m": "x"}},
        {"methods": {"/s.S/m": MethodLimits(limit=-1)}},
        {"methods": {"/s.S/m": MethodLimits(adaptive=AdaptiveConcurrency(min_concurrency=0))}},
        {"admission": AdmissionControl(threshold=0)},
        {"methods": 5},
        {"loop_lag": 0},
        {"queue_wait": -1},
        {"local_rate_limit": LocalRateLimit(TokenBucket(0, 1, 1.0))},
    ],
)
def test_what_cannot_be_meant_is_refused(limits):
    """At the making of the interceptors, saying which limit."""
    with pytest.raises(ConfigurationError, match="ServerLimits: "):
        Admissions(ServerLimits(**limits))


def test_a_permit_ends_once():
    """However often the end of a call is told, it is counted once, with the handler's failure before the code."""
    told: list[str] = []
    permit = Permit(0.0, (lambda end: told.append(end.code),), None)
    permit.failure = "UNKNOWN"
    permit.end("OK")
    permit.end("OK")
    assert told == ["UNKNOWN"]


def test_a_call_whose_handler_never_ran_gives_its_place_back():
    """grpcio drops the handler of a call that was cancelled in the queue: so does the limit count it, with no code."""
    told: list[str] = []
    queue = QueueWait(0.1)
    permit = Permit(0.0, (lambda end: told.append(end.code),), queue)
    assert queue.waiting == 1
    del permit
    gc.collect()
    assert (told, queue.waiting) == ([""], 0)


def test_a_standing_queue_is_pressure():
    """The least wait of a window counts: one call that had to wait is no queue; without calls there is none."""
    queue = QueueWait(0.1)
    for _ in range(10):
        queue.arrived()
    queue.started(0.5, 0.0)
    queue.started(0.0, 0.05)
    queue.started(0.4, 0.2)
    assert queue.pressure == 0.0, "the window's least wait was none"
    queue.started(0.3, 0.25)
    queue.started(0.4, 0.35)
    assert queue.pressure == pytest.approx(3.0)
    for _ in range(5):
        queue.gone()
    assert queue.pressure == 0.0


def test_the_lag_of_a_loop():
    """A look that comes late is pressure at once and fades; the sampler ends when no call comes."""

    async def scenario() -> None:
        lag = LoopLag(0.1)
        assert not lag.sampling
        lag.touch()
        assert lag.sampling
        lag.look(lag._expected + 0.3)
        assert lag.pressure == pytest.approx(3.0)
        lag.look(lag._expected)
        assert lag.pressure == pytest.approx(1.5)
        for _ in range(30):
            if lag.sampling:
                lag.look(lag._expected)
        assert (lag.sampling, lag.pressure) == (False, 0.0)

    asyncio.run(scenario())
