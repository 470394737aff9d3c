"""Slices and pods in, entries of a `Mirror` out: which endpoints there are once all slices are laid over each other.

Pure; one per watch, called by `slices_watch`. A change costs what it touches, not what there is.

Several slices may name one address: of those that Kubernetes keeps, the readier one counts (the API lets an endpoint be
in two slices for a moment); an instance that wrote a slice itself stands for its address, and what Kubernetes says of
that address can only make its state worse. Entries are keyed by what a person would look for: the slice of an instance
that wrote it, else application and address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import MappingProxyType

from meshsdk.discovery import limits
from meshsdk.discovery.kubernetes.pods import PodFacts
from meshsdk.discovery.kubernetes.slices import Endpoint, Slice
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, InstanceState

_READIER = (InstanceState.OFFLINE, InstanceState.STARTING, InstanceState.DRAINING, InstanceState.ONLINE)
_PLAIN = PodFacts(MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Row:
    """One endpoint as one slice has it; `problem` in its place where the slice cannot be used."""

    slice: str
    app: str
    endpoint: Endpoint
    own: Instance | None = None
    problem: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """Rows of one place are about one endpoint."""
        return self.app, self.endpoint.address


@dataclass(frozen=True, slots=True)
class Entry:
    """What an instance is made of. `limit`: the best state that Kubernetes allows it."""

    row: Row
    facts: PodFacts | None
    limit: InstanceState = InstanceState.ONLINE


Changes = tuple[dict[str, Entry], list[str]]


class Assembly:
    """The rows of all slices of one watch. Guarded by the watch's lock.

    `find` knows the pods.
    """

    def __init__(self, find: Callable[[str], PodFacts | None]) -> None:
        self._find = find
        self._rows: dict[str, tuple[Row, ...]] = {}  # by slice
        self._places: dict[tuple[str, str], dict[str, Row]] = {}  # by place and slice
        self._pods: dict[str, set[tuple[str, str]]] = {}  # places of a pod
        self._keys: dict[tuple[str, str], set[str]] = {}  # of the entries that stand for a place

    def replace(self, slices: Iterable[Slice]) -> dict[str, Entry]:
        """Takes all slices there are; returns all entries."""
        self._rows, self._places, self._pods, self._keys = {}, {}, {}, {}
        return self.change(slices, ())[0]

    def change(self, put: Iterable[Slice], removed: Iterable[str]) -> Changes:
        """Takes slices that came or changed, and names of those that are gone; returns the entries that changed."""
        touched: dict[tuple[str, str], None] = {}
        for name in removed:
            self._drop(name, touched)
        for each in put:
            self._drop(each.name, touched)
            self._take(each, touched)
        return self._entries(touched)

    def pods_changed(self, names: Iterable[str]) -> Changes:
        """Returns the entries of pods that changed."""
        return self._entries({place: None for name in names for place in self._pods.get(name, ())})

    def _take(self, found: Slice, touched: dict[tuple[str, str], None]) -> None:
        rows = tuple(Row(found.name, found.app, endpoint, found.own) for endpoint in found.endpoints)
        if found.problem:
            rows = (Row(found.name, found.app, Endpoint(f"slice {found.name}"), problem=found.problem),)
        self._rows[found.name] = rows
        for row in rows:
            touched[row.place] = None
            self._places.setdefault(row.place, {})[row.slice] = row
            if row.endpoint.pod:
                self._pods.setdefault(row.endpoint.pod, set()).add(row.place)

    def _drop(self, name: str, touched: dict[tuple[str, str], None]) -> None:
        for row in self._rows.pop(name, ()):
            touched[row.place] = None
            at = self._places.get(row.place, {})
            at.pop(name, None)
            if not at:
                self._places.pop(row.place, None)
            if row.endpoint.pod and not any(other.endpoint.pod == row.endpoint.pod for other in at.values()):
                places = self._pods.get(row.endpoint.pod, set())
                places.discard(row.place)
                if not places:
                    self._pods.pop(row.endpoint.pod, None)

    def _entries(self, touched: Iterable[tuple[str, str]]) -> Changes:
        put: dict[str, Entry] = {}
        gone: list[str] = []
        for place in touched:
            entries = dict(self._at(place))
            gone += [key for key in self._keys.get(place, ()) if key not in entries]
            if entries:
                self._keys[place] = set(entries)
            else:
                self._keys.pop(place, None)
            put.update(entries)
        return put, [key for key in gone if key not in put]

    def _at(self, place: tuple[str, str]) -> Iterable[tuple[str, Entry]]:
        rows = list(self._places.get(place, {}).values())
        for row in rows:
            if row.problem:
                yield f"slice {row.slice}", Entry(row, None)
        own = [row for row in rows if row.own is not None and not row.problem]
        kept = [row for row in rows if row.own is None and not row.problem]
        best = max(kept, key=lambda row: (_READIER.index(row.endpoint.state), row.slice), default=None)
        if best is not None and not own:
            yield f"{place[0]}/{place[1]}", Entry(best, self._facts(best))
        for row in own:
            limit = InstanceState.ONLINE if best is None else best.endpoint.state
            yield f"slice {row.slice}", Entry(row, self._facts(row), limit)

    def _facts(self, row: Row) -> PodFacts | None:
        return self._find(row.endpoint.pod) if row.endpoint.pod else None


def instance_of(_key: str, entry: Entry) -> Instance:
    """Makes the instance of an entry; RegistryError says why it cannot be used. The `decode` of a `Mirror`."""
    row, facts = entry.row, entry.facts or _PLAIN
    if row.problem:
        raise RegistryError(row.problem)
    instance = _written(row.own, facts) if row.own is not None else _observed(row, facts)
    if instance.state is InstanceState.ONLINE:
        ceiling = InstanceState.DRAINING if facts.terminating else InstanceState.ONLINE
        instance = replace(instance, state=min(entry.limit, ceiling, key=_READIER.index))
    if problem := limits.instance_problem(instance):
        raise RegistryError(problem)
    return instance


def _written(own: Instance, facts: PodFacts) -> Instance:
    """An instance as it wrote itself, with the labels of its pod below its own."""
    return replace(own, labels=MappingProxyType({**facts.labels, **own.labels})) if facts.labels else own


def _observed(row: Row, facts: PodFacts) -> Instance:
    """An instance as Kubernetes sees it. Its id is its address: a pod has none that is the same on every family."""
    endpoint = row.endpoint
    return Instance(
        row.app,
        endpoint.address,
        endpoint.address,
        revision=facts.revision,
        unit=facts.unit,
        region=facts.region,
        zone=endpoint.zone or facts.zone,
        weight=facts.weight,
        labels=facts.labels,
        state=endpoint.state,
        started_at=facts.started_at,
    )
