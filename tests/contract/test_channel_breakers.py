"""Circuit breakers of a cluster: calls, waits and retries that may run at once. Mesh channels only."""

from __future__ import annotations

import dataclasses
import socket
import time

import grpc
import pytest

from meshsdk.model.policy import CircuitBreakers, RetryBudget, RetryPolicy
from meshsdk.model.snapshot import ResolvedCluster
from tests.contract.channel_backend import SHAPES
from tests.contract.channel_callers import PATIENCE
from tests.contract.channels import resolved, route, snapshot_of

pytestmark = pytest.mark.parametrize("path", ["mesh"])
POLICY = RetryPolicy(frozenset({"UNAVAILABLE"}), num_retries=1, base_interval=0.001, max_interval=0.002)


@pytest.fixture(params=SHAPES)
def shape(request) -> str:
    """Each of the four call shapes."""
    return request.param


def limited(cluster: ResolvedCluster, limits: CircuitBreakers, high: CircuitBreakers | None = None) -> ResolvedCluster:
    """The cluster with these limits."""
    made = dataclasses.replace(cluster.cluster, breakers=limits, high_breakers=high)
    return ResolvedCluster(made, tuple(dataclasses.replace(leaf, cluster=made) for leaf in cluster.leaves))


def breaking(address: str, high: CircuitBreakers | None = None, limits: CircuitBreakers | None = None, **forward):
    """One route to one endpoint of a cluster with limits."""
    breakers = limits or CircuitBreakers(max_requests=1)
    return snapshot_of([route("c", **forward)], limited(resolved("c", [address]), breakers, high))


def breaker(lab):
    """The one breaker in force."""
    (found,) = lab.scopes[0].shared.breakers
    return found


def until(condition) -> None:
    """Waits for a condition."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def hang(caller, shape, backend):
    """A call that runs at the server."""
    running = caller.start(shape, b"hang:0")
    assert backend.script.began.acquire(timeout=PATIENCE)
    return running


def test_full(lab, backend, shape):
    """While as many calls run as `max_requests` lets, the next one fails UNAVAILABLE at once; then it goes (A32)."""
    caller = lab.open("", first=breaking(backend.address))
    running = hang(caller, shape, backend)
    found = breaker(lab)
    assert (found.running, found.limit, found.open) == (1, 1, True)
    ended = caller.ask("unary_unary", b"say:1", wait_for_ready=True)
    assert ended.code is grpc.StatusCode.UNAVAILABLE
    assert "max_requests" in ended.details
    assert backend.executed == ["hang:0"]
    backend.script.release.set()
    assert running.end().code is grpc.StatusCode.OK
    assert caller.ask("unary_unary", b"say:2").answers == [b"2"]
    assert (found.running, found.open, found.refused) == (0, False, 1)


def test_refused_in_every_shape(lab, backend, shape):
    """Calls of every shape are refused alike."""
    caller = lab.open("", first=breaking(backend.address))
    running = hang(caller, "unary_stream", backend)
    ended = caller.ask(shape, b"say:1")
    assert (ended.code, ended.answers) == (grpc.StatusCode.UNAVAILABLE, [])
    assert running.cancel()
    running.end()


@pytest.mark.parametrize("end", ["cancel", "fail"])
def test_room_again(lab, backend, shape, end):
    """A call that fails or is cancelled makes room."""
    caller = lab.open("", first=breaking(backend.address))
    if end == "cancel":
        running = hang(caller, shape, backend)
        assert running.cancel()
        running.end()
    else:
        assert caller.ask(shape, b"abort:").code is grpc.StatusCode.FAILED_PRECONDITION
    until(lambda: breaker(lab).running == 0)
    assert caller.ask(shape, b"say:1").answers == [b"1"]


def test_without_limits(lab, backend):
    """A cluster that says nothing, or `not limited` as Istio does, has no breaker, and its calls the fast path."""
    caller = lab.open("", first=breaking(backend.address, limits=CircuitBreakers(*[4294967295] * 4)))
    assert caller.ask("unary_unary", b"say:1").answers == [b"1"]
    assert list(lab.scopes[0].shared.breakers) == []


def test_shared_by_the_mesh(lab, backend):
    """Channels of one mesh count together, and counts outlive a configuration that changes the limit."""
    caller = lab.open("", first=breaking(backend.address))
    running = hang(caller, "unary_stream", backend)
    shared, (found,) = lab.scopes[0].shared, lab.scopes[0].shared.breakers
    lab.source.push(breaking(backend.address, limits=CircuitBreakers(max_requests=2)))
    assert caller.ask("unary_unary", b"say:1").answers == [b"1"]
    assert (list(shared.breakers), found.running, found.limit) == ([found], 1, 2)
    lab.source.push(breaking(backend.address))
    assert caller.ask("unary_unary", b"say:1").code is grpc.StatusCode.UNAVAILABLE
    running.cancel()
    running.end()


def test_priorities(lab, backend):
    """Calls of HIGH priority count against limits of their own."""
    first = breaking(backend.address, CircuitBreakers(max_requests=0), CircuitBreakers(), high_priority=True)
    caller = lab.open("", first=first)
    assert caller.ask("unary_unary", b"say:1").code is grpc.StatusCode.UNAVAILABLE
    lab.source.push(breaking(backend.address, CircuitBreakers(max_requests=0), CircuitBreakers()))
    assert caller.ask("unary_unary", b"say:1").answers == [b"1"]


def test_pending(lab, shape):
    """While as many calls wait for a connection as `max_pending_requests` lets, the next one does not wait."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts, and says nothing: calls wait
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        caller = lab.open("", first=breaking(address, limits=CircuitBreakers(max_pending_requests=1)))
        waiting = caller.start("unary_stream", b"say:1")
        until(lambda: any(found.pending for found in lab.scopes[0].shared.breakers))
        ended = caller.ask(shape, b"say:2")
        assert ended.code is grpc.StatusCode.UNAVAILABLE
        assert "max_pending_requests" in ended.details
        found = breaker(lab)
        waiting.cancel()
        until(lambda: found.pending == 0)
        assert found.refused == 1


@pytest.mark.parametrize(
    "limits",
    [
        CircuitBreakers(max_retries=0),
        CircuitBreakers(retry_budget=RetryBudget(0.5, 0), max_retries=100),
    ],
)
def test_no_retry_to_be_had(lab, backend, shape, limits):
    """Where the breaker has no retry left, the error of the attempt is the call's own."""
    ended = lab.open("", first=breaking(backend.address, limits=limits, retry=POLICY)).ask(shape, b"fail:1")
    assert (ended.code, ended.details) == (grpc.StatusCode.UNAVAILABLE, "scripted to fail")
    assert backend.executed == ["fail:1"]


@pytest.mark.parametrize(
    "limits", [CircuitBreakers(), CircuitBreakers(max_retries=1), CircuitBreakers(retry_budget=RetryBudget(0.2, 1))]
)
def test_retries_give_back(lab, backend, shape, limits):
    """A retry counts while it waits and runs, and no longer."""
    caller = lab.open("", first=breaking(backend.address, limits=limits, retry=POLICY))
    for script in (b"fail:1", b"fail:01", b"fail:001"):
        assert caller.ask(shape, b"say:x", b"say:y").code is grpc.StatusCode.OK
        caller.ask(shape, script)
    found = breaker(lab)
    assert (found.retries, found.running, found.refused) == (0, 0, 0)
    assert len(backend.executed) > 6
