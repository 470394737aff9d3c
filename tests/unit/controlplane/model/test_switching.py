"""TrafficSwitch: whom it selects, and what several of them come to for one node."""

from __future__ import annotations

from controlplane.model.identity import ResourceId, ResourceKind
from controlplane.model.shims import Share
from controlplane.model.switching import TrafficSwitch, Turns, turns
from meshsdk.model.xxh64 import xxh64_python


def switch(name: str = "s", app: str = "orders", **fields: object) -> TrafficSwitch:
    """A switch."""
    return TrafficSwitch(ResourceId(ResourceKind.TRAFFIC_SWITCH, "default", name), app, **fields)


def test_the_most_specific_decides_each_side_by_itself() -> None:
    """All, application, labels, more labels, instances: each overrules the one before, for what it decides."""
    switches = [
        switch("one", instances=frozenset(("o-1",)), client=True),
        switch("zone", labels={"zone": "a"}, client=False, server=True),
        switch("both", labels={"zone": "a", "tier": "x"}, server=False),
        switch("app", client=True, server=False),
        switch("all", app="*", client=False),
    ]

    def told(node: str, app: str, **labels: str) -> Turns:
        found = turns(switches, node, app, labels)
        assert turns(reversed(switches), node, app, labels) == found, "whatever the order"
        return found

    assert told("w-1", "web") == Turns(client=False, server=True, decided=("client",))
    both = ("client", "server")
    assert told("o-2", "orders") == Turns(client=True, server=False, decided=both)
    assert told("o-2", "orders", zone="a") == Turns(client=False, server=True, decided=both)
    assert told("o-2", "orders", zone="a", tier="x") == Turns(client=False, server=False, decided=both)
    assert told("o-1", "orders", zone="a", tier="x") == Turns(client=True, server=False, decided=both)
    assert told("o-1", "web", zone="a").decided == ("client",), "of another application"
    assert turns([], "x", "y", {}) == Turns(client=True, server=True)


def test_a_percentage_selects_that_share_and_grows() -> None:
    """Of 4,000 nodes about the share is in; a larger one keeps them; another switch takes others; the hash is xxh64."""
    nodes = [f"orders-{number}" for number in range(4_000)]

    def selected(percentage: float, name: str = "s") -> set[str]:
        found = switch(name, percentage=percentage, client=False)
        return {node for node in nodes if found.selects(node, "orders", {})}

    assert (selected(0), selected(100)) == (set(), set(nodes))
    before: set[str] = set()
    for percentage in (0.5, 10, 25, 60):
        found = selected(percentage)
        assert abs(len(found) / 40 - percentage) < 2
        assert before < found
        before = found
    assert len(selected(10) & selected(10, "other")) < 80
    tenth = {node for node in nodes if xxh64_python(f"default/s/{node}".encode()) % 10_000 < 1_000}
    assert selected(10) == tenth


def test_shares_of_shims() -> None:
    """Percentages are rounded as asked; numbers are at most all."""
    assert [Share(percent=25).of(total, up=True) for total in (0, 1, 4, 5, 8)] == [0, 1, 1, 2, 2]
    assert [Share(percent=25).of(total, up=False) for total in (0, 1, 4, 7, 8)] == [0, 0, 1, 1, 2]
    assert [Share(number=3).of(total, up=True) for total in (2, 3, 10)] == [2, 3, 3]
    assert Share(percent=33.33).of(10_000, up=True) == 3_333
