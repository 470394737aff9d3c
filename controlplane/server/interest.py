"""Which streams want what: the index that lets a change wake only the streams it concerns. Pure.

Kept by `service` from the machines' `Shift`s; asked once per commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from controlplane.server.resource_map import Change
from controlplane.server.subscription import Shift

StreamT = TypeVar("StreamT")


@dataclass(slots=True)
class _View(Generic[StreamT]):
    """The streams of one view. Empty sets are removed, so that what nobody wants any more costs nothing."""

    named: dict[tuple[str, str], set[StreamT]] = field(default_factory=dict)  # by (type URL, name)
    wild: dict[str, set[StreamT]] = field(default_factory=dict)  # by type URL


class Interest(Generic[StreamT]):
    """Mutable; owned by the server's loop thread."""

    def __init__(self) -> None:
        self._views: dict[str, _View[StreamT]] = {}

    def apply(self, view: str, stream: StreamT, shift: Shift) -> None:
        """Books how a request of `stream` moved one of its subscriptions."""
        known = self._views.setdefault(view, _View())
        for name in shift.dropped:
            _remove(known.named, (shift.type_url, name), stream)
        for name in shift.added:
            known.named.setdefault((shift.type_url, name), set()).add(stream)
        if shift.wildcard:
            known.wild.setdefault(shift.type_url, set()).add(stream)
        elif shift.wildcard is False:
            _remove(known.wild, shift.type_url, stream)

    def drop(self, view: str, stream: StreamT, names: Mapping[str, Iterable[str]]) -> None:
        """Forgets a stream that held these names by type."""
        known = self._views.get(view)
        if known is None:
            return
        for type_url, held in names.items():
            _remove(known.wild, type_url, stream)
            for name in held:
                _remove(known.named, (type_url, name), stream)
        if not known.named and not known.wild:
            del self._views[view]

    def affected(self, change: Change) -> Iterator[tuple[StreamT, str, str]]:
        """Yields (stream, type URL, name) for each name that a stream wants; name "" for one that wants them all."""
        if change.view is None:
            views = list(self._views.values())
        else:
            views = [self._views[change.view]] if change.view in self._views else []
        for view in views:
            for type_url, names in change.names.items():
                for stream in view.wild.get(type_url, ()):
                    yield stream, type_url, ""
                for name in names:
                    for stream in view.named.get((type_url, name), ()):
                        yield stream, type_url, name


KeyT = TypeVar("KeyT")


def _remove(index: dict[KeyT, set[StreamT]], key: KeyT, stream: StreamT) -> None:
    streams = index.get(key)
    if streams is not None:
        streams.discard(stream)
        if not streams:
            del index[key]
