"""`cycle`, the same for grpc.server and grpc.aio.server: offline, a change, online again, while the server runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import grpc
import pytest

from meshsdk.discovery.memory import MemoryRegistry
from meshsdk.errors import ConfigurationError, LifecycleError
from meshsdk.interceptors.activity import DRAINING_KEY
from meshsdk.lifecycle.drain import DrainTiming
from meshsdk.model.instance import InstanceState
from tests.contract.served import SyncServed
from tests.contract.server_drivers import finish
from tests.contract.serving import KINDS, NOT_SERVING, SERVING, Serve, health, seen_states, serving, taken
from tests.e2e.processes import until

DRAINING, ONLINE = InstanceState.DRAINING, InstanceState.ONLINE


@pytest.fixture(params=KINDS)
def serve(request) -> Iterator[Serve]:
    """Starts services that are ended with the test."""
    with serving(KINDS[request.param]) as start:
        yield start


@pytest.fixture
def registry() -> MemoryRegistry:
    """A registry in this process."""
    return MemoryRegistry()


def online(registry: MemoryRegistry) -> bool:
    """Whether the one instance is ONLINE."""
    return [one.state for one in registry.instances("orders")] == [ONLINE]


def told(served: SyncServed) -> str | None:
    """What an answer says about a drain."""
    return served.call("unary_unary", b"ok").trailing.get(DRAINING_KEY)


def test_a_cycle_changes_while_it_drains_and_comes_back_relabelled(serve, registry):
    """Peers see DRAINING, then ONLINE with other labels; the change runs while DRAINING; calls are served always."""
    states = seen_states(registry)
    served = serve(registry=registry, metadata={"version": "v1", "old": "yes"})
    served.wait_online()
    (before,) = registry.instances("orders")
    taken(states)
    found = []

    def change() -> None:
        found.append((registry.instances("orders")[0].state, health(served), told(served)))

    assert served.cycle(change, {"switch": "off", "old": None}) is True
    until(lambda: online(registry), "it is online again")
    assert found == [(DRAINING, NOT_SERVING, "1")]
    seen = taken(states)
    assert (set(seen[:-1]), seen[-1]) == ({DRAINING}, ONLINE)
    (after,) = registry.instances("orders")
    assert dict(after.labels) == {"version": "v1", "switch": "off"}
    assert (after.id, after.started_at) == (before.id, before.started_at)
    assert (health(served), told(served)) == (SERVING, None)
    served.drain()
    assert taken(states) == [DRAINING, None]


def test_a_change_that_fails_leaves_all_as_it_was(serve, registry):
    """What the change raised reaches the caller; the instance is online again with its labels, and can cycle again."""
    served = serve(registry=registry)
    served.wait_online()

    def change() -> None:
        raise TimeoutError("scripted")

    with pytest.raises(TimeoutError, match="scripted"):
        served.cycle(change, {"switch": "off"})
    until(lambda: online(registry), "it is online again")
    assert dict(registry.instances("orders")[0].labels) == {}
    assert served.cycle(lambda: None, {"switch": "off"}) is True
    with pytest.raises(ConfigurationError, match="text for text"):
        served.cycle(lambda: None, {"switch": 1})
    with pytest.raises(ConfigurationError, match="longer than"):
        served.cycle(lambda: None, {"switch": "x" * 100_000})


@pytest.mark.parametrize("ending", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_a_change_that_would_end_its_caller_ends_nobody(serve, registry, ending):
    """SystemExit and the like out of a change: the caller is told in words, the service goes on as it was."""
    served = serve(registry=registry)
    served.wait_online()

    def change() -> None:
        raise ending

    with pytest.raises(LifecycleError, match="the change of cycle") as told:
        served.cycle(change, {"switch": "off"})
    assert told.value.__cause__ is ending
    until(lambda: online(registry), "it is online again")
    assert dict(registry.instances("orders")[0].labels) == {}
    assert served.cycle(lambda: None, {"switch": "off"}) is True


def test_a_call_that_outlasts_the_drain_goes_on(serve, registry):
    """The drain's time runs out with a call in flight: the change runs all the same, and so does the call."""
    served = serve(registry=registry, drain=DrainTiming(quiet=0.1, timeout=0.3))
    served.wait_online()
    held = served.start("unary_unary", b"hold")
    assert served.scripted.began.acquire(timeout=10)
    assert served.cycle(lambda: None) is False
    served.scripted.gate.set()
    assert finish("unary_unary", held).code is grpc.StatusCode.OK


def test_an_end_comes_before_a_cycle(serve, registry):
    """A drain is asked for while a cycle waits for quiet: its change never runs, its caller is told, the drain ends."""
    served = serve(registry=registry, drain=DrainTiming(quiet=1, timeout=600))
    served.wait_online()
    held = served.start("unary_unary", b"hold")
    assert served.scripted.began.acquire(timeout=10)
    ran: list[bool] = []
    outcome: list[Exception] = []

    def cycle() -> None:
        try:
            served.cycle(lambda: ran.append(True))
        except LifecycleError as error:
            outcome.append(error)

    caller = threading.Thread(target=cycle)
    caller.start()
    until(lambda: served.service.state is DRAINING, "the cycle began")
    served.drain(wait=False)
    caller.join(20)
    assert (ran, len(outcome)) == ([], 1)
    served.scripted.gate.set()
    assert finish("unary_unary", held).code is grpc.StatusCode.OK
    served.wait()
    with pytest.raises(LifecycleError, match="has stopped"):
        served.cycle(lambda: ran.append(True))


def test_cycles_follow_each_other(serve, registry):
    """Two are asked for at once: both changes run, one after the other, and both labels are there in the end."""
    states = seen_states(registry)
    served = serve(registry=registry)
    served.wait_online()
    taken(states)
    threads = [threading.Thread(target=served.cycle, args=(lambda: None, {name: "1"})) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    until(lambda: online(registry), "it is online again")
    assert dict(registry.instances("orders")[0].labels) == {"a": "1", "b": "1"}
    assert DRAINING in taken(states)


def test_before_it_is_online_a_change_is_just_made(serve, registry):
    """The application is not ready yet: the change runs at once, and the labels are there when it goes online."""
    states = seen_states(registry)
    served = serve(registry=registry, ready=False)
    assert served.cycle(lambda: None, {"switch": "off"}) is True
    served.ready()
    served.wait_online()
    assert dict(registry.instances("orders")[0].labels) == {"switch": "off"}
    assert DRAINING not in taken(states)
