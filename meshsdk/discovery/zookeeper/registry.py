"""ZooKeeper as a registry: instances are ephemeral nodes, revisions and the service mapping persistent ones.

Layout: `entries`. Opened by `open_registry` for `zookeeper://` URLs. An instance lives as long as the session that made
its node, which kazoo keeps alive: `renew` asks whether that is still so. What another session left under the same name
is replaced: the node of a process that died lives on until its session runs out, and would vanish with it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

from meshsdk.discovery import entries, limits
from meshsdk.discovery.following import Following
from meshsdk.discovery.mirror import Mirror
from meshsdk.discovery.registry import Lease, LeaseLapsed, MalformedEntry
from meshsdk.discovery.watches import Watches
from meshsdk.discovery.zookeeper.session import Session
from meshsdk.discovery.zookeeper.subtree import Inbox, Subtree
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Increment, Instance, InstanceState, Revision

_ATTEMPTS = 5  # at a change that others interfere with
_QUIET = 0.02  # seconds in which events are collected before they are looked into
_MAX_DATA = 1_000_000  # bytes; servers break connections that send them 1 MiB (jute.maxbuffer)
_CLOSING = 1.0  # seconds that `close` waits for a watch under way


@dataclass(frozen=True, slots=True)
class _Held:
    """A registration of this process: its node, and what tells the node from a later one of the same name."""

    instance: Instance
    path: str
    owner: int  # session
    created: int  # transaction that made it

    def is_at(self, stat: Any) -> bool:
        """Whether the node that is there (None: none) is the one that was made."""
        return stat is not None and (stat.ephemeralOwner, stat.czxid) == (self.owner, self.created)


class ZooKeeperRegistry:
    """Implements `meshsdk.discovery.registry.Registry` on `session`, which it owns and closes."""

    def __init__(self, session: Session, prefix: str = entries.DEFAULT_PREFIX) -> None:
        self._session = session
        self._layout = entries.Layout(prefix)
        self._serial = itertools.count(1)
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}  # by lease id; guarded by _lock
        self._lease_of: dict[tuple[str, str], str] = {}  # (app, id) -> lease id; guarded by _lock
        self._watches: Watches[Following] = Watches(session.name)

    # -- instances --------------------------------------------------------------------------------------------------

    def register(self, instance: Instance, ttl: float) -> Lease:  # noqa: ARG002 - a session has one ttl for all
        """See `Registrar`. The ttl is that of the session (`session_timeout` of the URL), whatever is asked for."""
        if problem := limits.instance_problem(instance):
            raise RegistryError(problem)
        path, identity = self._layout.instance(instance), (instance.app, instance.id)
        with self._lock:
            old = self._held.get(self._lease_of.get(identity, ""))
        with self._session.asking(f"register {instance.app!r} at") as client:
            stat = self._place(client, path, entries.instance_to_text(instance))
            if old is not None and old.path != path:  # its unit changed
                self._remove(client, old)
        with self._lock:
            self._held.pop(self._lease_of.get(identity, ""), None)
            lease = Lease(f"{stat.ephemeralOwner:x}-{next(self._serial)}", self._session.ttl)
            self._lease_of[identity] = lease.id
            self._held[lease.id] = _Held(instance, path, stat.ephemeralOwner, stat.czxid)
        return lease

    def renew(self, lease: Lease) -> Lease:
        """See `Registrar`. Asks whether the node is there, and is of the session that this process has now."""
        held = self._holding(lease)
        with self._session.asking("renew a lease at") as client:
            self._node_of(client, lease, held)
        return lease

    def set_state(self, lease: Lease, state: InstanceState) -> None:
        """See `Registrar`."""
        held = self._holding(lease)
        text = entries.instance_to_text(replace(held.instance, state=state))
        with self._session.asking("set the state at") as client:
            for _ in range(_ATTEMPTS):
                stat = self._node_of(client, lease, held)
                try:
                    self._session.wait(client.set_async(held.path, text, version=stat.version))
                except (BadVersionError, NoNodeError):
                    continue
                return
        raise RegistryError(f"the instance of lease {lease.id} at {self._session.name} changes all the time")

    def deregister(self, lease: Lease) -> None:
        """See `Registrar`."""
        with self._lock:
            held = self._held.get(lease.id)
        if held is None:
            return
        with self._session.asking("deregister from") as client:
            self._remove(client, held)
        self._forget(lease)

    def _holding(self, lease: Lease) -> _Held:
        with self._lock:
            held = self._held.get(lease.id)
        if held is None:
            raise LeaseLapsed(f"lease {lease.id!r} is unknown, or was replaced by a later one")
        return held

    def _node_of(self, client: KazooClient, lease: Lease, held: _Held) -> Any:
        """Returns the node's stat; LeaseLapsed, and the lease is forgotten, when it is no longer held."""
        stat = self._session.wait(client.exists_async(held.path))
        if not held.is_at(stat) or stat.ephemeralOwner != _session_id(client):
            self._forget(lease)
            raise LeaseLapsed(f"the session at {self._session.name} that held {held.path} is over")
        return stat

    def _forget(self, lease: Lease) -> None:
        with self._lock:
            held = self._held.pop(lease.id, None)
            if held is not None and self._lease_of.get((held.instance.app, held.instance.id)) == lease.id:
                del self._lease_of[held.instance.app, held.instance.id]

    def _place(self, client: KazooClient, path: str, text: bytes) -> Any:
        """Makes the node of this session at `path`, in place of any other; returns its stat."""
        wait = self._session.wait
        for _ in range(_ATTEMPTS):
            stat = wait(client.exists_async(path))
            try:
                if stat is None:
                    wait(client.create_async(path, text, ephemeral=True))
                elif stat.ephemeralOwner == _session_id(client):
                    wait(client.set_async(path, text))
                else:
                    # One transaction: watchers, who read again when they are told, do not find it missing.
                    change = client.transaction()
                    change.delete(path, stat.version)
                    change.create(path, text, ephemeral=True)
                    wait(change.commit_async())
            except NoNodeError:
                wait(client.ensure_path_async(path.rpartition("/")[0]))
            except NodeExistsError:
                continue
            stat = wait(client.exists_async(path))
            if stat is not None and stat.ephemeralOwner == _session_id(client):
                return stat
        raise RegistryError(f"others write {path} at {self._session.name} all the time")

    def _remove(self, client: KazooClient, held: _Held) -> None:
        stat = self._session.wait(client.exists_async(held.path))
        if held.is_at(stat):
            try:
                self._session.wait(client.delete_async(held.path, version=stat.version))
            except NoNodeError:
                return  # it went by itself

    # -- revisions --------------------------------------------------------------------------------------------------

    def publish_revision(self, revision: Revision) -> None:
        """See `Catalog`. The revision itself is written last: where it is, its services are mapped."""
        if problem := limits.revision_problem(revision):
            raise RegistryError(problem)
        path, text = self._layout.revision(revision.app, revision.revision), entries.revision_to_text(revision)
        if len(text) > _MAX_DATA:
            raise RegistryError(f"revision {revision.revision!r} has {len(text)} bytes, ZooKeeper takes {_MAX_DATA}")
        with self._session.asking("publish a revision at") as client:
            if self._data(client, path) == text:
                return
            for service in entries.services_of(revision):
                self._session.wait(client.ensure_path_async(self._layout.service(service, revision.app)))
            self._session.wait(client.ensure_path_async(path))
            self._session.wait(client.set_async(path, text))

    def get_revision(self, app: str, revision: str) -> Revision | None:
        """See `Catalog`. MalformedEntry with the path for one that others left and that cannot be read."""
        path = self._layout.revision(app, revision)
        with self._session.asking("get a revision from") as client:
            text = self._data(client, path)
        if not text:  # none, or another process is just writing it
            return None
        try:
            return entries.revision_from_text(text)
        except MalformedEntry as error:
            raise MalformedEntry(f"{self._session.name}: entry {path}: {error}") from None

    def map_service(self, service: str) -> tuple[str, ...]:
        """See `Catalog`."""
        with self._session.asking("map a service at") as client:
            try:
                names = self._session.wait(client.get_children_async(self._layout.services(service).rstrip("/")))
            except NoNodeError:
                return ()
        return tuple(sorted(entries.last_segment(name) for name in names))

    def _data(self, client: KazooClient, path: str) -> bytes:
        try:
            data: bytes = self._session.wait(client.get_async(path))[0]
        except NoNodeError:
            return b""
        return data

    # -- watches ----------------------------------------------------------------------------------------------------

    def watch(self, app: str, unit: str, on_increment: Callable[[Increment], None]) -> Following:
        """See `Feed`. Called on a thread of the watch; after a loss of the connection everything is read again."""
        root = self._layout.instances(app, unit).rstrip("/")
        depth = 3 - bool(app) - bool(app and unit)  # levels of APP/UNIT/ID below the root
        mirror = Mirror(self._session.name, app, unit, self._decode, on_increment)

        def follow(following: Following) -> None:
            inbox = Inbox()
            self._session.attach(inbox)
            following.interruptible(inbox.lost)
            try:
                self._follow(following, inbox, mirror, root, depth)
            finally:
                self._session.detach(inbox)

        words = f"watch of {f'app {app!r}' if app else 'all apps'} at {self._session.name}"
        return self._watches.begin(Following(words, follow, skipped=lambda: mirror.skipped))

    def _follow(self, following: Following, inbox: Inbox, mirror: Mirror[bytes], root: str, depth: int) -> None:
        verb = f"list {root} at"
        with self._session.asking(verb) as client:
            subtree = Subtree(self._session, client, root, depth, inbox)
            present, _ = subtree.read([root])
        following.settled()
        mirror.reset(present)
        while following.live:
            inbox.wait()
            following.wait(_QUIET)
            with self._session.asking(verb):
                put, removed = subtree.read(inbox.take())
            if following.live:
                mirror.change(put, removed)

    def _decode(self, key: str, raw: bytes) -> Instance:
        instance = entries.instance_from_text(raw)
        if (instance.app, instance.unit, instance.id) != self._layout.instance_of(key):
            raise RegistryError(f"it is of app {instance.app!r}, unit {instance.unit!r}, id {instance.id!r}")
        return instance

    # -- ending -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """See `Registry`. A session that holds instances is left to run out, any other one is ended."""
        watches = self._watches.close()
        with self._lock:
            holds = bool(self._held)
        self._session.close(lapse=holds)
        for watch in watches:
            watch.join(_CLOSING)


def _session_id(client: KazooClient) -> int:
    """Returns the id of the client's session; -1, which owns no node, while it has none."""
    identity = client.client_id
    return int(identity[0]) if identity else -1
