"""Following all entries below a prefix: a listing, then every change, without a gap, across outages and compactions.

Used by the etcd registry and by the control plane's store, each on a thread of its own (`discovery.following`). It
keeps its place: after an outage it goes on from the last change seen; where etcd no longer has what came after that, or
is another store by now, it lists anew. It never waits to try again: that is the caller's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from meshsdk.discovery.etcd.client import EtcdClient
from meshsdk.discovery.etcd.methods import Compacted
from meshsdk.discovery.etcd.values import Batch, Listing
from meshsdk.discovery.etcd.watching import FellBehind, Watcher


class PrefixFollower:
    """One reader of a prefix. `news` is for one thread at a time; `interrupt` may be called from any."""

    def __init__(self, client: EtcdClient, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._cluster = 0  # owned by the reading thread, as is _revision
        self._revision: int | None = None  # everything up to here was read; None: nothing yet, or the place was lost
        self._lock = threading.Lock()
        self._watcher: Watcher | None = None  # guarded by _lock
        self._interrupted = threading.Event()

    def news(self) -> Iterator[Listing | Batch]:
        """Yields a Listing (all there is) unless the last place is still good, then batches; empty ones: "in touch".

        Ends when interrupted. Raises RegistryError when the connection breaks: call it again then. News that the caller
        failed on are yielded again at the next call.
        """
        while not self._interrupted.is_set():
            resumed = self._revision is not None
            if self._revision is None:
                listing = self._client.list(self._prefix)
                if self._interrupted.is_set():
                    return
                yield listing
                self._cluster, self._revision = listing.cluster, listing.revision
            try:
                yield from self._changes(self._revision, resumed)
            except (Compacted, FellBehind):
                self._revision = None
                if not resumed:  # it was listed just now: let the caller wait a moment
                    raise

    def interrupt(self) -> None:
        """Ends `news`, now and for ever; idempotent."""
        self._interrupted.set()
        with self._lock:
            watcher = self._watcher
        if watcher is not None:
            watcher.cancel()

    def _changes(self, place: int, resumed: bool) -> Iterator[Batch]:  # noqa: FBT001 - told once, two lines above
        watcher = self._client.watch(self._prefix, place + 1)
        try:
            with self._lock:
                self._watcher = watcher
            if self._interrupted.is_set():
                return
            batches = watcher.batches()
            first = next(batches, None)
            if first is None:
                return
            # A member that lags behind the listing is no other store: it catches up.
            if first.cluster != self._cluster or (resumed and first.revision < place):
                raise Compacted("the store is another one, or older than what was read from it")
            yield Batch(first.cluster, place)  # it stands; its own revision says nothing about what was sent
            for batch in batches:
                yield batch
                place = self._revision = max(place, batch.revision)
        finally:
            watcher.cancel()
