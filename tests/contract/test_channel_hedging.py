"""Hedged calls (gRFC A6): further attempts while the first one runs. Mesh channels only."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Iterator

import grpc
import pytest

from meshsdk.model.policy import CircuitBreakers, Hedging, LbConfig, RandomChoice, RetryPolicy
from meshsdk.model.snapshot import Snapshot
from meshsdk.telemetry.port import OBSERVING
from tests.contract import test_channel_moves
from tests.contract.channel_backend import Backend
from tests.contract.channel_callers import PATIENCE
from tests.contract.channels import resolved, route, snapshot_of
from tests.contract.test_channel_counts import Sums

pytestmark = pytest.mark.parametrize("path", ["mesh"])

UNARY = ("unary_unary", "unary_stream")
NON_FATAL = frozenset({"UNAVAILABLE"})
SOON, NEVER = 0.01, 3600.0  # seconds until the next attempt


@pytest.fixture(params=UNARY)
def shape(request) -> str:
    """The shapes with one request."""
    return request.param


@pytest.fixture
def other() -> Iterator[Backend]:
    """A backend beside `backend`."""
    with Backend("b") as running:
        yield running


def hedged(*addresses: str, most: int = 2, delay: float = SOON, breakers: CircuitBreakers | None = None) -> Snapshot:
    """A route that hedges its calls, over these endpoints, which are drawn: by itself none follows another."""
    cluster = resolved("c", addresses, LbConfig(RandomChoice()))
    own = dataclasses.replace(cluster.cluster, breakers=breakers)
    leaves = tuple(dataclasses.replace(leaf, cluster=own) for leaf in cluster.leaves)
    cluster = dataclasses.replace(cluster, cluster=own, leaves=leaves)
    retry = RetryPolicy(NON_FATAL, most - 1, per_try_timeout=delay or None)  # as hedging is told on the wire
    return snapshot_of([route("c", hedging=Hedging(most, delay, NON_FATAL), retry=retry)], cluster)


def opened(lab, *backends: Backend, **policy):
    """A caller whose connections are all up."""
    caller = lab.open("", first=hedged(*(backend.address for backend in backends), **policy))
    deadline = time.monotonic() + PATIENCE
    seen: set[bytes] = set()
    while seen != {backend.name.encode() for backend in backends}:
        seen |= {caller.ask("stream_unary", b"who:").answers[0]}
        assert time.monotonic() < deadline
    for backend in backends:
        backend.executed.clear()
    return caller


def executed(request: bytes, *backends: Backend) -> list[int]:
    """How often each was asked to."""
    return [backend.executed.count(request.decode()) for backend in backends]


def wait_until(holds) -> None:
    """Waits for a condition."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("started", [False, True])
def test_slow_server_is_overtaken(lab, backend, other, shape, started):
    """Calls whose first server does not answer are answered by the other; the slow one sees a cancellation."""
    caller = opened(lab, backend, other)
    request = b"each:a=hang:0;b=metadata:"
    while executed(request, backend) == [0]:
        ended = caller.start(shape, request, timeout=PATIENCE).end() if started else caller.ask(shape, request)
        assert (ended.answers, ended.code) == ([b"b"], grpc.StatusCode.OK)
        assert dict(ended.initial)["initial"] == "first"
        assert dict(ended.trailing)["trailing"] == "last"
    assert backend.script.cancelled.wait(PATIENCE)


def test_a_fast_server_is_left_alone(lab, backend, other, shape):
    """No attempt is made before its time: a call that is answered is executed once."""
    caller = opened(lab, backend, other, delay=NEVER)
    for _ in range(4):
        assert caller.ask(shape, b"who:").code is grpc.StatusCode.OK
    assert sum(executed(b"who:", backend, other)) == 4


@pytest.mark.parametrize(("most", "each"), [(1, [0, 1]), (2, [1, 1]), (3, [1, 2])])
def test_most_attempts(lab, backend, other, shape, most, each):
    """No more attempts than allowed are made, on all endpoints before one is asked again; one deadline for all."""
    caller = opened(lab, backend, other, most=most)
    ended = caller.ask(shape, b"hang:0", timeout=0.4)
    assert ended.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert sorted(executed(b"hang:0", backend, other)) == each
    for asked in (backend, other):
        assert not asked.executed or asked.script.cancelled.wait(PATIENCE)


def test_fatal_status(lab, backend, other, shape):
    """A status that is not non-fatal is the call's, though another attempt runs, which is cancelled."""
    caller = opened(lab, backend, other)
    request = b"each:a=hang:0;b=abort:done"
    while executed(request, backend) == [0]:
        ended = caller.ask(shape, request)
        assert (ended.code, ended.details) == (grpc.StatusCode.FAILED_PRECONDITION, "done")
    assert backend.script.cancelled.wait(PATIENCE)


def test_non_fatal_status(lab, backend, other, shape):
    """After a non-fatal failure the next attempt is made at once, on the other endpoint."""
    caller = opened(lab, backend, other, delay=NEVER)
    while "unavailable:gone" not in backend.executed:
        ended = caller.ask(shape, b"each:a=unavailable:gone")
        assert (ended.answers, ended.code) == ([b"b"], grpc.StatusCode.OK)


def test_all_fail(lab, backend, other, shape):
    """If every attempt fails, the call fails as the last one did."""
    caller = opened(lab, backend, other, most=4, delay=NEVER)
    ended = caller.ask(shape, b"unavailable:gone")
    assert (ended.code, ended.details) == (grpc.StatusCode.UNAVAILABLE, "gone")
    counts = executed(b"unavailable:gone", backend, other)
    assert sum(counts) == 4
    assert min(counts) >= 1


@pytest.mark.parametrize(("pushback", "attempts"), [("-1", 1), ("no number", 1), ("10", 3)])
def test_pushback(lab, backend, shape, pushback, attempts):
    """Pushback forbids further attempts, or puts them off."""
    caller = opened(lab, backend, most=3, delay=NEVER)
    ended = caller.ask(shape, f"pushback:{pushback}".encode())
    assert ended.code is grpc.StatusCode.UNAVAILABLE
    assert len(backend.executed) == attempts


def test_pushback_beyond_the_deadline(lab, backend, shape):
    """An attempt that pushback puts off beyond the deadline is not waited for."""
    caller = opened(lab, backend, most=3, delay=NEVER)
    ended = caller.ask(shape, b"pushback:60000", timeout=PATIENCE)
    assert (ended.code, ended.details) == (grpc.StatusCode.UNAVAILABLE, "scripted to push back")
    assert len(backend.executed) == 1


def test_cancelled(lab, backend, other, shape):
    """Cancelling the call cancels every attempt."""
    caller = opened(lab, backend, other)
    running = caller.start(shape, b"hang:0")
    wait_until(lambda: executed(b"hang:0", backend, other) == [1, 1])
    assert running.cancel()
    assert running.end().code is grpc.StatusCode.CANCELLED
    assert backend.script.cancelled.wait(PATIENCE)
    assert other.script.cancelled.wait(PATIENCE)


def test_cancelled_between_attempts(lab, backend, shape):
    """A call that waits for its next attempt is cancelled at once."""
    caller = opened(lab, backend, delay=NEVER)
    running = caller.start(shape, b"pushback:60000")
    wait_until(lambda: backend.executed)
    time.sleep(0.05)  # the answer must have come; were it late, the call would be cancelled while it runs
    assert running.cancel()
    assert running.end().code is grpc.StatusCode.CANCELLED
    assert len(backend.executed) == 1


@pytest.mark.parametrize("shape", ["unary_stream"])
def test_stream_is_whole(lab, backend, other, shape):
    """The answers of one attempt, all of them and in order, though two servers send them."""
    caller = opened(lab, backend, other, delay=0.0)
    for _ in range(10):
        assert caller.ask(shape, b"count:50").answers == [str(number).encode() for number in range(50)]


@pytest.mark.parametrize("shape", ["unary_stream"])
def test_stream_that_has_begun_stays(lab, backend, other, shape):
    """After its first answer a stream is one attempt's: its failure is the call's."""
    caller = opened(lab, backend, other, delay=NEVER)
    ended = caller.ask(shape, b"partly:")
    assert ended.code is grpc.StatusCode.UNAVAILABLE
    assert sum(executed(b"partly:", backend, other)) == 1


@pytest.mark.parametrize("shape", ["unary_stream"])
def test_empty_stream(lab, backend, other, shape):
    """A stream without an answer ends well."""
    ended = opened(lab, backend, other).ask(shape, b"count:0")
    assert (ended.answers, ended.code) == ([], grpc.StatusCode.OK)


@pytest.mark.parametrize("shape", ["stream_unary", "stream_stream"])
def test_streams_of_requests_are_not_hedged(lab, backend, other, shape):
    """A call with a stream of requests is one attempt, which no delay cuts short."""
    caller = opened(lab, backend, other)
    assert float(caller.ask(shape, b"remaining:").answers[0]) > 2
    assert caller.ask(shape, b"hang:", timeout=0.6).code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert sum(executed(b"hang:", backend, other)) == 1
    assert caller.ask(shape, b"hang:0", timeout=0.6).code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert sum(executed(b"hang:0", backend, other)) == 1


def test_no_budget(lab, backend, other, shape):
    """Without room in the budget of retries the first attempt is the only one."""
    caller = opened(lab, backend, other, breakers=CircuitBreakers(max_retries=0))
    assert caller.ask(shape, b"hang:0", timeout=0.6).code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert sum(executed(b"hang:0", backend, other)) == 1


def test_budget_comes_back(lab, backend, other, shape):
    """An attempt beside the first counts against the budget while it runs, and no longer."""
    caller = opened(lab, backend, other, breakers=CircuitBreakers(max_retries=1))
    while executed(b"each:a=hang:0", backend) < [2]:
        assert caller.ask(shape, b"each:a=hang:0").answers == [b"b"]


def test_counted_once(lab, backend, other, shape):
    """A hedged call is one call, which two attempts made; nothing is left running."""
    caller = opened(lab, backend, other)
    told = Sums(lab)
    told.settle()
    before = told.of("c")
    calls = 0
    while (doubled := executed(b"each:a=hang:0", backend)[0]) < 2:
        assert caller.ask(shape, b"each:a=hang:0").answers == [b"b"]
        calls += 1
    told.settle()
    wait_until(lambda: told.of("c")["ok"] == before["ok"] + calls)
    after = told.of("c") - before
    assert after["doubled"] == doubled
    assert after["issued"] == calls + doubled
    assert (after["errors"], after["running"]) == (0, 0)


def test_first_attempt_wins(lab, backend, other, shape):
    """The first attempt may answer after the next one has begun: the call counts there, the other one not at all."""
    caller = opened(lab, backend, other, delay=0.2)
    told = Sums(lab)
    told.settle()
    before = told.of("c")
    running = caller.start(shape, b"hang:0", timeout=PATIENCE)
    wait_until(lambda: sum(executed(b"hang:0", backend, other)) == 1)
    first, second = (backend, other) if backend.executed else (other, backend)
    wait_until(lambda: executed(b"hang:0", second) == [1])
    first.script.release.set()
    assert running.end().answers == [b"released"]
    assert second.script.cancelled.wait(PATIENCE)
    told.settle()
    wait_until(lambda: told.of("c")["ok"] == before["ok"] + 1)
    after = told.of("c") - before
    assert (after["issued"], after["doubled"], after["errors"]) == (2, 1, 0)


def test_never_sent(lab, backend, shape, monkeypatch):
    """Attempts that never left the process are made elsewhere, at once, and are none: each call is executed once."""
    monkeypatch.setattr(test_channel_moves, "snapshot", lambda *addresses: hedged(*addresses, most=1, delay=NEVER))
    caller = test_channel_moves.Gone(lab, backend, monkeypatch).caller
    for number in range(8):
        assert caller.ask(shape, f"id:{number}".encode()).answers == [str(number).encode()]
    assert backend.executed == [f"id:{number}" for number in range(8)]


def test_endpoint_that_goes(lab, backend, shape):
    """A call whose only endpoint is gone fails as any other call does."""
    caller = opened(lab, backend, delay=NEVER)
    backend.stop()
    ended = caller.ask(shape, b"who:", timeout=PATIENCE)
    assert ended.code is grpc.StatusCode.UNAVAILABLE


def test_closed_meanwhile(lab, backend, other, shape):
    """Closing the channel ends a hedged call."""
    caller = opened(lab, backend, other)
    running = caller.start(shape, b"hang:0")
    wait_until(lambda: executed(b"hang:0", backend, other) == [1, 1])
    caller.close()
    assert running.end().code is grpc.StatusCode.CANCELLED
    assert backend.script.cancelled.wait(PATIENCE)
    assert other.script.cancelled.wait(PATIENCE)


@pytest.mark.parametrize("shape", ["unary_stream"])
def test_dropped(lab, backend, other, shape):
    """A stream that the application lets go of is cancelled everywhere."""
    caller = opened(lab, backend, other)
    running = caller.start(shape, b"hang:0")
    wait_until(lambda: executed(b"hang:0", backend, other) == [1, 1])
    if lab.facade == "aio":
        lab.loop.run(_let_go(running))
    del running
    gc.collect()
    assert backend.script.cancelled.wait(PATIENCE)
    assert other.script.cancelled.wait(PATIENCE)


async def _let_go(running) -> None:
    del running.call


class Seen:
    """An observer that writes down what it is told, as all of its ports."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []
        self.metadata = (("seen", "yes"),)

    def began(self, target: str, method: str) -> Seen:
        """A call."""
        return self

    def attempt(self, number, address, cluster, locality, metadata) -> SeenAttempt:
        """An attempt."""
        return SeenAttempt(self.told, (*(metadata or ()), ("seen", str(number))))

    def event(self, name, attributes) -> None:
        """An event."""
        self.told.append((name,))

    def ended(self, code: str, details: str, route: str, cluster: str) -> None:
        """The call's end."""
        self.told.append(("call", code))


class SeenAttempt:
    """One attempt."""

    def __init__(self, told, metadata) -> None:
        self.metadata = metadata
        self._told = told

    def ended(self, code: str) -> None:
        """Its end."""
        self._told.append(("attempt", code))


def test_observed(lab, backend, other, shape, monkeypatch):
    """Each attempt is told of, also the cancelled one, before the end of the call; each sends what it was given."""
    caller = opened(lab, backend, other)
    seen = Seen()
    monkeypatch.setattr(OBSERVING, "observer", seen)
    while executed(b"each:a=hang:0", backend) == [0]:
        seen.told.clear()
        assert caller.ask(shape, b"each:a=hang:0").answers == [b"b"]
    wait_until(lambda: ("call", "OK") in seen.told)
    assert seen.told[0] == ("hedge",)
    assert sorted(seen.told[1:3]) == [("attempt", "CANCELLED"), ("attempt", "OK")]
    assert seen.told[3:] == [("call", "OK")]
    assert {dict(asked.script.metadata[-1])["seen"] for asked in (backend, other)} == {"0", "1"}
