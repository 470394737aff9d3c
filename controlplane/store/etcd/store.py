"""`EtcdStore`: resources, instances and revisions in etcd, shared by the control planes that run on it.

A thread reads what changes below the prefix and queues it; the plane takes it over under its lock (`drain`), in etcd's
order, what this control plane wrote included. So every control plane goes through the same states. Resources are
written against the generation that the writer knew: of two at once, one plans anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from controlplane.model.identity import ResourceId
from controlplane.registries.leases import Change
from controlplane.store.etcd.contents import Contents
from controlplane.store.etcd.layout import StoreLayout, row_text
from controlplane.store.etcd.presence import Presence
from controlplane.store.etcd.registrar import EtcdRegistrar
from controlplane.store.port import StoredResource, StoreError
from controlplane.store.shared import Drained, StoreConflict
from meshsdk.discovery.etcd.client import EtcdClient
from meshsdk.discovery.etcd.methods import OutcomeUnknown
from meshsdk.discovery.etcd.prefix import PrefixFollower
from meshsdk.discovery.etcd.registry import EtcdRegistry
from meshsdk.discovery.etcd.values import Batch, Delete, Listing, Put, Unchanged
from meshsdk.discovery.etcd.values import Change as KeyChange
from meshsdk.discovery.following import Following
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance

_LOG = logging.getLogger(__name__)
_PATIENCE = 5.0  # times the timeout of a call, at the start, for etcd to answer
_CATCH_UP = 3.0  # seconds for what was written to be read


class EtcdStore:
    """Implements `controlplane.store.shared.SharedStore` on `client`, which it owns.

    All keys are below `prefix`. `timeout`: seconds of a call of the client. `grace`: see `contents`.
    """

    def __init__(self, client: EtcdClient, prefix: str, timeout: float, grace: float) -> None:
        self._timeout = timeout
        self._client = client
        self._layout = StoreLayout(prefix)
        self._lock = threading.Condition()  # guards _contents; told of each drain
        self._contents = Contents(client.name, prefix, grace)
        self._news: deque[Listing | Batch] = deque()  # filled by the reader, emptied by `drain`
        self._read = threading.Condition()  # told of each piece of news
        self._generation_read: int | None = None  # guarded by _read; None until something was read
        self._follower = PrefixFollower(client, f"{prefix}/")
        self._following = Following(
            f"the store {client.name}", self._follow, "what was read from it before stays in force"
        )
        self._presence = Presence(client, self._layout, self._restore)
        self._registry = EtcdRegistry(client, prefix)
        self._wake: Callable[[], None] = lambda: None  # written by start, before the threads run
        self.registrar = EtcdRegistrar(client, self._registry, self._contents, self._lock, self._presence)

    def start(self, wake: Callable[[], None]) -> None:
        """See `SharedStore`. Raises StoreError where etcd does not answer: there is no state to go on with."""
        self._wake = wake
        self._following.start()
        self._presence.start()
        if not self._wait_read(lambda found: found is not None, _PATIENCE * self._timeout):
            problem = self._following.problem or self._presence.problem or "no answer"
            self.close()
            raise StoreError(f"the store {self._client.name} cannot be read: {problem}")
        self.drain(time.monotonic())

    def resources(self) -> list[StoredResource]:
        """See `SharedStore`."""
        with self._lock:
            return self._contents.rows()

    @property
    def generation(self) -> int:
        """See `SharedStore`."""
        with self._lock:
            return self._contents.generation

    def change_resources(self, put: list[StoredResource], removed: list[ResourceId], generation: int) -> None:
        """See `SharedStore`."""
        changes: list[KeyChange] = [Put(self._layout.resource(row.id), row_text(row)) for row in put]
        changes += [Delete(self._layout.resource(identity)) for identity in removed]
        changes.append(Put(self._layout.generation, str(time.time()).encode()))
        try:
            self._presence.check()
            done = self._client.commit(changes, [Unchanged(self._layout.generation, generation)])
        except RegistryError as error:
            raise StoreError(_words(error)) from None
        if done.done:
            self._wait_read(lambda found: found is not None and found >= done.revision, _CATCH_UP)
            return
        self._wait_read(lambda found: found != generation, _CATCH_UP)
        raise StoreConflict(f"another control plane changed the configuration in {self._client.name} first")

    def drain(self, now: float) -> Drained:
        """See `SharedStore`."""
        instances: list[Change] = []
        put: dict[ResourceId, StoredResource] = {}
        removed: dict[ResourceId, None] = {}
        with self._lock:
            if self._presence.late(now) or self._following.problem:
                self._contents.wary(now)
            while self._news:
                drained = self._contents.take(self._news.popleft(), now)
                instances += drained.instances
                for identity in drained.removed:
                    put.pop(identity, None)
                    removed[identity] = None
                for row in drained.put:
                    removed.pop(row.id, None)
                    put[row.id] = row
            instances += self._contents.tick(now)
            self._lock.notify_all()
        return Drained(tuple(instances), tuple(put.values()), tuple(removed))

    def next_deadline(self) -> float | None:
        """See `SharedStore`."""
        with self._lock:
            return self._contents.next_deadline()

    @property
    def instances(self) -> Mapping[str, Mapping[str, Instance]]:
        """See `SharedStore`."""
        return self._contents.instances

    def counts(self) -> dict[str, int]:
        """See `SharedStore`."""
        with self._lock:
            return self._contents.counts()

    def problem(self) -> str:
        """See `SharedStore`."""
        return self._presence.problem or self._following.problem

    def facts(self) -> dict[str, object]:
        """See `SharedStore`."""
        with self._lock:
            return {
                "replicas": self._contents.replicas,
                "revision": self._contents.revision,
                "held": self._contents.held,
                "skipped": self._contents.skipped,
            }

    def close(self) -> None:
        """See `SharedStore`."""
        self._presence.stop()
        self._following.cancel()
        self._client.close()

    # -- the reader's thread ----------------------------------------------------------------------------------------

    def _follow(self, following: Following) -> None:
        following.interruptible(self._follower.interrupt)
        for news in self._follower.news():
            following.settled()
            self._note(news)
            self._wake()

    def _note(self, news: Listing | Batch) -> None:
        entries = news.entries if isinstance(news, Listing) else news.put
        generation = entries.get(self._layout.generation)
        with self._read:
            self._news.append(news)
            if generation is not None:
                self._generation_read = generation.revision
            elif isinstance(news, Listing):
                self._generation_read = 0
            self._read.notify_all()

    def _wait_read(self, wanted: Callable[[int | None], bool], seconds: float) -> bool:
        """Waits until news of a wanted generation was read, or for as long as it is worth."""
        with self._read:
            return self._read.wait_for(lambda: wanted(self._generation_read), seconds)

    # -- the thread of the presence ---------------------------------------------------------------------------------

    def _restore(self) -> None:
        """Gives the store back the resources that it has lost. One of the control planes that see it does so."""
        with self._lock:
            rows = self._contents.rows() if self._contents.lost else []
        if not rows:
            return
        changes: list[KeyChange] = [Put(self._layout.resource(row.id), row_text(row)) for row in rows]
        changes.append(Put(self._layout.generation, str(time.time()).encode()))
        done = self._client.commit(changes, [Unchanged(self._layout.generation, 0)])
        if done.done:
            _LOG.warning("%d resources were written back to %s", len(rows), self._client.name)


def _words(error: RegistryError) -> str:
    text = str(error)
    if isinstance(error, OutcomeUnknown):
        return f"{text}; it is not known whether the change was made: look with meshctl get, and make it again if not"
    if "too many operations" in text:
        return f"{text}; apply smaller files, or start etcd with a larger --max-txn-ops"
    if "too large" in text:
        return f"{text}; apply smaller files, or start etcd with a larger --max-request-bytes"
    return f"{text}; nothing can be changed while the store is away"
