"""The EDS and LEDS resources in the cache: made for the targets that clients ask for, kept up to date by increments.

Owned by `publication`. What nobody asks for is not made, and of the two forms only the one that is asked for: all
endpoints in one EDS resource, or an EDS resource that names collections (LEDS), which the views see that ask for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from controlplane.model.service import Workload
from controlplane.registries.leases import Change
from controlplane.server.globs import TURNED
from controlplane.server.packing import pack_parts
from controlplane.server.subscription import TURNED_VERSION
from controlplane.server.type_urls import ENDPOINT, LB_ENDPOINT
from controlplane.snapshot import Packed, ResourceCache
from controlplane.translate.endpoints import Instances
from controlplane.translate.roster import Roster, Single
from controlplane.translate.targets import Target
from controlplane.withdrawn import WithdrawnCollections

LAYER = "endpoints:leds"  # of the cache: the EDS resources for clients that take LEDS
EVERYTHING = "*"  # asked for by those who subscribe to all EDS resources


@dataclass(slots=True)
class _Kept:
    """A roster, and the forms in which the cache has it."""

    roster: Roster
    plain: bool = False
    leds: bool = False


class EndpointSets:
    """Not thread-safe: its owner holds a lock. `instances`: live view, application -> id -> instance."""

    def __init__(self, cache: ResourceCache, instances: Instances) -> None:
        self._cache = cache
        self._instances = instances
        self._workloads: tuple[Workload, ...] = ()
        self._targets: dict[str, Target] = {}
        self._by_app: dict[str, list[Target]] = {}
        self._by_labels: list[Target] = []  # those that any application's instances may belong to
        self._kept: dict[str, _Kept] = {}  # by target
        self._dirty: set[str] = set()  # kept targets that changed
        self._asked: dict[bool, set[str]] = {False: set(), True: set()}  # names by form: LEDS or not
        self._idle: dict[bool, set[str]] = {False: set(), True: set()}  # those that nobody asked for at the last look
        self._withdrawn = WithdrawnCollections(cache)

    # -- targets ----------------------------------------------------------------------------------------------------

    def configure(self, targets: Iterable[Target], workloads: Iterable[Workload]) -> None:
        """Replaces all targets; rosters of targets that are the same as before stay as they are."""
        before, listed = self._targets, tuple(workloads)
        self._targets, self._by_app, self._by_labels = {}, {}, []
        for target in targets:
            self._index(target)
        stale = [
            name
            for name, kept in self._kept.items()
            if before[name] != self._targets.get(name) or (listed != self._workloads and kept.roster.target.selects)
        ]
        self._workloads = listed
        with self._cache.batch():
            for name in stale:
                self._drop(name, self._kept.pop(name), to_come=self._targets.get(name))
            self._make(self._targets)

    def add(self, targets: Iterable[Target]) -> None:
        """Adds targets."""
        listed = list(targets)
        for target in listed:
            self._index(target)
        self._make([target.name for target in listed])

    def remove(self, targets: Iterable[Target]) -> None:
        """Removes targets and what the cache has of them."""
        with self._cache.batch():
            for target in targets:
                known = self._targets.pop(target.name, None)
                if known is None:
                    continue
                group = self._by_labels if known.app is None else self._by_app.get(known.app, [])
                if known in group:
                    group.remove(known)
                kept = self._kept.pop(target.name, None)
                if kept is not None:
                    self._drop(target.name, kept, to_come=None)

    def _index(self, target: Target) -> None:
        self._targets[target.name] = target
        if target.app is not None:
            self._by_app.setdefault(target.app, []).append(target)
        elif target.selects:
            self._by_labels.append(target)

    # -- who asks ---------------------------------------------------------------------------------------------------

    def knows(self, names: Collection[str], *, leds: bool) -> bool:
        """Tells whether these names were asked for before. May be called without the lock: a wrong no costs nothing."""
        return self._asked[leds].issuperset(names)

    def ask(self, names: Collection[str], *, leds: bool) -> None:
        """Has these EDS resources made, now or as soon as there is such a target; `*` for all."""
        new = set(names) - self._asked[leds]
        self._idle[leds].difference_update(names)
        if new:
            self._asked[leds] |= new
            self._make(self._targets if EVERYTHING in new else new)

    def asked(self) -> frozenset[str]:
        """Returns the names that were asked for."""
        return frozenset().union(*self._asked.values())

    def withdrawn(self) -> frozenset[str]:
        """Returns the keys of the collections that are left of targets which are no longer configured."""
        return self._withdrawn.keys()

    def release(self, still: Callable[[str], Collection[bool]], collected: Collection[str]) -> None:
        """Takes away what nobody asks for any more, the second time that it is so: clients come back.

        `still`: the forms in which a name is asked for. `collected`: keys of the collections that are asked for.
        """
        with self._cache.batch():
            self._withdrawn.release(collected)
            for leds in (False, True):
                idle = {name for name in self._asked[leds] if leds not in still(name)}
                over = idle & self._idle[leds]
                self._idle[leds] = idle - over
                self._asked[leds] -= over
                for name in list(self._kept) if EVERYTHING in over else over:
                    self._unmake(name, leds=leds)

    def _wanted(self, name: str, *, leds: bool) -> bool:
        return name in self._asked[leds] or EVERYTHING in self._asked[leds]

    # -- making -----------------------------------------------------------------------------------------------------

    def _make(self, names: Iterable[str]) -> None:
        """Puts into the cache what is asked for of these targets and is not there."""
        with self._cache.batch():
            for name in names:
                target = self._targets.get(name)
                plain, leds = self._wanted(name, leds=False), self._wanted(name, leds=True)
                if target is None or not (plain or leds):
                    continue
                kept = self._kept.get(name)
                if kept is None:
                    kept = self._kept[name] = _Kept(self._roster(target))
                if plain and not kept.plain:
                    kept.plain = True
                    self._cache.set(_plain(kept.roster))
                if leds and not kept.leds:
                    kept.leds = True
                    singles = kept.roster.singles()
                    self._cache.set(map(_single, singles))
                    self._cache.set(_skeleton(kept.roster), node=LAYER)
                    self._cache.delete(
                        LB_ENDPOINT, self._withdrawn.take(name).difference(each.name for each in singles)
                    )

    def _unmake(self, name: str, *, leds: bool) -> None:
        kept = self._kept.get(name)
        if kept is None or self._wanted(name, leds=leds):
            return
        self._catch_up(name, kept)
        if leds and kept.leds:
            kept.leds = False
            self._cache.delete(ENDPOINT, name, node=LAYER)
            self._cache.delete(LB_ENDPOINT, kept.roster.forget_singles())
        elif not leds and kept.plain:
            kept.plain = False
            self._cache.delete(ENDPOINT, name)
        if not kept.plain and not kept.leds:
            del self._kept[name]

    def _drop(self, name: str, kept: _Kept, *, to_come: Target | None) -> None:
        """Takes a target out of the cache; what is made anew under its name is left to be replaced."""
        self._catch_up(name, kept)
        if to_come is None:
            self._cache.delete(ENDPOINT, name)
            self._cache.delete(ENDPOINT, name, node=LAYER)
            self._withdrawn.leave(name, kept.roster.singles() if kept.leds else ())
        else:
            singles = set(kept.roster.forget_singles()) if kept.leds else set()
            fresh = self._kept[name] = _Kept(self._roster(to_come), plain=kept.plain, leds=kept.leds)
            singles.difference_update(self._publish(fresh, fresh.roster.singles() if kept.leds else ()))
            self._cache.delete(LB_ENDPOINT, singles)

    def _publish(self, kept: _Kept, singles: Iterable[Single]) -> set[str]:
        """Sets what there is of a target; returns the names of the endpoints that were set."""
        if kept.plain:
            self._cache.set(_plain(kept.roster))
        if not kept.leds:
            return set()
        packed = list(map(_single, singles))
        self._cache.set(packed)
        self._cache.set(_skeleton(kept.roster), node=LAYER)
        return {each.name for each in packed}

    def _roster(self, target: Target) -> Roster:
        return Roster(target, self._workloads if target.selects else (), self._instances)

    # -- instances --------------------------------------------------------------------------------------------------

    def changed(self, change: Change) -> None:
        """Notes what changed about an instance; `flush` publishes it."""
        for target in (*self._by_app.get(change.instance.app, ()), *self._by_labels):
            kept = self._kept.get(target.name)
            if kept is not None and kept.roster.change(change.before, change.after):
                self._dirty.add(target.name)

    def flush(self) -> bool:
        """Publishes what changed; returns whether there was anything."""
        if not self._dirty:
            return False
        with self._cache.batch():
            for name in tuple(self._dirty):
                self._catch_up(name, self._kept[name])
        return True

    def _catch_up(self, name: str, kept: _Kept) -> None:
        """Brings the cache up to a roster, if that changed."""
        if name not in self._dirty:
            return
        self._dirty.discard(name)
        moved = kept.roster.take_moved() if kept.leds else {}
        self._publish(kept, (single for single in moved.values() if single is not None))
        self._cache.delete(LB_ENDPOINT, [single for single, now in moved.items() if now is None])

    # -- reading ----------------------------------------------------------------------------------------------------

    def assignments(self, targets: Iterable[Target]) -> Iterator[Packed]:
        """Yields EDS resources with all endpoints in them, whether anyone asks for them or not."""
        for target in targets:
            kept = self._kept.get(target.name)
            yield _plain(kept.roster if kept else self._roster(target))


def _plain(roster: Roster) -> Packed:
    version, parts = roster.assignment()
    return pack_parts(ENDPOINT, roster.target.name, parts, version=version)


def _skeleton(roster: Roster) -> Packed:
    value, collections = roster.skeleton()
    other, _ = roster.skeleton(f"?{TURNED}=1")
    name = roster.target.name
    version = hashlib.blake2b(value, digest_size=8).hexdigest()
    turned = pack_parts(ENDPOINT, name, (other,), version=version + TURNED_VERSION, refers=collections)
    return pack_parts(ENDPOINT, name, (value,), version=version, refers=collections, turned=turned)


def _single(single: Single) -> Packed:
    return pack_parts(LB_ENDPOINT, single.name, (single.value,), collection=single.collection)
