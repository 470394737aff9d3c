"""The gate of a woven channel: which way calls go, from what the switch, the mesh and the engine say."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import pytest

from meshsdk.errors import BootstrapError
from meshsdk.instrument import gate as gates
from meshsdk.instrument.gate import Gate
from meshsdk.instrument.switch import Switch, Traffic
from meshsdk.instrument.way import Verdict, Way, verdict_on, way
from meshsdk.model.snapshot import Unresolvable
from tests.contract.channels import resolved, route, snapshot_of

SERVED = snapshot_of([route("c")], resolved("c", ["10.0.0.1:1"]))
ABSENT = Unresolvable("xds:///orders", "there is no such listener", absent=True)
BROKEN = Unresolvable("xds:///orders", "the server is down")
ON, OFF = Traffic(), Traffic(client=False, server=False)


class Watch:
    """A watch of the scripted engine."""

    def __init__(self, target, tell) -> None:
        self.target, self.tell, self.cancelled = target, tell, False

    def cancel(self) -> None:
        """Notes it."""
        self.cancelled = True


class Engine:
    """Gives watches that the test answers."""

    def __init__(self, servers=("one",)) -> None:
        self.bootstrap = SimpleNamespace(servers=servers)
        self.watches: list[Watch] = []

    def watch(self, target, tell):
        """See gate.Engine."""
        self.watches.append(Watch(target, tell))
        return self.watches[-1]

    def watch_runtime(self, name, on_layer):
        """See gate.Engine."""


class Owner:
    """Counts how often it is told."""

    def __init__(self) -> None:
        self.moves = 0

    def moved(self) -> None:
        """See gate.Owner."""
        self.moves += 1

    def after_fork_in_child(self) -> None:
        """See gate.Owner."""


class Bench:
    """A gate with everything around it."""

    def __init__(self, traffic: Traffic = ON, engine: Engine | None = None) -> None:
        self.engine, self.switch, self.owner = engine or Engine(), Switch(traffic), Owner()
        self.gate = Gate("orders:50051", "orders", lambda: self.engine, self.switch)
        self.gate.owned(self.owner)

    def say(self, resolution) -> None:
        """The mesh says something on the newest watch."""
        self.engine.watches[-1].tell(resolution)


@pytest.mark.parametrize(
    ("intercepted", "verdict", "patient", "expected"),
    [
        (False, Verdict.SERVED, True, Way.DIRECT),
        (True, Verdict.SERVED, True, Way.MESH),
        (True, Verdict.ABSENT, True, Way.DIRECT),
        (True, Verdict.FAILED, True, Way.FALLBACK),
        (True, Verdict.AWAITED, True, Way.UNDECIDED),
        (True, Verdict.AWAITED, False, Way.FALLBACK),
        (False, Verdict.AWAITED, True, Way.DIRECT),
    ],
)
def test_the_way_by_switch_and_verdict(intercepted, verdict, patient, expected):
    """The whole table."""
    assert way(intercepted=intercepted, verdict=verdict, patient=patient) is expected


def test_a_registry_knows_a_host_by_its_instances():
    """None at all: no service of the mesh. None any more: the mesh cannot do its part."""
    empty = snapshot_of([route("c")], resolved("c", []))
    direct = type(empty)("mesh:///orders", empty.listener, empty.virtual_host, empty.clusters)
    assert verdict_on(direct, Verdict.AWAITED)[0] is Verdict.ABSENT
    assert verdict_on(direct, Verdict.SERVED)[0] is Verdict.FAILED
    assert verdict_on(empty, Verdict.AWAITED)[0] is Verdict.SERVED


def test_nothing_is_watched_before_the_first_call():
    """A channel made at import starts nothing."""
    bench = Bench()
    assert bench.engine.watches == []
    assert bench.gate.open() is Way.UNDECIDED
    assert [watch.target for watch in bench.engine.watches] == ["xds:///orders"]
    bench.gate.open()
    assert len(bench.engine.watches) == 1


def test_without_a_control_plane_the_registry_is_asked():
    """A bootstrap of registries alone: the host is looked for among the applications."""
    bench = Bench(engine=Engine(servers=()))
    bench.gate.open()
    assert bench.engine.watches[0].target == "mesh:///orders"


def test_the_way_follows_what_the_mesh_says(caplog):
    """Served, broken, served, gone: one line when an outage begins, the owner told of each change."""
    bench = Bench()
    bench.gate.open()
    seen = []
    for resolution in (SERVED, SERVED, BROKEN, BROKEN, SERVED, ABSENT):
        bench.say(resolution)
        seen.append(bench.gate.way)
    assert seen == [Way.MESH, Way.MESH, Way.FALLBACK, Way.FALLBACK, Way.MESH, Way.DIRECT]
    assert bench.owner.moves == 4
    assert caplog.text.count("orders:50051: calls take the direct path: the server is down") == 1


def test_switched_off_it_watches_nothing_and_switched_on_it_waits_for_nothing():
    """Off: direct, and the watch ends. On again: direct until the mesh has its word, then the mesh."""
    bench = Bench()
    bench.gate.open()
    bench.say(SERVED)
    bench.switch.set(OFF)
    assert bench.gate.way is Way.DIRECT
    assert bench.engine.watches[0].cancelled
    bench.engine.watches[0].tell(BROKEN)
    assert bench.gate.way is Way.DIRECT
    bench.switch.set(ON)
    assert bench.gate.way is Way.DIRECT
    bench.say(SERVED)
    assert bench.gate.way is Way.MESH


def test_started_off_nothing_is_watched():
    """The environment keeps the mesh out from the first call on."""
    bench = Bench(OFF)
    assert bench.gate.open() is Way.DIRECT
    assert bench.engine.watches == []


def test_a_short_call_goes_alone_and_a_late_one_decides_for_all(monkeypatch):
    """A call waits half its timeout at most; once the shared second is over nobody waits any more."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(gates.time, "monotonic", lambda: clock.now)
    bench = Bench()
    bench.gate.open()
    assert bench.gate.patience(0.5) == 0.25
    assert bench.gate.settled() is Way.FALLBACK
    assert bench.gate.way is Way.UNDECIDED
    clock.now += 1.5
    assert bench.gate.patience(None) == 0.0
    assert bench.gate.settled() is Way.FALLBACK
    assert bench.gate.way is Way.FALLBACK
    bench.say(SERVED)
    assert bench.gate.way is Way.MESH


def test_an_engine_that_cannot_be_made_is_a_fallback(caplog):
    """No bootstrap, or a defect: calls go direct, and the log says why."""

    def broken():
        raise BootstrapError("no bootstrap")

    gate = Gate("orders:1", "orders", broken, Switch(ON))
    assert gate.open() is Way.FALLBACK
    assert "BootstrapError: no bootstrap" in caplog.text


def test_closed_it_watches_no_more():
    """Whatever the switch does afterwards."""
    bench = Bench()
    bench.gate.open()
    bench.gate.close()
    bench.switch.set(OFF)
    bench.switch.set(ON)
    assert bench.engine.watches[0].cancelled
    assert len(bench.engine.watches) == 1


def test_the_watch_of_a_dropped_channel_ends_with_the_next_opening():
    """A program that makes a channel for each call and never closes it collects no watches."""
    engine = Engine()
    dropped = Bench(engine=engine)
    dropped.gate.open()
    del dropped
    gc.collect()
    Bench(engine=engine).gate.open()
    assert engine.watches[0].cancelled


def test_a_forked_child_begins_anew():
    """The parent's watch says nothing here."""
    bench = Bench()
    bench.gate.open()
    bench.say(SERVED)
    bench.gate.after_fork_in_child()
    assert bench.gate.way is Way.UNDECIDED
    bench.gate.open()
    assert len(bench.engine.watches) == 2
