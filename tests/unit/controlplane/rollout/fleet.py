"""Simulated shims for tests of the ShimSet controller: they obey, fail, vanish and leave as they are told to."""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.model.identity import ResourceId, ResourceKind
from controlplane.model.shims import ShimSet
from controlplane.rollout.controller import Controller
from controlplane.rollout.report import APP, PHASE, PROBLEM, VERSION, WANTED, report_of
from controlplane.rollout.status import ShimSetStatus
from meshsdk.model.instance import Instance, InstanceState

OLD, NEW, NEWER = "1.39.0", "1.40.1", "1.41.0"
EDGE = ResourceId(ResourceKind.SHIM_SET, "default", "edge")


def shim_set(name: str = "edge", **fields: object) -> ShimSet:
    """A ShimSet for the shims of orders, to NEW."""
    identity = ResourceId(ResourceKind.SHIM_SET, "default", name)
    return ShimSet(**{"id": identity, "selector": {"app": "orders"}, "version": NEW, **fields})


class Shim:
    """One shim. It begins what it is told with `begin`, and ends that with `end`."""

    def __init__(self, name: str, version: str = OLD, **labels: str) -> None:
        self.name, self.version, self.wanted, self.phase, self.problem = name, version, "", "running", ""
        self.labels = labels
        self.state = InstanceState.ONLINE

    def begin(self, version: str) -> None:
        """Is told a version; one that is another than last time is tried."""
        if version and version != self.wanted:
            self.wanted = version
            self.phase, self.problem = ("running" if version == self.version else "upgrading"), ""

    def end(self, broken: Iterable[str]) -> None:
        """Arrives there, or goes back."""
        if self.phase == "upgrading":
            if self.wanted in broken:
                self.phase, self.problem = "rolled-back", f"{self.wanted} did not become healthy"
            else:
                self.phase, self.version = "running", self.wanted

    def instance(self) -> Instance:
        """As it registers."""
        labels = {APP: "orders", VERSION: self.version, WANTED: self.wanted, PHASE: self.phase, PROBLEM: self.problem}
        return Instance("meshsdk.shim", self.name, "10.0.0.1:80", labels={**labels, **self.labels}, state=self.state)


class Fleet:
    """Shims, the controller, and a clock that the test moves."""

    def __init__(self, count: int = 10, spec: ShimSet | None = None, ready_at: float = 0.0) -> None:
        self.shims = {f"s{number}": Shim(f"s{number}") for number in range(count)}
        self.sets = [spec or shim_set()]
        self.broken: set[str] = set()
        self.now = 0.0
        self.controller = Controller(ready_at)
        self.most_away = 0  # shims that were busy at a time

    def look(self) -> dict[str, str]:
        """Has the controller look; returns the versions that shims are told, but for those told nothing."""
        self.controller.step(self.sets, [report_of(shim.instance()) for shim in self.shims.values()], self.now)
        return {key: order.version for key, order in self.controller.outcome.orders.items() if order.version}

    def tell(self) -> dict[str, str]:
        """The same, and the shims begin."""
        told = self.look()
        for key, version in told.items():
            self.shims[key].begin(version)
        busy = sum(shim.phase == "upgrading" for shim in self.shims.values())
        self.most_away = max(self.most_away, busy)
        return told

    def round(self) -> ShimSetStatus:
        """The shims are told, begin, report so, end, and report that; a second passes."""
        self.tell()
        self.look()
        for shim in self.shims.values():
            shim.end(self.broken)
        self.look()
        self.now += 1.0
        return self.status

    def run(self, rounds: int = 40) -> ShimSetStatus:
        """Goes on until nothing changes any more."""
        for _ in range(rounds):
            before = [vars(shim).copy() for shim in self.shims.values()]
            self.round()
            if before == [vars(shim) for shim in self.shims.values()]:
                return self.status
        raise AssertionError(f"it goes on and on: {self.status}")

    def restart(self) -> None:
        """The control plane is started anew: the controller remembers nothing."""
        self.controller = Controller(0.0)

    @property
    def status(self) -> ShimSetStatus:
        """How the first set fares."""
        return self.controller.outcome.statuses[self.sets[0].id]

    def at(self, version: str) -> int:
        """How many run a version."""
        return sum(shim.version == version for shim in self.shims.values())
