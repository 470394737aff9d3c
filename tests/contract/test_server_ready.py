"""When a service goes online, the same for grpc.server and grpc.aio.server: told ready, and its targets resolved."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from meshsdk.discovery.memory import MemoryRegistry
from meshsdk.errors import ConfigurationError, LifecycleError
from meshsdk.lifecycle.readiness import Follower
from meshsdk.model.instance import InstanceState
from tests.contract.served import SyncServed
from tests.contract.serving import KINDS, NOT_SERVING, SERVING, Serve, health, seen_states, serving, taken
from tests.e2e.processes import until

STARTING, ONLINE = InstanceState.STARTING, InstanceState.ONLINE


class Scripted:
    """Targets whose resolution the test says."""

    def __init__(self) -> None:
        self.followers: dict[str, Follower] = {}
        self.ended: list[str] = []
        self.closed = False

    def follow(self, target, follower):
        """See `Dependencies`."""
        if not target.startswith("xds:"):
            raise ConfigurationError(f"{target!r} is no target of a mesh")
        self.followers[target] = follower
        return lambda: self.ended.append(target)

    def progress(self, target):
        """See `Dependencies`."""
        return f"waiting for {target} of the test"

    def close(self):
        """See `Dependencies`."""
        self.closed = True


@pytest.fixture(params=KINDS)
def serve(request) -> Iterator[Serve]:
    """Starts services that are ended with the test."""
    with serving(KINDS[request.param]) as start:
        yield start


@pytest.fixture
def registry() -> MemoryRegistry:
    """A registry in this process."""
    return MemoryRegistry()


def starting(served: SyncServed, registry: MemoryRegistry) -> bool:
    """Whether it is registered and waits."""
    return served.service.state is STARTING and [one.state for one in registry.instances("orders")] == [STARTING]


def test_an_instance_waits_for_the_applications_word(serve, registry):
    """`ready=False`: STARTING and NOT_SERVING until `ready()`; from then on ONLINE, and as young as that."""
    served = serve(registry=registry, ready=False)
    until(lambda: starting(served, registry), "it is registered")
    assert health(served) == NOT_SERVING
    assert served.call("unary_unary", b"ok").responses == (b"re:ok",)
    before = time.time()
    served.ready()
    served.ready()
    served.wait_online()
    (instance,) = registry.instances("orders")
    assert instance.started_at >= before
    assert health(served) == SERVING


def test_an_instance_waits_for_its_dependencies(serve, registry, caplog):
    """Two targets: what each lacks is logged; only when both are resolved is it ONLINE, and nobody follows them."""
    caplog.set_level("INFO")
    scripted = Scripted()
    served = serve(registry=registry, depends_on=["xds:///a", "xds:///b"], dependencies=scripted)
    until(lambda: starting(served, registry), "it is registered")
    until(lambda: "waiting for xds:///a of the test" in caplog.text, "what is missing was logged")
    scripted.followers["xds:///a"]("")
    scripted.followers["xds:///b"]("there is no b")
    assert starting(served, registry)
    scripted.followers["xds:///b"]("")
    served.wait_online()
    until(lambda: scripted.closed, "nobody follows the targets")
    assert sorted(scripted.ended) == ["xds:///a", "xds:///b"]


def test_dependencies_that_never_come_end_the_service(serve, registry):
    """Not resolved in time: it was never online, leaves the registry, stops, and `wait` says what was missing."""
    states = seen_states(registry)
    scripted = Scripted()
    served = serve(registry=registry, depends_on=["xds:///a"], dependencies=scripted, depends_timeout=0.5)
    scripted.followers["xds:///a"]("there is no a")
    with pytest.raises(LifecycleError, match="xds:///a: there is no a"):
        served.wait()
    assert ONLINE not in taken(states)
    assert registry.instances("orders") == ()
    assert scripted.closed


def test_a_drain_ends_the_wait(serve, registry):
    """SIGTERM comes before the application was ready: it leaves without ever having been online."""
    states = seen_states(registry)
    served = serve(registry=registry, ready=False)
    until(lambda: starting(served, registry), "it is registered")
    served.drain()
    served.wait()
    assert ONLINE not in taken(states)
    assert registry.instances("orders") == ()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depends_on": "xds:///a"}, "must be a list"),
        ({"depends_on": [1]}, "must be a list"),
        ({"depends_on": ["dns:///a"]}, "no target of a mesh"),
        ({"depends_on": ["xds:///a"], "dependencies": None}, "call meshsdk.serve"),
        ({"depends_timeout": 0}, "above 0"),
        ({"depends_timeout": "1"}, "above 0"),
    ],
)
def test_conditions_that_cannot_be_are_refused(serve, registry, options, words):
    """A wrong argument is one clear error, and nothing is left behind."""
    with pytest.raises(ConfigurationError, match=words):
        serve(registry=registry, **{"dependencies": Scripted(), **options})
    assert registry.instances("orders") == ()
