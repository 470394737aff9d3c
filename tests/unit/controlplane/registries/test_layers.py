"""Several registries as one: who wins, what is hidden, and what changes over all when one layer changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.registries.layers import Layers
from controlplane.registries.leases import Change
from meshsdk.model.instance import Instance

Groups = dict[str, dict[str, Instance]]


def instance(identifier: str, host: int = 1, app: str = "orders", weight: int = 1) -> Instance:
    """Returns an instance."""
    return Instance(app, identifier, f"10.0.0.{host}:80", weight=weight)


class World:
    """Layers over groups that are changed as their owners do: first the group, then the word of it."""

    def __init__(self, *names: str) -> None:
        self.groups: dict[str, Groups] = {name: {} for name in names}
        self.layers = Layers(list(self.groups.items()))

    def put(self, name: str, new: Instance) -> list[Change]:
        """Adds or replaces an instance of a layer."""
        group = self.groups[name].setdefault(new.app, {})
        old = group.get(new.id)
        group[new.id] = new
        return list(self.layers.changed(name, [Change(old, new)]))

    def remove(self, name: str, identifier: str, app: str = "orders") -> list[Change]:
        """Removes an instance of a layer."""
        group = self.groups[name][app]
        old = group.pop(identifier)
        if not group:
            del self.groups[name][app]
        return list(self.layers.changed(name, [Change(old, None)]))


def test_one_layer_is_passed_through_uncopied() -> None:
    """An application of one registry is that registry's own group."""
    world = World("own", "feed")
    assert world.put("feed", instance("1")) == [Change(None, instance("1"))]
    assert world.layers["orders"] is world.groups["feed"]["orders"]
    assert world.remove("feed", "1") == [Change(instance("1"), None)]
    assert "orders" not in world.layers
    assert list(world.layers) == []


def test_instances_of_several_layers_are_served_together() -> None:
    """What does not collide is all there, and each change is passed on alone."""
    world = World("own", "feed")
    world.put("feed", instance("1"))
    assert world.put("own", instance("2", 2)) == [Change(None, instance("2", 2))]
    assert set(world.layers["orders"]) == {"1", "2"}
    assert world.put("feed", instance("1", weight=5)) == [Change(instance("1"), instance("1", weight=5))]
    assert world.remove("own", "2") == [Change(instance("2", 2), None)]
    assert world.layers["orders"] is world.groups["feed"]["orders"]
    assert list(world.layers.conflicts()) == []


def test_the_higher_layer_wins_an_id() -> None:
    """An instance of the same id is hidden while the higher layer has it, and comes back after."""
    world = World("own", "feed")
    world.put("feed", instance("1", 7))
    assert world.put("own", instance("1", 8)) == [Change(instance("1", 7), instance("1", 8))]
    (hidden,) = world.layers.conflicts()
    assert str(hidden) == "orders/1 in feed has the id of orders/1 in own, which is served in its place"
    assert world.put("feed", instance("1", 9)) == []
    assert world.remove("own", "1") == [Change(instance("1", 8), instance("1", 9))]
    assert list(world.layers.conflicts()) == []


def test_the_same_instance_in_two_layers_is_no_conflict() -> None:
    """Two layers follow one registry: each instance is there once and nothing is hidden, until the two differ."""
    world = World("own", "feed")
    world.put("own", instance("1"))
    assert world.put("feed", instance("1")) == []
    assert dict(world.layers["orders"]) == {"1": instance("1")}
    assert list(world.layers.conflicts()) == []
    world.put("feed", instance("1", weight=5))
    assert len(list(world.layers.conflicts())) == 1
    assert world.remove("own", "1") == [Change(instance("1"), instance("1", weight=5))]


def test_the_higher_layer_wins_an_address() -> None:
    """Two ids on one address in two registries: the higher one's is served; within one registry both stay."""
    world = World("own", "first", "second")
    world.put("second", instance("a"))
    world.put("second", instance("b"))
    assert world.put("first", instance("c")) == [
        Change(instance("a"), None),
        Change(instance("b"), None),
        Change(None, instance("c")),
    ]
    assert [str(each).partition(" has ")[2] for each in world.layers.conflicts()] == [
        "the address 10.0.0.1:80 of orders/c in first, which is served in its place"
    ] * 2


instances = st.builds(instance, st.sampled_from("abc"), st.integers(1, 3), st.sampled_from(["orders", "users"]))
steps = st.lists(st.tuples(st.sampled_from(["own", "first", "second"]), instances, st.booleans()), max_size=40)


@given(steps)
def test_changes_lead_from_one_state_to_the_next(moves: list[tuple[str, Instance, bool]]) -> None:
    """Whoever applies the changes that are told has at each step what the layers hold, and what a fresh blend has."""
    world = World("own", "first", "second")
    mirror: dict[tuple[str, str], Instance] = {}
    for name, each, put in moves:
        if put:
            changes = world.put(name, each)
        elif each.id in world.groups[name].get(each.app, {}):
            changes = world.remove(name, each.id, each.app)
        else:
            continue
        for change in changes:
            key = (change.instance.app, change.instance.id)
            assert mirror.get(key) == change.before
            if change.after is None:
                del mirror[key]
            else:
                mirror[key] = change.after
        held = {(app, key): found for app, group in world.layers.items() for key, found in group.items()}
        assert mirror == held
        fresh = Layers(list(world.groups.items()))
        assert {app: dict(group) for app, group in fresh.items()} == {
            app: dict(group) for app, group in world.layers.items()
        }
        assert sorted(map(str, fresh.conflicts())) == sorted(map(str, world.layers.conflicts()))
