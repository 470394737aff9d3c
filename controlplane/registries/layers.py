"""Instances of several registries as one: the control plane's own registrations first, then its feeds in their order.

Called by the plane with the changes of one layer; answers with the changes of the whole. Within an application the
higher layer wins: an instance with an id or an address that a higher layer has is hidden, and counted as a conflict
unless the two are equal.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from controlplane.registries.leases import Change
from meshsdk.model.instance import Instance

Group = Mapping[str, Instance]  # id -> instance
_NOBODY: Group = {}


@dataclass(frozen=True, slots=True)
class Hidden:
    """An instance that is not served, since `winner` of the layer `by` has its id or its address."""

    instance: Instance
    layer: str
    winner: Instance
    by: str

    def __str__(self) -> str:
        """Returns the conflict in words."""
        shared = "the id" if self.winner.id == self.instance.id else f"the address {self.instance.address}"
        return (
            f"{self.instance.app}/{self.instance.id} in {self.layer} has {shared} of {self.winner.app}/"
            f"{self.winner.id} in {self.by}, which is served in its place"
        )


class Layers(Mapping[str, Group]):
    """Application -> id -> instance over all layers. Guarded by the plane's lock.

    `layers`: (name, live view of its instances), the highest first. An application that one layer alone has is that
    layer's own group, uncopied; one that several have is blended anew at each of its changes.
    """

    def __init__(self, layers: Sequence[tuple[str, Mapping[str, Group]]]) -> None:
        self._layers = tuple(layers)
        self._blended: dict[str, Group] = {}
        self._hidden: dict[str, tuple[Hidden, ...]] = {}
        for app in {app for _, layer in self._layers for app in layer}:
            if len(self._holders(app)) > 1:
                self._blend(app)

    def __getitem__(self, app: str) -> Group:
        blended = self._blended.get(app)
        if blended is not None:
            return blended
        for _, layer in self._layers:
            group = layer.get(app)
            if group:
                return group
        raise KeyError(app)

    def __iter__(self) -> Iterator[str]:
        if len(self._layers) == 1:
            return iter(self._layers[0][1])
        return iter({app: None for _, layer in self._layers for app in layer})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def changed(self, name: str, changes: Iterable[Change]) -> list[Change]:
        """Takes changes that have been made to the layer `name`; returns what they change over all."""
        by_app: dict[str, list[Change]] = {}
        for change in changes:
            by_app.setdefault(change.instance.app, []).append(change)
        return [found for app, those in by_app.items() for found in self._changed(name, app, those)]

    def conflicts(self) -> Iterator[Hidden]:
        """Yields every instance that is hidden by one of a higher layer."""
        for hidden in self._hidden.values():
            yield from hidden

    def _changed(self, name: str, app: str, changes: list[Change]) -> Iterable[Change]:
        holders = self._holders(app)
        before = self._blended.pop(app, None)
        if before is None:
            others = [group for holder, group in holders if holder != name]
            if not others:
                return changes
            before = others[0]  # two or more would have been blended
        self._hidden.pop(app, None)
        after = self._blend(app) if len(holders) > 1 else holders[0][1] if holders else _NOBODY
        return _difference(before, after)

    def _holders(self, app: str) -> list[tuple[str, Group]]:
        return [(name, group) for name, layer in self._layers if (group := layer.get(app))]

    def _blend(self, app: str) -> Group:
        blended: dict[str, Instance] = {}
        owners: dict[str, str] = {}  # id -> layer
        addresses: dict[str, Instance] = {}
        hidden: list[Hidden] = []
        for name, group in self._holders(app):
            own: list[Instance] = []
            for instance in group.values():
                winner = blended.get(instance.id) or addresses.get(instance.address)
                if winner is None:
                    own.append(instance)
                elif winner != instance:  # the same one twice, as where two layers follow one registry, is no conflict
                    hidden.append(Hidden(instance, name, winner, owners[winner.id]))
            for instance in own:  # within one layer, two on one address are for the translation to settle
                blended[instance.id] = instance
                owners[instance.id] = name
                addresses.setdefault(instance.address, instance)
        self._blended[app] = blended
        if hidden:
            self._hidden[app] = tuple(hidden)
        return blended


def _difference(before: Group, after: Group) -> Iterator[Change]:
    for key, old in before.items():
        new = after.get(key)
        if new != old:
            yield Change(old, new)
    for key, new in after.items():
        if key not in before:
            yield Change(None, new)
