"""Session: everything one XdsClient knows, sans-IO: watched targets, the store, and a machine per list of servers.

The driver hands in events and carries out what `take` returns. After each batch of events the targets whose keys were
touched are resolved again; their wanted keys become the subscriptions, and a result that differs is published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Protocol

from meshsdk.bootstrap import Bootstrap, ServerConfig
from meshsdk.model.resources import Kind, RuntimeLayer
from meshsdk.model.snapshot import Key, Resolution, Snapshot, Unresolvable
from meshsdk.model.told import Told
from meshsdk.xds_client.cluster_target import resolve_target
from meshsdk.xds_client.direct import resolve_direct
from meshsdk.xds_client.instances import Follow, Instances, Unfollow
from meshsdk.xds_client.intake import Decode
from meshsdk.xds_client.interest import Interest
from meshsdk.xds_client.layer import resolve_layer
from meshsdk.xds_client.link import LinkState, ServerLink
from meshsdk.xds_client.machine import AdsMachine, LastGood, nothing_saved
from meshsdk.xds_client.messages import Effect, Response
from meshsdk.xds_client.names import Target, authority_of
from meshsdk.xds_client.store import Entry, EntryStatus, Store, canonical_key
from meshsdk.xds_client.timing import Timing

Result = Snapshot | Unresolvable | RuntimeLayer


class Entries(Protocol):
    """What `resolve` may see of the store."""

    def get(self, key: Key) -> Entry | None:
        """Returns what is known about a key, or None."""


class Resolve(Protocol):
    """The pure walk from a listener to its endpoints (`meshsdk.xds_client.resolve.resolve`)."""

    def __call__(
        self,
        store: Entries,
        target: str,
        listener_name: str,
        authority: str,
        previous: Resolution | None,
        changed: AbstractSet[Key],
    ) -> Resolution:
        """Returns what can be published and what is wanted; `changed`: all keys that did since `previous`."""


@dataclass(slots=True)
class _Watched:
    """One target. `subscribers`: watch id -> whether it has been told the present result."""

    target: Target
    subscribers: dict[int, bool] = field(default_factory=dict)
    version: int = 0  # of the last snapshot published
    resolution: Resolution | None = None
    wanted: frozenset[Key] = frozenset()  # what `resolution` wanted, by the names that the store has
    complete: frozenset[Key] = frozenset()  # what the last complete resolution wanted
    lacking: frozenset[Key] = frozenset()  # what it lacked
    found: Result | None = None  # as `resolve` returned it
    published: Result | None = None  # the same with its version


@dataclass(frozen=True, slots=True)
class Publication:
    """Tell this watch this result."""

    watch: int
    result: Result


@dataclass(frozen=True, slots=True)
class Link:
    """Identifies a stream: server number `server` of machine number `machine`."""

    machine: int
    server: int


@dataclass(frozen=True, slots=True)
class Todo:
    """What the driver carries out: stream effects and orders to registries, then publications.

    `touched`: keys for the disk copy of what control planes gave.
    """

    effects: Sequence[tuple[int, Effect]]
    orders: Sequence[Follow | Unfollow]
    publications: Sequence[Publication]
    touched: frozenset[Key]


class Session:
    """Owned by the driver thread, except for `progress` and reads of the store (see `Store`)."""

    def __init__(
        self,
        bootstrap: Bootstrap,
        decode: Decode,
        resolve: Resolve,
        draw: Callable[[], float],
        timing: Timing | None = None,
        last_good: LastGood = nothing_saved,
        registry_words: Callable[[str], str] = repr,
    ) -> None:
        """`registry_words` names a service registry to users."""
        self.store = Store()
        self._instances = Instances(self.store, registry_words)
        self._resolve = resolve
        self._bootstrap = bootstrap
        # A47: authorities with the same servers share one stream. Without servers there are registries alone.
        groups = dict.fromkeys([bootstrap.servers, *(one.servers for one in bootstrap.authorities.values())])
        self._servers = tuple(group for group in groups if group)
        transport = bootstrap.mesh.transport
        self._machines = [
            AdsMachine(servers, self.store, decode, draw, transport=transport, timing=timing, last_good=last_good)
            for servers in self._servers
        ]
        self._owners = {
            name: self._servers.index(authority.servers)
            for name, authority in bootstrap.authorities.items()
            if authority.servers
        }
        self._targets: dict[str, _Watched] = {}
        self._watches: dict[int, _Watched] = {}
        self._interest = Interest()
        # Targets to resolve, in the order in which they became so, each with its keys that changed since the last time.
        self._dirty: dict[str, set[Key]] = {}
        self._touched: set[Key] = set()
        self._untold: list[_Watched] = []

    def server(self, link: Link) -> ServerConfig:
        """The server that a stream goes to."""
        return self._servers[link.machine][link.server]

    def problem(self, link: Link) -> str:
        """Why a server cannot be reached, "" if it can."""
        return self._machines[link.machine].problem(link.server)

    def watch(self, watch: int, target: Target) -> None:
        """Adds a watch; its first publication comes when the target is complete, at once if it is already."""
        watched = self._targets.get(target.text)
        if watched is None:
            watched = self._targets[target.text] = _Watched(target)
            self._dirty.setdefault(target.text, set())
            if target.source is not None:
                self._instances.named_by_target(target.source)
        watched.subscribers[watch] = False
        self._watches[watch] = watched
        self._untold.append(watched)

    def cancel(self, watch: int) -> None:
        """Ends a watch; the last one of a target takes the target's subscriptions along."""
        watched = self._watches.pop(watch, None)
        if watched is None:
            return
        del watched.subscribers[watch]
        if not watched.subscribers:
            del self._targets[watched.target.text]
            self._dirty.setdefault(watched.target.text, set())

    def opened(self, link: Link, now: float) -> None:
        """See `AdsMachine.opened`."""
        self._machines[link.machine].opened(link.server, now)

    def received(self, link: Link, response: Response, now: float) -> None:
        """See `AdsMachine.received`."""
        self._machines[link.machine].received(link.server, response, now)

    def closed(self, link: Link, code: str, details: str, now: float) -> None:
        """See `AdsMachine.closed`."""
        self._machines[link.machine].closed(link.server, code, details, now)

    def told(self, told: Told) -> None:
        """A service registry has told something."""
        self._instances.tell(told)

    def deadline(self) -> float | None:
        """When `take` is to be called at the latest; None: not before an event."""
        deadlines = (machine.deadline() for machine in self._machines)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def take(self, now: float) -> Todo:
        """Settles everything that follows from the events so far, and returns what is to be done."""
        for machine in self._machines:
            machine.tick(now)
        self._settle()
        effects = [(index, effect) for index, machine in enumerate(self._machines) for effect in machine.effects(now)]
        publications = [publication for watched in self._untold for publication in _tell(watched)]
        self._untold.clear()
        touched = frozenset(self._touched)
        self._touched.clear()
        return Todo(effects, self._instances.orders(), publications, touched)

    def links(self) -> list[ServerLink]:
        """Returns the links to all servers; see `AdsMachine.links`. Safe from any thread."""
        return [link for machine in self._machines for link in machine.links()]

    def versions(self) -> dict[str, int]:
        """Returns the version of the snapshot in force, by target; 0 before the first. Safe from any thread."""
        return {text: watched.version for text, watched in self._targets.copy().items()}

    def progress(self, target: str) -> str:
        """Words for an error: what is awaited for a target, from whom, and what went wrong. Safe from any thread."""
        watched = self._targets.get(target)
        if watched is None:
            return f"{target} is not being watched"
        resolution = watched.resolution
        if resolution is None:
            return f"{target}: resolution has not begun"
        if not resolution.missing:
            return f"{target}: configuration is complete"
        first = min(resolution.missing, key=lambda key: (_DEPTH[key.kind.name], key.name))
        if first.kind is Kind.INSTANCES:
            entry = self.store.get(first)
            return f"waiting for instances {first.name!r}" + (f" from {entry.server}" if entry is not None else "")
        machine = self._machines[self._owner(first) or 0]
        words = f"waiting for {first.kind.name.lower()} {first.name!r} from xDS server {machine.server()}"
        problem = machine.problem()
        return f"{words} (last error: {problem})" if problem else words

    def servers(self) -> list[LinkState]:
        """Returns how each xDS server fares. Safe from any thread."""
        return [link.state for machine in self._machines for link in machine.links()]

    def targets(self) -> list[str]:
        """Returns the targets that are watched, as `progress` takes them. Safe from any thread."""
        return sorted(self._targets.copy())

    def _settle(self) -> None:
        """Resolves until nothing is left to resolve: what a target newly wants may be here already, or be hopeless."""
        while True:
            for machine in self._machines:
                changed = machine.changed()
                self._touched |= changed
                self._instances.clusters_changed(changed)
                self._soil(changed)
            self._soil(self._instances.changed())
            if not self._dirty:
                return
            dirty, self._dirty = self._dirty, {}
            for text, changed in dirty.items():
                self._resolve_one(text, changed)
            self._subscribe(*self._interest.changes())

    def _soil(self, keys: Iterable[Key]) -> None:
        for key in keys:
            for text in self._interest.targets(key):
                self._dirty.setdefault(text, set()).add(key)

    def _resolve_one(self, text: str, changed: AbstractSet[Key]) -> None:
        watched = self._targets.get(text)
        if watched is None:
            self._interest.set(text, frozenset())
            return
        target = watched.target
        if target.source is not None:
            resolution = resolve_direct(self.store, target, target.source)
        elif target.kind is Kind.RUNTIME:
            resolution = resolve_layer(self.store, target)
        elif target.kind is Kind.CLUSTER:
            resolution = resolve_target(self.store, target, watched.resolution, changed)
        else:
            before = watched.resolution
            resolution = self._resolve(self.store, target.text, target.listener, target.host, before, changed)
        wanted = watched.wanted
        if watched.resolution is None or resolution.wanted is not watched.resolution.wanted:
            wanted = watched.wanted = frozenset(canonical_key(key) for key in resolution.wanted)
        watched.resolution = resolution
        if resolution.snapshot is None or self._is_outage(watched, resolution):
            # The configuration in force stays subscribed until its successor is complete: make before break.
            self._interest.set(text, wanted | watched.complete)
            return
        watched.complete = wanted
        watched.lacking = resolution.missing
        self._interest.set(text, wanted)
        if resolution.snapshot != watched.found:
            self._publish(watched, resolution.snapshot)

    def _is_outage(self, watched: _Watched, resolution: Resolution) -> bool:
        """A half-arrived change must not replace a working configuration because the servers went away meanwhile."""
        if not isinstance(watched.found, Snapshot):
            return False
        if any(key.kind is Kind.INSTANCES for key in resolution.missing - watched.lacking):
            return True  # a registry that does not answer: nothing is awaited of it, or there would be no snapshot
        owners = {self._owner(key) for key in resolution.missing}
        return any(owner is not None and self._machines[owner].cut_off() for owner in owners)

    def _publish(self, watched: _Watched, result: Result) -> None:
        watched.found = result
        if isinstance(result, Snapshot):
            watched.version += 1
            result = replace(result, version=watched.version)
        watched.published = result
        watched.subscribers = dict.fromkeys(watched.subscribers, False)
        self._untold.append(watched)

    def _subscribe(self, added: Sequence[Key], dropped: Sequence[Key]) -> None:
        sides = [[key for key in keys if key.kind is Kind.INSTANCES] for keys in (added, dropped)]
        self._instances.want(*sides)
        orders: list[tuple[list[Key], list[Key]]] = [([], []) for _ in self._machines]
        for side, keys in enumerate((added, dropped)):
            for key in keys:
                if key.kind is Kind.INSTANCES:
                    continue
                owner = self._owner(key)
                if owner is not None:
                    orders[owner][side].append(key)
                elif side:
                    self.store.drop(key)
                else:
                    self._refuse(key)
        for machine, (mine, gone) in zip(self._machines, orders, strict=True):
            if mine or gone:
                machine.want(mine, gone)

    def _refuse(self, key: Key) -> None:
        """A47: a resource may only come from an authority that the bootstrap names."""
        problem = f"{key.name!r}: its authority is not among the authorities of {self._bootstrap.origin}"
        if authority_of(key.name) is None:
            problem = f"{key.name!r}: {self._bootstrap.origin} has no xds_servers to ask"
        self.store.put(Entry(key, EntryStatus.INVALID, problem=problem))
        self._soil([key])

    def _owner(self, key: Key) -> int | None:
        authority = authority_of(key.name)
        # xdstp names without an authority, as collections have, go where old-style names go unless configured.
        default = 0 if self._bootstrap.servers else None
        return default if authority is None else self._owners.get(authority, None if authority else default)


_DEPTH = {"LISTENER": 0, "ROUTE": 1, "CLUSTER": 2, "ENDPOINTS": 3, "LB_ENDPOINTS": 4, "INSTANCES": 4, "RUNTIME": 5}


def _tell(watched: _Watched) -> list[Publication]:
    if watched.published is None:
        return []
    untold = [watch for watch, told in watched.subscribers.items() if not told]
    for watch in untold:
        watched.subscribers[watch] = True
    return [Publication(watch, watched.published) for watch in untold]
