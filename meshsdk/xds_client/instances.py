"""Instances in the session: which sources of service registries are followed, and what they told. Pure.

Owned by the session, beside its ADS machines: a key of `Kind.INSTANCES` is subscribed to, dropped and kept in the store
as an xDS resource is, but what it holds comes from a registry. Nothing here knows what a registry is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import quote, urlencode

from meshsdk.model.resources import Cluster, ClusterEndpoints, Kind, RegistrySource
from meshsdk.model.snapshot import Key
from meshsdk.model.told import Told
from meshsdk.xds_client.store import Entry, EntryStatus, Store

_KEYS = 16_384  # kept, because each look at the configuration asks for those of all its clusters


@dataclass(frozen=True, slots=True)
class Follow:
    """Follow a source under its key; for a key that is followed: its migration mode has changed."""

    key: Key
    source: RegistrySource


@dataclass(frozen=True, slots=True)
class Unfollow:
    """Nothing wants this key any more."""

    key: Key


@lru_cache(maxsize=_KEYS)
def instances_key(source: RegistrySource) -> Key:
    """Returns the key of a source: all of it but the migration mode, which changes without a new subscription."""
    facts = {"app": source.app, "unit": source.unit, **{f"label.{name}": value for name, value in source.labels}}
    query = urlencode({name: value for name, value in facts.items() if value or name.startswith("label.")})
    name = f"mesh://{quote(source.registry, safe='')}/{quote(source.interface, safe='')}"
    return Key(Kind.INSTANCES, f"{name}?{query}" if query else name)


def why_none(entry: Entry) -> str:
    """Returns what a registry says to having no endpoints, for the error of a call; "" where it has some."""
    empty = isinstance(entry.resource, ClusterEndpoints) and not entry.resource.localities
    return f"{entry.server}: {entry.problem}" if empty and entry.problem else ""


class Instances:
    """Owned by the session's thread. `words` names a registry to users."""

    def __init__(self, store: Store, words: Callable[[str], str]) -> None:
        self._store = store
        self._words = words
        self._followed: dict[Key, RegistrySource] = {}
        self._targets: dict[Key, RegistrySource] = {}  # of `mesh:` targets, which have no cluster in the store
        self._orders: list[Follow | Unfollow] = []
        self._changed: set[Key] = set()

    def named_by_target(self, source: RegistrySource) -> None:
        """A target itself names a source."""
        self._targets[instances_key(source)] = source

    def want(self, added: Iterable[Key], dropped: Iterable[Key]) -> None:
        """Changes what is followed."""
        for key in dropped:
            self._store.drop(key)
            self._targets.pop(key, None)
            if self._followed.pop(key, None) is not None:
                self._orders.append(Unfollow(key))
        sources: Mapping[Key, RegistrySource] | None = None
        for key in added:
            if sources is None:
                sources = {**self._targets, **self._named_by_clusters()}
            self._follow(key, sources[key])

    def clusters_changed(self, keys: Iterable[Key]) -> None:
        """Clusters in the store have changed: their migration modes may have."""
        for key in keys:
            source = self._source(key)
            if source is not None:
                followed = instances_key(source)
                if self._followed.get(followed, source) != source:
                    self._follow(followed, source)

    def tell(self, told: Told) -> None:
        """A registry has told something."""
        entry = self._store.get(told.key)
        if entry is None:
            return  # on its way when nothing wanted it any more
        if told.endpoints is None:
            entry = replace(entry, status=EntryStatus.UNREACHABLE, problem=told.problem)
        else:
            status = EntryStatus.UNREACHABLE if told.problem else EntryStatus.PRESENT
            problem = told.problem or told.note
            entry = Entry(told.key, status, told.endpoints, problem=problem, server=told.origin)
        self._store.put(entry)
        self._changed.add(told.key)

    def changed(self) -> set[Key]:
        """Returns the keys whose entries readers should look at again, and forgets them."""
        changed, self._changed = self._changed, set()
        return changed

    def orders(self) -> list[Follow | Unfollow]:
        """Returns what is to be followed and not any more, in order, and forgets it."""
        orders, self._orders = self._orders, []
        return orders

    def _follow(self, key: Key, source: RegistrySource) -> None:
        self._followed[key] = source
        if self._store.get(key) is None:
            self._store.put(Entry(key, server=self._words(source.registry)))
        self._orders.append(Follow(key, source))

    def _named_by_clusters(self) -> dict[Key, RegistrySource]:
        found = (self._source(entry.key) for entry in self._store.entries())
        return {instances_key(source): source for source in found if source is not None}

    def _source(self, key: Key) -> RegistrySource | None:
        entry = self._store.get(key) if key.kind is Kind.CLUSTER else None
        cluster = entry.resource if entry is not None else None
        return cluster.source if isinstance(cluster, Cluster) and isinstance(cluster.source, RegistrySource) else None
