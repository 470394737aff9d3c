"""`ResourceCache`: what an `XdsServer` serves, set by the program around it.

Any thread may set and delete; every stream of every server on the cache sees whole commits only. It knows resources
by type and name and nothing of what they mean. It never waits and does no I/O.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from google.protobuf.message import Message

from controlplane.server.node import Node
from controlplane.server.packing import pack
from controlplane.server.resource_map import Change, Packed, ResourceMap, Snapshot

Resources = Message | Packed | Iterable["Message | Packed"] | Mapping[str, "Message | Packed"]


@dataclass(slots=True)
class _Edit:
    """One call of the cache's writers: packed already, not applied yet. `types`: emptied before `put` (replace)."""

    view: str | None
    put: tuple[Packed, ...] = ()
    removed: tuple[tuple[str, str], ...] = ()  # (type URL, name)
    types: frozenset[str] | None = frozenset()  # None: all


@dataclass(slots=True)
class _Batch:
    """The edits of one `with cache.batch()`; `open` ends with the block, whatever context still refers to it."""

    edits: list[_Edit] = field(default_factory=list)
    open: bool = True


# The batches open in this thread or task, by id of their cache: a batch of one task is not that of another.
_BATCHES: contextvars.ContextVar[Mapping[int, _Batch] | None] = contextvars.ContextVar("cache_batches", default=None)


@dataclass(frozen=True, slots=True)
class _Overlay:
    """A view's own resources laid over those for all, and what it was made from, so that it can be brought up."""

    shared: Snapshot
    own: Snapshot
    merged: Snapshot


class ResourceCache:
    """xDS resources of any type, for all nodes or for one view, with consistent snapshots.

    `view`: tells which view a node gets, by its key; nodes with one key share one view, its snapshot and its bytes.
    By default each node's id is its key. It is called on the server's thread when a stream opens, before the first
    answer, and may `set` the resources of a view that it sees for the first time. The argument `node` of the methods
    is such a key; None means all nodes. A view's own resource stands before one for all of the same type and name.

    Thread-safe. A commit costs by what changes, not by what is held.
    """

    def __init__(self, view: Callable[[Node], str] | None = None) -> None:
        self._view = view
        self._lock = threading.Lock()  # guards everything below
        self._committed: dict[str | None, Snapshot] = {None: Snapshot()}
        self._overlays: dict[str, _Overlay] = {}
        self._listeners: tuple[Callable[[Change], None], ...] = ()

    # -- writing ----------------------------------------------------------------------------------------------------

    def set(self, resources: Resources, *, node: str | None = None) -> None:
        """Adds or replaces resources: one, several, or a mapping name -> resource for messages that hold no name.

        Resources whose content is the same as before are not sent again.

        Raises:
            ConfigurationError: a resource without a usable name; nothing is changed.
        """
        self._commit(_Edit(node, put=_packed(resources)))

    def delete(self, type_url: str, names: str | Iterable[str], *, node: str | None = None) -> None:
        """Takes resources of one type away; names that are not there are no error."""
        listed = (names,) if isinstance(names, str) else tuple(names)
        self._commit(_Edit(node, removed=tuple((type_url, name) for name in listed)))

    def replace(self, resources: Resources, *, types: Iterable[str] | None = None, node: str | None = None) -> None:
        """Makes `resources` all there is of the given types (None: of all types) for `node`; sends what differs."""
        kinds = None if types is None else frozenset(types)
        self._commit(_Edit(node, put=_packed(resources), types=kinds))

    def clear(self, *, node: str | None = None) -> None:
        """Takes away everything that was set for `node`."""
        self.replace((), node=node)

    @contextlib.contextmanager
    def batch(self) -> Iterator[ResourceCache]:
        """Makes the changes in the `with` block visible at once, as one snapshot, when it ends; none if it raises.

        Belongs to the thread or asyncio task that opened it. Reads in the block see what was there before. An inner
        batch joins the outer one. On aggregated streams the change then goes out in make-before-break order.
        """
        known = _BATCHES.get() or {}
        outer = known.get(id(self))
        if outer is not None and outer.open:
            yield self
            return
        batch = _Batch()
        token = _BATCHES.set({**known, id(self): batch})
        try:
            yield self
        finally:
            batch.open = False
            _BATCHES.reset(token)
        self._apply(batch.edits)

    # -- reading ----------------------------------------------------------------------------------------------------

    def view_of(self, node: Node) -> str:
        """Returns the key of the view that `node` gets."""
        return node.id if self._view is None else self._view(node)

    def snapshot(self, node: str | None = None) -> Snapshot:
        """Returns what a view holds now (None: what is for all), consistent over all types."""
        with self._lock:
            shared = self._committed[None]
            own = self._committed.get(node)
            if node is None or own is None:
                return shared
            known = self._overlays.get(node)
            if known is None or known.shared is not shared or known.own is not own:
                known = _brought_up(known, shared, own)
                self._overlays[node] = known
            return known.merged

    def get(self, type_url: str, name: str, *, node: str | None = None) -> Packed | None:
        """Returns one resource as a view has it, or None."""
        return self.snapshot(node).of(type_url).get(name)

    def nodes(self) -> tuple[str, ...]:
        """Returns the keys of the views that have resources of their own."""
        with self._lock:
            return tuple(sorted(key for key in self._committed if key is not None))

    def listen(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Has `listener` called after each commit that changed something, on the committing thread.

        It must return at once and not raise. Returns a function that ends it.
        """
        with self._lock:
            self._listeners += (listener,)

        def end() -> None:
            with self._lock:
                self._listeners = tuple(known for known in self._listeners if known is not listener)

        return end

    # -- committing -------------------------------------------------------------------------------------------------

    def _commit(self, edit: _Edit) -> None:
        batch = (_BATCHES.get() or {}).get(id(self))
        if batch is not None and batch.open:
            batch.edits.append(edit)
        else:
            self._apply([edit])

    def _apply(self, edits: Iterable[_Edit]) -> None:
        changes: list[Change] = []
        with self._lock:
            after: dict[str | None, Snapshot] = {}
            for edit in edits:
                known = after.get(edit.view) or self._committed.get(edit.view, Snapshot())
                after[edit.view] = _edited(known, edit)
            for view, snapshot in after.items():
                names = _changed_names(self._committed.get(view, Snapshot()), snapshot)
                if names:
                    changes.append(Change(view, names))
                    self._put(view, snapshot)
            listeners = self._listeners
        for change in changes:
            for listener in listeners:
                listener(change)

    def _put(self, view: str | None, snapshot: Snapshot) -> None:
        if view is None or any(map(len, snapshot.types.values())):
            self._committed[view] = snapshot
        else:
            del self._committed[view]
            self._overlays.pop(view, None)


def _packed(resources: Resources) -> tuple[Packed, ...]:
    if isinstance(resources, (Message, Packed)):
        return (pack(resources),)
    if isinstance(resources, Mapping):
        return tuple(pack(resource, name) for name, resource in resources.items())
    return tuple(pack(resource) for resource in resources)


def _edited(snapshot: Snapshot, edit: _Edit) -> Snapshot:
    put: dict[str, list[Packed]] = {}
    for packed in edit.put:
        put.setdefault(packed.type_url, []).append(packed)
    removed: dict[str, list[str]] = {}
    for type_url, name in edit.removed:
        removed.setdefault(type_url, []).append(name)
    for type_url in snapshot.types.keys() if edit.types is None else edit.types:
        kept = {packed.name for packed in put.get(type_url, ())}
        gone = [packed.name for packed in snapshot.of(type_url) if packed.name not in kept]
        removed.setdefault(type_url, []).extend(gone)
    types = dict(snapshot.types)
    for type_url in put.keys() | removed.keys():
        types[type_url] = snapshot.of(type_url).updated(put.get(type_url, ()), removed.get(type_url, ()))
    return Snapshot(types)


def _changed_names(old: Snapshot, new: Snapshot) -> dict[str, tuple[str, ...]]:
    if old is new:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for type_url, resources in new.types.items():
        put, gone = resources.changes_from(old.of(type_url))
        if put or gone:
            found[type_url] = tuple(packed.name for packed in put) + gone
    return found


def _brought_up(known: _Overlay | None, shared: Snapshot, own: Snapshot) -> _Overlay:
    """Lays `own` over `shared`, starting from the last overlay; types without own resources stay the shared map."""
    types: dict[str, ResourceMap] = dict(shared.types)
    for type_url, resources in own.types.items():
        below = shared.of(type_url)
        if not len(resources):
            continue
        if known is None or not len(known.own.of(type_url)):
            types[type_url] = below.updated(resources)
            continue
        names: set[str] = set()
        for old, new in ((known.shared.of(type_url), below), (known.own.of(type_url), resources)):
            put, gone = new.changes_from(old)
            names.update(packed.name for packed in put)
            names.update(gone)
        now = {name: resources.get(name) or below.get(name) for name in names}
        types[type_url] = known.merged.of(type_url).updated(
            (packed for packed in now.values() if packed is not None),
            (name for name, packed in now.items() if packed is None),
        )
    return _Overlay(shared, own, Snapshot(types))


__all__ = ["Change", "Packed", "ResourceCache", "Snapshot", "pack"]
