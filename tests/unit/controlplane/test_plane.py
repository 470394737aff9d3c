"""The plane with feeds: listings as one commit, outages, and what becomes of a service."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from controlplane import health
from controlplane.config.documents import parse
from controlplane.config.problems import ConfigurationRefused
from controlplane.plane import Plane
from controlplane.registries.feed import Feed
from controlplane.server.node import Node
from controlplane.server.resource_map import Change
from controlplane.server.type_urls import ENDPOINT, LB_ENDPOINT
from controlplane.store.memory import MemoryStore
from controlplane.store.port import StoredResource, StoreError
from controlplane.store.shared import Drained, StoreConflict
from controlplane.translate.view import LEDS_FEATURE
from meshsdk.model.instance import Increment, Instance


class Registry:
    """A registry that tells what it is told to; only what a feed needs of one."""

    def __init__(self) -> None:
        self.tell: Callable[[Increment], None] = lambda _: None
        self.problem = ""
        self.closed = False

    def watch(self, app: str, unit: str, on_increment: Callable[[Increment], None]) -> Registry:
        """Takes the listener."""
        assert (app, unit) == ("", "")
        self.tell = on_increment
        return self

    def cancel(self) -> None:
        """Ends the watch."""

    def close(self) -> None:
        """Is told."""
        self.closed = True


SERVICE = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {0}}}
spec: {{hosts: [{1}], ports: [{{number: 80, name: grpc}}]}}
"""


LISTED = SERVICE.format("orders", "orders").replace(
    "spec: {", "spec: {resolution: STATIC, endpoints: [{address: 10.0.0.1}], "
)


class Shared(MemoryStore):
    """A store in which, at each write, another control plane was faster as long as it has something to write."""

    def __init__(self, *others: StoredResource) -> None:
        super().__init__()
        self.others = list(others)
        self.generation = 1
        self.instances: dict[str, dict[str, Instance]] = {}
        self.registrar = None
        self._told: list[Drained] = []

    def change_resources(self, put, removed, generation) -> None:
        """Takes what was planned against the newest generation."""
        if self.others:
            row = self.others.pop(0)
            self.generation += 1
            self._told.append(Drained((), (row,), ()))
        if generation != self.generation:
            raise StoreConflict("another was faster")
        self.generation += 1
        self._told.append(Drained((), tuple(put), tuple(removed)))

    def drain(self, now: float) -> Drained:
        """Tells the changes of all, one at a time."""
        return self._told.pop(0) if self._told else Drained()

    def start(self, wake) -> None:
        """Has no thread."""

    def next_deadline(self) -> None:
        """Knows none."""

    def counts(self) -> dict[str, int]:
        """Counts nothing."""
        return {}

    def problem(self) -> str:
        """Is there."""
        return ""

    def facts(self) -> dict[str, object]:
        """Has none."""
        return {}


def instance(number: int, app: str = "orders") -> Instance:
    """Returns an instance."""
    return Instance(app, str(number), f"10.0.{number // 250}.{number % 250 + 1}:80")


def fed() -> tuple[Plane, Registry, list[Change]]:
    """Returns a plane with one feed, the registry behind it, and the commits."""
    registry = Registry()
    feed = Feed("main", "test://", registry, lambda: None)
    plane = Plane(None, MemoryStore(), lambda: 0.0, lambda: None, feeds=[feed])
    feed.start()
    commits: list[Change] = []
    plane.cache.listen(commits.append)
    return plane, registry, commits


def test_a_listing_of_a_thousand_costs_as_many_commits_as_one_of_one() -> None:
    """A registry's listing, however long, is taken over together."""
    counts = []
    for size in (1, 1_000):
        plane, registry, commits = fed()
        for app in ("orders", "users", "stock", "carts", "mails"):
            registry.tell(Increment(app, tuple(instance(number, app) for number in range(size)), reset=True))
        registry.tell(Increment("", reset=True))
        plane.flush()
        assert len(plane.instances["users"]) == size
        counts.append(len(commits))
    assert counts[0] == counts[1] <= 2
    assert plane.feeds[0].wait_listed(0)


def test_an_outage_of_a_feed_changes_nothing_but_status() -> None:
    """The last known instances stay; status says what is wrong until the registry is back."""
    plane, registry, commits = fed()
    assert health.troubles(plane) == (
        "registry main (test://): has not answered yet; none of its instances is known yet",
    )
    registry.tell(Increment("orders", (instance(1),), reset=True))
    registry.tell(Increment("", reset=True))
    plane.flush()
    assert health.troubles(plane) == ()
    commits.clear()
    registry.problem = "UNAVAILABLE: gone"
    plane.flush()
    assert commits == []
    assert health.troubles(plane) == ("registry main (test://): UNAVAILABLE: gone; its last known instances stay",)
    (feed,) = health.status(plane)["feeds"]
    assert (feed["up"], feed["instances"]) == (False, 1)
    plane.close()
    assert registry.closed


def test_own_registrations_go_before_a_feed() -> None:
    """What is registered here hides the feed's instance of the same id, and says so."""
    plane, registry, _ = fed()
    registry.tell(Increment("orders", (instance(1), instance(2)), reset=True))
    registry.tell(Increment("", reset=True))
    plane.flush()
    plane.registrar.register(Instance("orders", "1", "10.9.9.9:80"), 60)
    assert [row["address"] for row in plane.endpoints("orders")] == ["10.0.0.3:80", "10.9.9.9:80"]
    (warning,) = health.warnings(plane)
    assert (
        warning == "orders/1 in main has the id of orders/1 in the registration service, which is served in its place"
    )
    assert health.status(plane)["instances"] == 2


def row(name: str, host: str) -> StoredResource:
    """Returns a ServiceEntry as another control plane stores it."""
    text = SERVICE.format(name, host)
    return StoredResource(parse(text, "g.yaml").entries[0].id, text, "g.yaml", 1)


def test_a_change_that_comes_second_is_planned_anew() -> None:
    """Another control plane writes first: what fits beside its change is made, what contradicts it is refused."""
    plane = Plane(None, Shared(row("users", "users")), lambda: 0.0, lambda: None)
    plane.apply(SERVICE.format("orders", "orders"), "f.yaml")
    assert plane.hosts() == ["orders", "users"]
    plane = Plane(None, Shared(row("theirs", "orders")), lambda: 0.0, lambda: None)
    with pytest.raises(ConfigurationRefused, match="are both for the host orders"):
        plane.apply(SERVICE.format("mine", "orders"), "f.yaml")
    assert [entry.id.name for entry in plane.resources()] == ["theirs"]


def test_a_change_that_is_always_second_ends() -> None:
    """Who is overtaken again and again is told so in the end, and nothing was changed."""
    others = [row(f"s{number}", f"s{number}") for number in range(100)]
    plane = Plane(None, Shared(*others), lambda: 0.0, lambda: None)
    with pytest.raises(StoreError, match="change the configuration all the time; nothing was changed"):
        plane.apply(SERVICE.format("orders", "orders"), "f.yaml")
    assert "orders" not in plane.hosts()


def test_sweep_asks_who_still_wants_what_is_left_of_a_service() -> None:
    """The endpoints of a service that was deleted stay for the clients that ask for them, and go when none does."""
    plane = Plane(None, MemoryStore(), lambda: 0.0, lambda: None)
    plane.apply(LISTED, "f.yaml")
    view = plane.cache.view_of(Node("n", features=frozenset({LEDS_FEATURE})))
    plane.cache.want(view, ENDPOINT, ["orders"])()
    plane.delete(plane.resources()[0].id)
    (left,) = plane.cache.snapshot(view).of(LB_ENDPOINT)
    for wanted, there in [(True, 1), (True, 1), (False, 1), (False, 0)]:
        asked: list[tuple[str, list[str]]] = []

        def asking(type_url: str, names: Iterable[str], asked=asked, wanted=wanted) -> dict[str, frozenset[str]]:
            asked.append((type_url, list(names)))
            return dict.fromkeys(names, frozenset({view} if wanted else ()))

        plane.sweep(lambda: [view], asking)
        assert (LB_ENDPOINT, [left.collection]) in asked
        assert len(plane.cache.snapshot(view).of(LB_ENDPOINT)) == there


def test_a_policy_that_forces_clients_to_an_empty_side_is_warned_about() -> None:
    """FORCE_INTERFACE while nobody is registered under the interface's name is said in status."""
    plane = Plane(None, MemoryStore(), lambda: 0.0, lambda: None)
    policy = (
        "apiVersion: meshsdk.io/v1alpha1\nkind: DiscoveryPolicy\nmetadata: {name: p}\n"
        "spec: {hosts: [orders], endpoints: CONTROL_PLANE, interface: shop.Orders, migration: FORCE_INTERFACE}\n"
    )
    plane.apply(policy, "f.yaml")
    assert any("nobody is registered as shop.Orders: with FORCE_INTERFACE" in each for each in health.warnings(plane))
    plane.close()
