"""This process's session with ZooKeeper: connects when first used, begins anew when it must, turns errors into ours.

Used by `registry` and `subtree`. kazoo keeps the connection (two threads and one for callbacks, all of its own); when
a session is over and what watchers are told is decided here.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KazooState, KeeperState, WatchedEvent
from kazoo.retry import KazooRetry
from kazoo.security import ACL, CREATOR_ALL_ACL, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE

from meshsdk.discovery.following import RegistryClosed
from meshsdk.discovery.zookeeper.place import Place
from meshsdk.discovery.zookeeper.sockets import Sockets
from meshsdk.errors import RegistryError

_FRUITLESS = 3  # connections that were made and came to nothing, after which the session is given up
_CLOSING = 5.0  # seconds that `close` waits for kazoo's threads
_OVER = (KeeperState.CLOSED, KeeperState.AUTH_FAILED)
_ACLS: dict[str, list[ACL]] = {
    "open": OPEN_ACL_UNSAFE,
    "readable": [*CREATOR_ALL_ACL, *READ_ACL_UNSAFE],
    "private": CREATOR_ALL_ACL,
}

# kazoo reports each attempt to connect, which in an outage is a line a second, and at DEBUG each request with all its
# data. What matters of it is logged here, once; whoever wants the rest sets this logger's level.
_KAZOO_LOG = logging.getLogger("meshsdk.discovery.kazoo")
_KAZOO_LOG.setLevel(logging.ERROR)
_KAZOO_LOG.addFilter(lambda record: not any(type(part).__name__ == "Auth" for part in _arguments(record)))


def _arguments(record: logging.LogRecord) -> tuple[object, ...]:
    return record.args if isinstance(record.args, tuple) else ()


class Listener(Protocol):
    """Is told of events, on kazoo's threads: it must return at once."""

    def touched(self, path: str) -> None:
        """Something about `path` changed; it is not watched any more."""

    def lost(self) -> None:
        """The connection broke, or the registry is closed: no path is watched any more."""


class Session:
    """A session at `place`; a new one where the old one was lost. All methods may be called from any thread."""

    def __init__(self, place: Place, now: Callable[[], float] = time.monotonic) -> None:
        self.name = place.name
        self.ttl = place.session_timeout
        self._place = place
        self._now = now
        self._lock = threading.Lock()
        self._client: KazooClient | None = None  # guarded by _lock, as is all below
        self._sockets: Sockets | None = None
        self._live: Any = None  # kazoo's event: set while it is connected
        self._process = 0
        self._lost_at = 0.0
        self._closed = False
        self._listeners: dict[Listener, set[str]] = {}  # what each watches
        self._watched: dict[str, set[Listener]] = {}  # the same by path

    # -- asking -----------------------------------------------------------------------------------------------------

    @contextmanager
    def asking(self, verb: str) -> Iterator[KazooClient]:
        """Lends the connected client; what goes wrong, also with what the block asks of it, is a RegistryError."""
        try:
            yield self._connected()
        except KazooTimeoutError:
            raise RegistryError(f"cannot {verb} {self.name}: no answer within {self._place.timeout:g} s") from None
        except (KazooException, RuntimeError, struct.error) as error:  # the last two: what a server says makes no sense
            words = f"{type(error).__name__} {error}".strip()
            raise RegistryError(f"cannot {verb} {self.name}: {words}") from None

    def wait(self, result: Any) -> Any:
        """Returns what kazoo's asynchronous result holds, or raises what it raises; within `asking`."""
        return result.get(timeout=self._place.timeout)

    def _connected(self) -> KazooClient:
        with self._lock:
            if self._closed:
                raise RegistryClosed(f"the registry {self.name} is closed")
            if self._hopeless():
                self._abandon()
            if self._client is None:
                self._open()
            client, live = self._client, self._live
        if not live.wait(self._place.timeout):
            raise RegistryError(f"{self.name} cannot be reached")
        return client

    def _hopeless(self) -> bool:
        """Whether kazoo would go on for ever in vain.

        A server that lost its data refuses, without a word, a session that has seen more than it knows. That servers
        are away is no reason: when they are back, the session and what it holds may be there still.
        """
        if self._client is None or self._sockets is None:
            return False
        if self._process != os.getpid():
            return True
        away = 0.0 if self._live.is_set() else self._now() - self._lost_at
        if self._client.client_state in _OVER:  # a client that has only just been made says CLOSED as well
            return away > self._place.timeout
        return away > self._place.session_timeout and self._sockets.made >= _FRUITLESS

    def _open(self) -> None:
        """Begins to connect. Under the lock."""
        place = self._place
        credentials = place.credentials()
        sockets = Sockets(place.timeout, place.security())
        client = KazooClient(
            hosts=",".join(place.hosts),
            timeout=place.session_timeout,
            handler=sockets,
            default_acl=_ACLS[place.acl],
            auth_data=[("digest", credentials)] if credentials else None,
            # kazoo's own backoff grows to an hour.
            connection_retry=KazooRetry(max_tries=-1, delay=0.1, backoff=1.6, max_jitter=0.3, max_delay=2.0),
            logger=_KAZOO_LOG,
        )
        client.add_listener(lambda state: self._state_changed(client, sockets, state))
        self._client, self._sockets, self._process = client, sockets, os.getpid()
        self._lost_at = self._now()
        self._live = client.start_async()

    def _state_changed(self, client: KazooClient, sockets: Sockets, state: KazooState) -> None:
        """Called by kazoo's connection thread."""
        if state == KazooState.CONNECTED:
            sockets.made = 0
            return
        with self._lock:
            if client is not self._client:
                return
            self._lost_at = self._now()
        self._tell_lost()

    def _tell_lost(self) -> None:
        with self._lock:
            listeners = list(self._listeners)
            self._watched.clear()
            for paths in self._listeners.values():
                paths.clear()
        for listener in listeners:
            listener.lost()

    # -- watching ---------------------------------------------------------------------------------------------------

    def attach(self, listener: Listener) -> None:
        """Tells `listener` of losses from now on."""
        with self._lock:
            self._listeners.setdefault(listener, set())

    def detach(self, listener: Listener) -> None:
        """Tells it nothing any more."""
        with self._lock:
            for path in self._listeners.pop(listener, ()):
                self._forget(path, listener)

    def watching(self, path: str, listener: Listener) -> Callable[[WatchedEvent], None]:
        """Has `listener` told of the next event of `path`; returns what to give kazoo as the watch.

        That is one and the same function for all, so that kazoo keeps one watch a path however often it is renewed.
        """
        with self._lock:
            if listener in self._listeners:
                self._listeners[listener].add(path)
                self._watched.setdefault(path, set()).add(listener)
        return self._on_event

    def unwatch(self, path: str, listener: Listener) -> None:
        """The listener cares for `path` no more."""
        with self._lock:
            self._listeners.get(listener, set()).discard(path)
            self._forget(path, listener)

    def _forget(self, path: str, listener: Listener) -> None:
        watching = self._watched.get(path)
        if watching is not None:
            watching.discard(listener)
            if not watching:
                del self._watched[path]

    def _on_event(self, event: WatchedEvent) -> None:
        """Called by kazoo's callback thread. Events without a path are losses, told by `_state_changed`."""
        if event.path is None:
            return
        with self._lock:
            listeners = self._watched.pop(event.path, set())
            for listener in listeners:
                self._listeners[listener].discard(event.path)
        for listener in listeners:
            listener.touched(event.path)

    # -- ending -----------------------------------------------------------------------------------------------------

    def close(self, *, lapse: bool) -> None:
        """Ends the connection; idempotent. `lapse`: the session is left to run out, with all that it holds."""
        with self._lock:
            self._closed = True
            thread = self._abandon(lapse=lapse)
        self._tell_lost()
        if thread is not None:
            thread.join(_CLOSING)

    def _abandon(self, *, lapse: bool = True) -> threading.Thread | None:
        """Lets go of the client; returns the thread that ends it. Under the lock.

        In a forked child there is nothing to end: kazoo's threads stayed in the parent, and so does the connection.
        """
        client, sockets, self._client = self._client, self._sockets, None
        if client is None or sockets is None or self._process != os.getpid():
            return None

        def end() -> None:
            if lapse:
                sockets.cut()  # before `stop`, which would end the session and delete its nodes
            try:
                client.stop()
                client.close()
            except Exception as error:  # noqa: BLE001 - kazoo raises bare exceptions here; nobody is left to be told
                _KAZOO_LOG.warning("the connection to %s did not end in order: %s", self.name, error)

        thread = threading.Thread(target=end, name="meshsdk-zookeeper-close", daemon=True)
        thread.start()
        return thread
