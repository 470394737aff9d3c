"""Views as stacks of layers: what each view of a cache sees, laid together once for all with the same stack. Pure.

A layer is a set of resources of its own. A view sees the shared resources, and over them its layers, the last on top.
Kept by `snapshot.ResourceCache` under its lock. Costs what changed, and memory by distinct stacks, not by views.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controlplane.server.resource_map import Change, Packed, ResourceMap, Snapshot

Stack = tuple[str, ...]  # keys of layers


@dataclass(frozen=True, slots=True)
class _Overlay:
    """A layer laid over what is below it, and what it was made from, so that it can be brought up."""

    below: Snapshot
    own: Snapshot
    merged: Snapshot


class Layers:
    """All layers at one moment, by key; None is the shared one. Mutable; guarded by the cache's lock."""

    def __init__(self) -> None:
        self.committed: dict[str | None, Snapshot] = {None: Snapshot()}
        self._stacks: dict[str, Stack] = {}  # by view; a view without an entry has the layer of its own key
        self._overlays: dict[Stack, _Overlay] = {}
        self._viewers: dict[str, frozenset[str]] = {}  # memo, by layer

    def stack(self, view: str) -> Stack:
        """Returns the layers that a view sees and that have something in them, the last on top."""
        return tuple(key for key in self._stacks.get(view, (view,)) if key in self.committed)

    def merged(self, stack: Stack) -> Snapshot:
        """Returns the shared resources with these layers over them."""
        if not stack:
            return self.committed[None]
        below, own = self.merged(stack[:-1]), self.committed[stack[-1]]
        known = self._overlays.get(stack)
        if known is None or known.below is not below or known.own is not own:
            known = self._overlays[stack] = _brought_up(known, below, own)
        return known.merged

    def put(self, key: str | None, snapshot: Snapshot) -> None:
        """Replaces a layer; one with nothing in it is not kept."""
        if key is None or any(map(len, snapshot.types.values())):
            self.committed[key] = snapshot
        else:
            del self.committed[key]
            self._overlays = {stack: known for stack, known in self._overlays.items() if key not in stack}
            self._viewers.pop(key, None)

    def viewers(self, key: str) -> frozenset[str]:
        """Returns the views that see a layer."""
        found = self._viewers.get(key)
        if found is None:
            seen = {view for view, stack in self._stacks.items() if key in stack}
            found = self._viewers[key] = frozenset(seen if key in self._stacks else {*seen, key})
        return found

    def restack(self, stacks: Mapping[str, Stack | None]) -> None:
        """Sets the stacks of some views (None: the layer of its own key), and forgets overlays that no view uses."""
        if stacks:
            self._viewers = {}
        replaced = False
        for view, stack in stacks.items():
            replaced = replaced or view in self._stacks
            if stack is None:
                self._stacks.pop(view, None)
            else:
                self._stacks[view] = stack
        if not replaced:
            return
        used: set[Stack] = set()
        for stack in map(self.stack, self._stacks):
            used.update(stack[:depth] for depth in range(1, len(stack) + 1))
        alone = (stack for stack in self._overlays if len(stack) == 1 and stack[0] not in self._stacks)
        used.update(alone)
        self._overlays = {stack: known for stack, known in self._overlays.items() if stack in used}


def _brought_up(known: _Overlay | None, below: Snapshot, own: Snapshot) -> _Overlay:
    """Lays `own` over `below`, starting from the last overlay; types without own resources stay the map below."""
    merged = below
    for type_url, resources in own.types.items():
        if not len(resources):
            continue
        if known is None or not len(known.own.of(type_url)):
            merged = merged.updated(type_url, resources)
            continue
        names: set[str] = set()
        for old, new in ((known.below.of(type_url), below.of(type_url)), (known.own.of(type_url), resources)):
            put, gone = new.changes_from(old)
            names.update(packed.name for packed in put)
            names.update(gone)
        now = {name: resources.get(name) or below.of(type_url).get(name) for name in names}
        merged = merged.with_type(
            known.merged.updated(
                type_url,
                (packed for packed in now.values() if packed is not None),
                (name for name, packed in now.items() if packed is None),
            ),
            type_url,
        )
    return _Overlay(below, own, merged)


def difference(old: Snapshot, new: Snapshot, views: frozenset[str] | None) -> Change | None:
    """Returns what differs between two snapshots as a change for `views`; None for nothing."""
    if old is new:
        return None
    names: dict[str, tuple[str, ...]] = {}
    collections: dict[str, frozenset[str]] = {}
    for type_url in {**old.types, **new.types}:
        before, after = old.of(type_url), new.of(type_url)
        put, gone = after.changes_from(before)
        if not put and not gone:
            continue
        names[type_url] = tuple(packed.name for packed in put) + gone
        keys = _collections(before, put, gone)
        if keys:
            collections[type_url] = keys
    return Change(views, names, collections) if names else None


def _collections(before: ResourceMap, put: Iterable[Packed], gone: Iterable[str]) -> frozenset[str]:
    keys = {packed.collection for packed in put}
    keys.update(known.collection for name in gone if (known := before.get(name)) is not None)
    return frozenset(keys - {""})
