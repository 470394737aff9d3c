"""`ResourceCache`: what an `XdsServer` serves, set by the program around it.

Any thread may set and delete; every stream of every server on the cache sees whole commits only. It knows resources
by type and name and nothing of what they mean. It never waits and does no I/O.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message

from controlplane.server.layers import Layers, Stack, difference
from controlplane.server.node import Node
from controlplane.server.packing import pack
from controlplane.server.resource_map import Change, Packed, Snapshot

Resources = Message | Packed | Iterable["Message | Packed"] | Mapping[str, "Message | Packed"]


@dataclass(slots=True)
class _Edit:
    """One call of the cache's writers: packed already, not applied yet. `types`: emptied before `put` (replace)."""

    view: str | None
    put: tuple[Packed, ...] = ()
    removed: tuple[tuple[str, str], ...] = ()  # (type URL, name)
    types: frozenset[str] | None = frozenset()  # None: all
    stacks: Mapping[str, Stack | None] = field(default_factory=dict)


@dataclass(slots=True)
class _Batch:
    """The edits of one `with cache.batch()`; `open` ends with the block, whatever context still refers to it."""

    edits: list[_Edit] = field(default_factory=list)
    open: bool = True


# The batches open in this thread or task, by id of their cache: a batch of one task is not that of another.
_BATCHES: contextvars.ContextVar[Mapping[int, _Batch] | None] = contextvars.ContextVar("cache_batches", default=None)


class ResourceCache:
    """xDS resources of any type, for all nodes or for one view, with consistent snapshots.

    `view`: tells which view a node gets, by its key; nodes with one key share one view, its snapshot and its bytes.
    By default each node's id is its key. It is called when a stream opens, on any thread but the server's, before the
    first answer, and may `set` the resources of a view that it sees for the first time. The argument `node` of the
    methods is such a key; None means all nodes. A view's own resource stands before one for all of the same type and
    name.

    `wanted`: called on the server's thread with (view, type URL, names) when a client asks for names that it did not
    ask for before, `*` for all of the type. It returns None, or a function that makes them with `set`, which is run on
    another thread before the client is answered: what nobody asks for need not be made.

    `own`: called on the server's thread with (node, type URL) when a client asks for a type for the first time. It
    returns None, or a function that is run on another thread and returns the key of the view that the stream has from
    then on. So a node whose resources of some type are its own gets a view of its own only if it asks for that type.

    Thread-safe. A commit costs by what changes, not by what is held.
    """

    def __init__(
        self,
        view: Callable[[Node], str] | None = None,
        wanted: Callable[[str, str, Collection[str]], Callable[[], None] | None] | None = None,
        own: Callable[[Node, str], Callable[[], str] | None] | None = None,
    ) -> None:
        self._view = view
        self._wanted = wanted
        self._own = own
        self._lock = threading.Lock()  # guards everything below
        self._layers = Layers()
        self._snapshots: dict[str | None, Snapshot] = {}  # memo by view; a new dict with each commit, read without lock
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

    def compose(self, stacks: Mapping[str, Sequence[str] | None]) -> None:
        """Has views see several layers, the last on top, in place of the one of their own key (None: that again).

        A layer is what was set for the `node` of that key. Views with the same layers share all of their memory.
        """
        self._commit(_Edit(None, stacks={key: None if keys is None else tuple(keys) for key, keys in stacks.items()}))

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

    def own_view(self, node: Node, type_url: str) -> Callable[[], str] | None:
        """Returns what finds the view that `node` has once it asks for a type; None where it keeps the one it has."""
        return self._own(node, type_url) if self._own is not None else None

    def want(self, view: str, type_url: str, names: Collection[str]) -> Callable[[], None] | None:
        """Returns what is to be run before a client is answered that asks for these names, if anything."""
        return self._wanted(view, type_url, names) if self._wanted is not None and names else None

    def snapshot(self, node: str | None = None) -> Snapshot:
        """Returns what a view holds now (None: what is for all), consistent over all types."""
        found = self._snapshots.get(node)
        if found is None:
            with self._lock:
                found = self._layers.merged(() if node is None else self._layers.stack(node))
                self._snapshots[node] = found
        return found

    def get(self, type_url: str, name: str, *, node: str | None = None) -> Packed | None:
        """Returns one resource as a view has it, or None."""
        return self.snapshot(node).of(type_url).get(name)

    def nodes(self) -> tuple[str, ...]:
        """Returns the keys of the views, or layers, that have resources of their own."""
        with self._lock:
            return tuple(sorted(key for key in self._layers.committed if key is not None))

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
        with self._lock:
            changes = self._applied(edits)
            listeners = self._listeners
        for change in changes:
            for listener in listeners:
                listener(change)

    def _applied(self, edits: Iterable[_Edit]) -> list[Change]:
        layers, self._snapshots = self._layers, {}
        after: dict[str | None, Snapshot] = {}
        stacks: dict[str, Stack | None] = {}
        for edit in edits:
            stacks.update(edit.stacks)
            known = after.get(edit.view) or layers.committed.get(edit.view, Snapshot())
            after[edit.view] = _edited(known, edit)
        seen = {view: layers.stack(view) for view in stacks}
        were = {stack: layers.merged(stack) for stack in set(seen.values())}
        changes: list[Change | None] = []
        layers.restack(stacks)
        for key, snapshot in after.items():
            known = layers.committed.get(key, Snapshot())
            if difference(known, snapshot, None) is None:
                continue
            views = None if key is None else layers.viewers(key)
            changes.append(difference(known, snapshot, views))
            layers.put(key, snapshot)
        moved: dict[tuple[Stack, Stack], set[str]] = {}
        for view, before in seen.items():
            if layers.stack(view) != before:
                moved.setdefault((before, layers.stack(view)), set()).add(view)
        changes += [difference(were[old], layers.merged(new), frozenset(views)) for (old, new), views in moved.items()]
        return [change for change in changes if change is not None]


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
    for type_url in put.keys() | removed.keys():
        snapshot = snapshot.updated(type_url, put.get(type_url, ()), removed.get(type_url, ()))
    return snapshot


__all__ = ["Change", "Packed", "ResourceCache", "Snapshot", "pack"]
