"""B5: ten interfaces on a thousand instances in one etcd: an entry per interface and instance, or one per instance.

The same adapter registers and subscribes both ways; relays between it and the registry count the bytes. Interface
level is what Dubbo 2 and its like do: each entry carries the interface's own metadata. Application level (design.md
section 3): instances name a revision, whose content is stored once; a mapping leads from interfaces to applications.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.machine import cpu_seconds, resident, settle
from benchmarks.relay import Relay
from benchmarks.report import Check, Plot, Report, Table, number
from meshsdk.discovery.etcd.client import EtcdClient
from meshsdk.discovery.etcd.place import Place
from meshsdk.discovery.etcd.registry import EtcdRegistry
from meshsdk.discovery.opening import open_registry
from meshsdk.discovery.registry import Lease
from meshsdk.model.instance import Increment, Instance, MethodInfo, Revision
from tests.servers.etcd import EtcdServer

_INTERFACES = tuple(f"shop.orders.v1.Orders{number}" for number in range(10))
_METHODS = ("Get", "List", "Create", "Update", "Cancel", "Ship", "Refund", "Watch")
_APP, _REVISION = "orders", "5f1c0a8d42b7e963"
_TTL = 900.0  # seconds; nothing lapses in a run
_PATIENCE = 120.0  # seconds
_WATCHERS = 100
_LEVELS = ("interface level", "application level")
_FIGURES = ("entries", "registration", "subscription", "churn, provider", "churn, consumer", "churn, events")


def run(*, quick: bool) -> Report:
    """Measures both levels."""
    instances, restarts = (30, 5) if quick else (1_000, 100)
    found = {level: _measure(level, instances, restarts) for level in _LEVELS}
    return _report(found, instances, restarts)


@dataclass(slots=True)
class _Consumer:
    """What a consumer of all ten interfaces knows. `lock` guards everything; the watches' threads write."""

    known: dict[str, set[str]] = field(default_factory=dict)  # ids by the name they are registered under
    events: int = 0
    lock: threading.Condition = field(default_factory=threading.Condition)

    def take(self, increment: Increment) -> None:
        """Takes an increment."""
        with self.lock:
            ids = set() if increment.reset else self.known.get(increment.app, set())
            self.known[increment.app] = ids.union(one.id for one in increment.put) - set(increment.removed)
            self.events += len(increment.put) + len(increment.removed)
            self.lock.notify_all()

    def wait(self, names: tuple[str, ...], ids: set[str]) -> None:
        """Waits until each of `names` has just these ids."""
        with self.lock:
            reached = self.lock.wait_for(lambda: all(self.known.get(name) == ids for name in names), _PATIENCE)
        assert reached, "the consumer did not converge"


@contextmanager
def _through(relay: Relay) -> Iterator[EtcdRegistry]:
    registry = open_registry(f"etcd://127.0.0.1:{relay.port}", "B5")
    assert isinstance(registry, EtcdRegistry)
    try:
        yield registry
    finally:
        registry.close()


def _measure(level: str, count: int, restarts: int) -> dict[str, float]:
    server = EtcdServer().start()
    try:
        place = ("127.0.0.1", server.port)
        with Relay(place) as near, Relay(place) as far, _through(near) as provider, _through(far) as consumer:
            names = _INTERFACES if level == _LEVELS[0] else (_APP,)
            return _Run(server, near, far, provider, consumer, names).measure(count, restarts)
    finally:
        server.remove()


@dataclass(slots=True)
class _Run:
    """One level in one registry. `names`: what instances are registered under."""

    server: EtcdServer
    near: Relay
    far: Relay
    provider: EtcdRegistry
    consumer: EtcdRegistry
    names: tuple[str, ...]
    leases: dict[int, list[Lease]] = field(default_factory=dict)

    def measure(self, count: int, restarts: int) -> dict[str, float]:
        """Registers, subscribes, restarts instances; returns bytes, entries and what etcd spent."""
        before = resident(self.server.pid)[0]
        if self.names == (_APP,):
            self.provider.publish_revision(_revision())
        for one in range(count):
            self._register(one, 0)
        found: dict[str, float] = {"registration": self.near.bytes, "entries": self._entries()}
        settle(self.server.pid, window=0.2)
        found["etcd memory an entry"] = (resident(self.server.pid)[0] - before) / found["entries"]
        state, start = _Consumer(), self.far.bytes
        watches = self._subscribe(state)
        state.wait(self.names, {_identifier(one, 0) for one in range(count)})
        found["subscription"] = self.far.bytes - start
        sent, received, events = self.near.bytes, self.far.bytes, state.events
        for one in range(restarts):
            self._restart(one)
        state.wait(self.names, {_identifier(one, int(one < restarts)) for one in range(count)})
        found["churn, provider"] = self.near.bytes - sent
        found["churn, consumer"] = self.far.bytes - received
        found["churn, events"] = state.events - events
        for watch in watches:
            watch.cancel()
        found["etcd CPU a delivered event"] = self._fan_out(restarts)
        return found

    def _entries(self) -> int:
        client = EtcdClient(Place((self.server.address,)))
        try:
            return len(client.list("/meshsdk/").entries)
        finally:
            client.close()

    def _register(self, one: int, generation: int) -> None:
        self.leases[one] = [self.provider.register(_instance(name, one, generation), _TTL) for name in self.names]

    def _restart(self, one: int) -> None:
        for lease in self.leases[one]:
            self.provider.deregister(lease)
        self._register(one, 1)

    def _subscribe(self, state: _Consumer) -> list[Any]:
        """Does what a consumer of all interfaces does, and returns its watches."""
        if self.names == (_APP,):
            apps = {app for name in _INTERFACES for app in self.consumer.map_service(name)}
            assert apps == {_APP}
            content = self.consumer.get_revision(_APP, _REVISION)
            assert content is not None
            assert len(content.methods) == len(_revision().methods)
        return [self.consumer.watch(name, "", state.take) for name in self.names]

    def _fan_out(self, changes: int) -> float:
        """Returns the CPU seconds that etcd spends on an event for one of many watchers, with a share of the write."""
        states = [_Consumer() for _ in range(_WATCHERS)]
        watches = [self.consumer.watch(self.names[0], "", state.take) for state in states]
        for state in states:
            with state.lock:
                assert state.lock.wait_for(lambda state=state: state.known, _PATIENCE)
        settle(self.server.pid, window=0.2)
        cpu, events = cpu_seconds(self.server.pid), sum(state.events for state in states)
        for one in range(changes):
            self.provider.register(replace(_instance(self.names[0], one, 1), weight=7), _TTL)
        for state in states:
            with state.lock:
                assert state.lock.wait_for(lambda state=state: state.events >= events / _WATCHERS + changes, _PATIENCE)
        used = cpu_seconds(self.server.pid) - cpu
        for watch in watches:
            watch.cancel()
        return used / (sum(state.events for state in states) - events)


def _identifier(one: int, generation: int) -> str:
    return f"10.1.{one >> 8}.{one & 255}:50051-{generation}"


def _instance(name: str, one: int, generation: int) -> Instance:
    """Returns an instance; of an interface it carries that interface's metadata, as nothing else would tell of it."""
    address = f"10.1.{one >> 8}.{one & 255}:50051"
    plain = Instance(
        name,
        _identifier(one, generation),
        address,
        unit="",
        region="east",
        zone="east-a",
        weight=100,
        started_at=1_790_000_000.0 + one,
    )
    if name == _APP:
        return replace(plain, revision=_REVISION, labels={"version": "v2", "release": "2026.11.3"})
    metadata = {
        "application": _APP,
        "interface": name,
        "methods": ",".join(_METHODS),
        "timeout": "2000",
        "retries": "2",
        "idempotent": "Get,List",
        "serialization": "protobuf",
        "version": "v2",
        "release": "2026.11.3",
    }
    return replace(plain, labels=metadata)


def _revision() -> Revision:
    options = {"timeout": "2s", "idempotent": True}
    methods = tuple(MethodInfo(f"/{name}/{method}", options) for name in _INTERFACES for method in _METHODS)
    return Revision(_APP, _REVISION, methods)


def _report(found: dict[str, dict[str, float]], instances: int, restarts: int) -> Report:
    interface, application = (found[level] for level in _LEVELS)
    rows = [
        (
            figure,
            number(interface[figure], "" if figure in ("entries", "churn, events") else "B"),
            number(application[figure], "" if figure in ("entries", "churn, events") else "B"),
            f"{interface[figure] / application[figure]:.1f}x",
        )
        for figure in _FIGURES
    ]
    for figure, factor, unit in (("etcd memory an entry", 1, "B"), ("etcd CPU a delivered event", 1e6, "us")):
        values = [found[level][figure] * factor for level in _LEVELS]
        rows.append((figure, *(number(value, unit) for value in values), ""))
    checks = [
        Check(
            f"{figure}: interface level against application level", interface[figure] / application[figure], 10, False
        )
        for figure in _FIGURES
    ]
    notes = (
        (
            f"{len(_INTERFACES)} interfaces of {len(_METHODS)} methods on {instances:,} instances; then {restarts} of "
            "them restart under new ids. Bytes both ways, HTTP/2 framing and leases included, counted by relays."
        ),
        "Entries of application level: instances, one revision, a mapping entry for each interface.",
        (
            "An interface-level entry carries application, interface, methods, timeouts and versions as labels, about "
            "as a Dubbo 2 URL does without its defaults."
        ),
        f"CPU a delivered event: etcd's, {_WATCHERS} watches of one name, writes included.",
    )
    plot = Plot("B5: interface level against application level", "times as much", "", bars=checks)
    columns = ("", *_LEVELS, "ratio")
    return Report("B5", "discovery data", (Table("In one etcd", columns, rows),), checks, notes, plot, found)
