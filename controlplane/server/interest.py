"""Which streams want what: the index that lets a change wake only the streams it concerns. Pure.

Kept by `service` from the machines' `Shift`s; asked once per commit. Costs the names that changed and the streams that
want them, however many views, names and collections there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from controlplane.server.resource_map import Change
from controlplane.server.shift import Shift

StreamT = TypeVar("StreamT")


class Interest(Generic[StreamT]):
    """Mutable; owned by the server's loop thread. Empty sets are removed: what nobody wants any more costs nothing."""

    def __init__(self) -> None:
        # (type URL, name) -> stream -> its view
        self._named: dict[tuple[str, str], dict[StreamT, str]] = {}
        self._collected: dict[tuple[str, str], dict[StreamT, str]] = {}
        self._wild: dict[str, dict[StreamT, str]] = {}  # by type URL

    def apply(self, view: str, stream: StreamT, shift: Shift) -> None:
        """Books how a request of `stream` moved one of its subscriptions."""
        for index, added, dropped in (
            (self._named, shift.added, shift.dropped),
            (self._collected, shift.collections_added, shift.collections_dropped),
        ):
            for name in dropped:
                _remove(index, (shift.type_url, name), stream)
            for name in added:
                index.setdefault((shift.type_url, name), {})[stream] = view
        if shift.wildcard:
            self._wild.setdefault(shift.type_url, {})[stream] = view
        elif shift.wildcard is False:
            _remove(self._wild, shift.type_url, stream)

    def drop(self, stream: StreamT, held: Iterable[Shift]) -> None:
        """Forgets a stream that held what `held` drops."""
        for shift in held:
            self.apply("", stream, shift)

    def views(self, type_url: str, name: str) -> frozenset[str]:
        """Returns the views of the streams that want a name, or the glob collection of a key, or all of the type."""
        named, collected = self._named.get((type_url, name), {}), self._collected.get((type_url, name), {})
        return frozenset((*named.values(), *collected.values(), *self._wild.get(type_url, {}).values()))

    def affected(self, change: Change) -> Iterator[tuple[StreamT, str, str, bool]]:
        """Yields (stream, type URL, name, False) for each name that a stream wants; name "" for one that wants all.

        (stream, type URL, key, True) for each glob collection.
        """
        for type_url, names in change.names.items():
            for stream in _seeing(self._wild.get(type_url), change):
                yield stream, type_url, "", False
            for name in names:
                for stream in _seeing(self._named.get((type_url, name)), change):
                    yield stream, type_url, name, False
        for type_url, keys in change.collections.items():
            for key in keys:
                for stream in _seeing(self._collected.get((type_url, key)), change):
                    yield stream, type_url, key, True


def _seeing(streams: dict[StreamT, str] | None, change: Change) -> Iterable[StreamT]:
    if not streams:
        return ()
    if change.views is None:
        return streams
    return [stream for stream, view in streams.items() if view in change.views]


KeyT = TypeVar("KeyT")


def _remove(index: dict[KeyT, dict[StreamT, str]], key: KeyT, stream: StreamT) -> None:
    streams = index.get(key)
    if streams is not None:
        streams.pop(stream, None)
        if not streams:
            del index[key]
