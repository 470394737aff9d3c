"""The application in the registry: by its health, and out of it without losing a call."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from meshsdk.discovery.memory import MemoryRegistry
from meshsdk.lifecycle.drain import DrainTiming
from meshsdk.lifecycle.keeper import Keeper
from meshsdk.model.instance import Instance, InstanceState
from meshsdk.shim.presence import Away, Health, Presence, Traffic
from meshsdk.shim.settings import Probe
from tests.e2e.processes import until

_TIMING = DrainTiming(quiet=0.0, timeout=5.0)


class Application:
    """An application as a probe and as Envoy see it."""

    def __init__(self) -> None:
        self.problem = ""
        self.in_flight = 0
        self.told: list[bool] = []
        self.looked = threading.Event()

    def look(self) -> str:
        """What a probe finds."""
        self.looked.set()
        return self.problem

    def traffic(self) -> Traffic:
        """What Envoy counts."""
        return Traffic(0, self.in_flight)

    def draining(self, *, draining: bool) -> None:
        """What answers are to say."""
        self.told.append(draining)


@pytest.fixture
def application() -> Application:
    """A healthy one, without calls."""
    return Application()


@pytest.fixture
def presence(application: Application) -> Iterator[Presence]:
    """Its presence, started."""
    instance = Instance("stock", "1", "10.0.0.1:80", labels={"a": "1"}, state=InstanceState.STARTING)
    registry = MemoryRegistry()
    probe = Probe(interval=0.01, failures=2)
    keeper = Keeper(registry, instance, None, 15.0)
    made = Presence(keeper, instance, probe, application.look, _TIMING, application)
    made.start()
    yield made
    made.close()
    registry.close()


def test_health_needs_several_failures_to_end() -> None:
    """One failed look changes nothing, as many as the limit do, and one good look is enough to come back."""
    health = Health()
    assert not health.healthy
    health = health.after("", 2)
    assert health.healthy
    assert health.after("down", 2).healthy
    ended = health.after("down", 2).after("down", 2)
    assert (ended.healthy, ended.problem) == (False, "down")
    assert ended.after("", 2).healthy


def test_online_while_well(presence: Presence, application: Application) -> None:
    """STARTING until it is brought online, then ONLINE; OFFLINE while the probe fails."""
    application.looked.wait(5)
    until(lambda: presence.state is InstanceState.STARTING, "the first registration", 5)
    presence.bring_online()
    until(lambda: presence.state is InstanceState.ONLINE, "ONLINE", 5)
    application.problem = "down"
    until(lambda: presence.state is InstanceState.OFFLINE, "OFFLINE", 5)
    assert presence.health.problem == "down"


def test_offline_waits_for_running_calls(presence: Presence, application: Application) -> None:
    """DRAINING while a call runs, OFFLINE when it ended, and ONLINE again with another label."""
    presence.bring_online()
    until(lambda: presence.state is InstanceState.ONLINE, "ONLINE", 5)
    application.in_flight = 1
    found: list[bool] = []
    leaving = threading.Thread(target=lambda: found.append(presence.take_offline()))
    leaving.start()
    until(lambda: presence.state is InstanceState.DRAINING, "DRAINING", 5)
    assert application.told == [True]
    application.in_flight = 0
    leaving.join(10)
    assert found == [True]
    assert presence.state is InstanceState.OFFLINE
    assert application.told == [True, False]
    presence.bring_online(Away.ASKED)
    presence.label({"meshsdk.io/interception": "off"})
    until(lambda: presence.state is InstanceState.ONLINE, "ONLINE again", 5)


@pytest.mark.parametrize("before", [Away.STARTING, Away.ASKED, Away.ENDING])
def test_a_switch_brings_nobody_online_that_others_took_offline(presence: Presence, before: Away) -> None:
    """Interception is switched while the application is not up yet, asked offline or drained: it stays away."""
    until(lambda: presence.state is InstanceState.STARTING and presence.health.healthy, "a healthy application", 5)
    wanted = InstanceState.STARTING
    if before is not Away.STARTING:
        presence.bring_online()
        until(lambda: presence.state is InstanceState.ONLINE, "ONLINE", 5)
        assert presence.take_offline(final=before is Away.ENDING)
        wanted = None if before is Away.ENDING else InstanceState.OFFLINE
    assert presence.ending is (before is Away.ENDING)
    assert presence.take_offline(reason=Away.SWITCHING)
    presence.bring_online(Away.SWITCHING)
    assert presence.away == {before}
    assert presence.state is wanted


def test_a_hurry_ends_the_wait(presence: Presence, application: Application) -> None:
    """A second signal does not wait for calls; the answer says that some were running. The instance is gone."""
    presence.bring_online()
    until(lambda: presence.state is InstanceState.ONLINE, "ONLINE", 5)
    application.in_flight = 3
    presence.hurry()
    assert presence.take_offline(final=True) is False
    assert presence.state is None
