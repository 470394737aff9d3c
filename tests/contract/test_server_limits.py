"""Limits of servers: the same for every kind of server, handler and call shape."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from meshsdk.interceptors.activity import DRAINING_KEY
from meshsdk.model.filters import AdaptiveConcurrency, AdmissionControl
from meshsdk.model.server_limits import MethodLimits, ServerLimits
from meshsdk.telemetry.port import OBSERVING
from tests.contract.server_drivers import KINDS, SERVICE, SHAPES, Running, finish, running

ALL = f"/{SERVICE}/*"
RATE = MethodLimits(limit={"rate": "1/h"})
FULL = grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    """A kind of server."""
    return request.param


@pytest.fixture
def limited(kind) -> Iterator[Callable[..., Running]]:
    """Makes a server of this kind with limits."""
    with ExitStack() as stack:
        yield lambda **limits: stack.enter_context(running(kind, limits=ServerLimits(**limits)))


def details(server: Running, shape: str, request: bytes = b"ok") -> dict[str, object]:
    """Makes a call that is refused; returns its google.rpc details by name."""
    call = server.start(shape, request)
    finish(shape, call)
    status = rpc_status.from_call(call)
    assert status is not None, call.details()
    found = {}
    for detail in status.details:
        name = detail.TypeName().rpartition(".")[2]
        message = getattr(error_details_pb2, name)()
        assert detail.Unpack(message)
        found[name] = message
    return found


def eventually(condition: Callable[[], bool]) -> None:
    """Waits until it holds: a client may see the answer before the server has finished the call."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_rate_is_kept(limited, shape):
    """Each method has its own rate; a refusal says what is limited and when there is room again."""
    server = limited(methods={f"/{SERVICE}/{one}": RATE for one in SHAPES})
    assert server.call(shape, b"ok").code is grpc.StatusCode.OK
    assert server.call(shape, b"ok").code is FULL
    found = details(server, shape)
    assert found["ErrorInfo"].reason == "LOCAL_RATE_LIMITED"
    assert found["QuotaFailure"].violations[0].subject == f"/{SERVICE}/{shape}"
    assert 3000 < found["RetryInfo"].retry_delay.ToTimedelta().total_seconds() <= 3600


@pytest.mark.parametrize("shape", SHAPES)
def test_calls_in_flight_are_limited(limited, shape):
    """A second call is refused while one runs, and taken after it; the refused one never reaches the handler."""
    server = limited(limit=1)
    first = server.start(shape, b"hold")
    assert server.scripted.began.acquire(timeout=30)
    refused = server.call(shape, b"hold")
    assert (refused.code, refused.responses) == (FULL, ())
    assert details(server, shape)["ErrorInfo"].reason == "CONCURRENCY_LIMITED"
    server.scripted.gate.set()
    assert finish(shape, first).code is grpc.StatusCode.OK
    eventually(lambda: server.call(shape, b"ok").code is grpc.StatusCode.OK)
    assert not server.scripted.began.acquire(blocking=False)


@pytest.mark.parametrize("shape", SHAPES)
def test_streams_take_no_place_of_what_is_learnt(limited, shape):
    """While a call runs, a learnt limit of one is full, unless its answer is a stream."""
    server = limited(adaptive=AdaptiveConcurrency(max_limit=1, min_concurrency=1))
    first = server.start(shape, b"hold")
    assert server.scripted.began.acquire(timeout=30)
    full = not shape.endswith("_stream")
    assert server.call("unary_unary", b"ok").code is (grpc.StatusCode.UNAVAILABLE if full else grpc.StatusCode.OK)
    server.scripted.gate.set()
    assert finish(shape, first).code is grpc.StatusCode.OK


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("script", [b"error", b"abort", b"code", b"ok"])
def test_however_a_call_ends_its_place_is_free(limited, kind, shape, script):
    """After errors and aborts as after answers, the one place is there for the next call."""
    server = limited(limit=1)
    for _ in range(3):
        eventually(lambda: server.call(shape, script).code is not FULL)
    eventually(lambda: server.call(shape, b"ok").code is grpc.StatusCode.OK)
    assert server.activity.look().arrived > 3


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cancelled_call_frees_its_place(limited, kind, shape):
    """The caller goes while the handler runs."""
    if kind == "aio-threads" and shape.endswith("_stream"):
        pytest.skip("grpc.aio leaves the thread of a cancelled stream waiting in its queue for ever")
    server = limited(limit=1)
    call = server.start(shape, b"hold")
    assert server.scripted.began.acquire(timeout=30)
    call.cancel()
    server.scripted.gate.set()
    eventually(lambda: server.call(shape, b"ok").code is grpc.StatusCode.OK)


def test_a_call_cancelled_before_a_thread_was_free_frees_its_place():
    """grpc.server runs no handler for it and tells nobody; its place is free all the same."""
    with running("sync", limits=ServerLimits(limit=9)) as server:  # eight threads
        held = [server.start("unary_unary", b"hold") for _ in range(8)]
        for _ in held:
            assert server.scripted.began.acquire(timeout=30)
        queued = server.start("unary_unary", b"ok")
        eventually(lambda: server.call("unary_unary", b"ok").code is FULL)
        queued.cancel()
        server.scripted.gate.set()
        for one in held:
            assert finish("unary_unary", one).code is grpc.StatusCode.OK
        eventually(lambda: server.activity.look().in_flight == 0)
        again = [server.start("unary_unary", b"ok") for _ in range(9)]
        assert {finish("unary_unary", one).code for one in again} == {grpc.StatusCode.OK}


def test_a_refusal_does_not_wait_for_a_thread():
    """With every thread of a grpc.server busy, the call that is too many is refused at once."""
    with running("sync", limits=ServerLimits(limit=8)) as server:
        held = [server.start("unary_unary", b"hold") for _ in range(8)]
        for _ in held:
            assert server.scripted.began.acquire(timeout=30)
        assert server.call("unary_unary", b"ok").code is FULL
        assert not server.scripted.gate.is_set()
        server.scripted.gate.set()
        assert {finish("unary_unary", one).code for one in held} == {grpc.StatusCode.OK}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_draining_server_says_so_in_refusals_too(limited, shape):
    """Who is refused by a server that goes should call elsewhere."""
    server = limited(methods={ALL: RATE})
    server.call(shape, b"ok")
    server.activity.draining = True
    answer = server.call(shape, b"ok")
    assert (answer.code, answer.trailing[DRAINING_KEY]) == (FULL, "1")
    assert "grpc-status-details-bin" in answer.trailing


@pytest.mark.parametrize("shape", SHAPES)
def test_the_decorators_limit_is_enforced(kind, shape):
    """`@meshsdk.rpc(limit=...)` needs nothing but `server_interceptors()`."""
    with running(kind, limit={"rate": "1/h"}) as server:
        assert server.call(shape, b"ok").responses[-1] == b"re:ok"
        assert server.call(shape, b"ok").code is FULL


@pytest.mark.parametrize("shape", SHAPES)
def test_many_failures_close_the_door(limited, shape):
    """Admission control counts what handlers answer: after failures alone, calls are refused UNAVAILABLE."""
    control = AdmissionControl(good=frozenset({"OK"}), max_refused=1.0, aggression=1000.0)
    server = limited(admission=control)
    for script in (b"error", b"code", b"abort"):
        server.call(shape, script)
    eventually(lambda: server.call(shape, b"error").code is grpc.StatusCode.UNAVAILABLE)
    assert details(server, shape)["ErrorInfo"].reason == "ADMISSION_DENIED"


def test_good_answers_keep_the_door_open(limited):
    """Of calls that go well none is refused."""
    server = limited(admission=AdmissionControl(good=frozenset({"OK"}), max_refused=1.0, aggression=1000.0))
    for _ in range(30):
        assert server.call("unary_unary", b"ok").code is grpc.StatusCode.OK


@pytest.mark.parametrize("shape", ["unary_unary", "stream_unary"])  # answers that are streams pass
def test_adaptive_concurrency(limited, shape):
    """The server takes calls up to its limit, and refuses UNAVAILABLE beyond."""
    server = limited(adaptive=AdaptiveConcurrency(min_concurrency=2, max_limit=2))
    held = [server.start(shape, b"hold") for _ in range(2)]
    for _ in held:
        assert server.scripted.began.acquire(timeout=30)
    assert server.call(shape, b"ok").code is grpc.StatusCode.UNAVAILABLE
    assert details(server, shape)["ErrorInfo"].metadata["limit"] == "2"
    server.scripted.gate.set()
    assert [finish(shape, one).code for one in held] == [grpc.StatusCode.OK] * 2


def test_a_limit_costs_calls_of_other_methods_nothing(limited):
    """A method without a limit goes on while another one's is full."""
    server = limited(methods={f"/{SERVICE}/unary_unary": RATE})
    for _ in range(3):
        server.call("unary_unary", b"ok")
    assert server.call("unary_unary", b"ok").code is FULL
    assert server.call("unary_stream", b"ok").code is grpc.StatusCode.OK


def test_a_late_event_loop_is_pressure():
    """Handlers that hold the loop make it late: the sampler, begun by a call, sees it, and ends when calls end."""

    async def hog(_request, _context):
        time.sleep(0.2)  # noqa: ASYNC251 - what must not be done
        return b""

    with running("aio", limits=ServerLimits(adaptive=True, loop_lag=0.01), unary=hog) as server:
        admissions = server.admissions
        assert not admissions.loop_lag.sampling

        def late() -> bool:
            server.call("unary_unary", b"ok")
            return admissions.pressure() > 1

        eventually(late)
        eventually(lambda: not admissions.loop_lag.sampling)
        assert admissions.pressure() == 0.0


def test_calls_that_wait_for_a_thread_are_counted():
    """With every thread busy, those that wait are seen; none is when the threads are free."""
    with running("sync", limits=ServerLimits(adaptive=True)) as server:
        calls = [server.start("unary_unary", b"hold") for _ in range(11)]
        eventually(lambda: server.admissions.queue.waiting == 3)
        server.scripted.gate.set()
        assert {finish("unary_unary", one).code for one in calls} == {grpc.StatusCode.OK}
        assert server.admissions.queue.waiting == 0
        assert server.admissions.pressure() == 0.0


class Seen:
    """An observer, and each call that it observes: the codes that calls ended with, the first end of each."""

    def __init__(self) -> None:
        self.codes: list[str] = []

    def began(self, *_call):
        """A call begins."""
        return _SeenCall(self.codes)


class _SeenCall:
    def __init__(self, codes: list[str]) -> None:
        self._codes, self._over = codes, False

    def enter(self):
        """A step begins."""

    def leave(self, _entered):
        """It ended."""

    def ended(self, code: str, _details: str):
        """The call has ended."""
        if not self._over:
            self._codes.append(code)
        self._over = True


@pytest.mark.parametrize("shape", SHAPES)
def test_telemetry_sees_what_is_refused(limited, shape, monkeypatch):
    """A call that a limit refuses is a call of the server like any other, with its status."""
    seen = Seen()
    monkeypatch.setattr(OBSERVING, "servers", seen)
    server = limited(methods={ALL: RATE})
    server.call(shape, b"ok")
    server.call(shape, b"ok")
    eventually(lambda: len(seen.codes) == 2)
    assert seen.codes == ["OK", "RESOURCE_EXHAUSTED"]
