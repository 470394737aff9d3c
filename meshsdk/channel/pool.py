"""Connections to endpoints, shared by all targets of one façade scope (the sync side of a mesh, or one event loop).

A `Connection` is one grpc channel to one address under one authority. Balancers acquire and release connections; a
released one finishes its calls before `sweep` closes it. Nothing here decides which endpoint a call takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

from meshsdk.channel.attempt_watch import EndpointWatch
from meshsdk.lb.backend import Backend, Connectivity
from meshsdk.model.endpoints import Endpoint
from meshsdk.xds_client.load_counts import Place, Tally

_IPV4 = re.compile(r"[0-9.]+:[0-9]+")
_NAMED = re.compile(r"[A-Za-z0-9_.-]+:[0-9]{1,5}")  # no name ends in a label of digits alone (RFC 1123 section 2.1)


def endpoint_target(address: str) -> str:
    """Returns what grpc dials: `ip:port` becomes `ipv4:ip:port`, so that no resolver runs, `name:port` `dns:///name:port`.

    What has a scheme keeps it; a host whose name is that of a scheme (`unix:80`) is a host.
    """
    if address.startswith("["):
        return f"ipv6:{address}"
    if _IPV4.fullmatch(address):
        return f"ipv4:{address}"
    return f"dns:///{address}" if _NAMED.fullmatch(address) else address


class Link(Protocol):
    """A grpc or grpc.aio channel as the pool sees it."""

    @property
    def channel(self) -> Any:
        """The channel that calls are made on."""

    @property
    def ready(self) -> Callable[[], bool]:
        """Tells whether a call sent now goes out at once; asked by every call."""

    def probe(self) -> Connectivity:
        """Tells the state now without blocking, and makes an idle channel start to connect."""

    def close(self) -> None:
        """Closes the channel; calls still running on it are cancelled."""


_IDLE_BEFORE_CLOSE = 5.0  # seconds
_LONGEST_FAREWELL = 60.0  # seconds that an announced end counts; four drains
NOBODY = Tally(Place((), ""))  # counts what nobody is told


class _Gone:
    """The link of a connection that was abandoned."""

    channel: Any = None

    def ready(self) -> bool:
        """Never."""
        return False

    def probe(self) -> Connectivity:
        """See `Link.probe`."""
        return Connectivity.FAILED

    def close(self) -> None:
        """There is nothing to close."""


_GONE = _Gone()


class Connection:
    """One pooled link.

    Thread rules: `calls` is appended to and popped from by any thread (both are atomic, with and without the GIL), its
    length is the number of calls in flight. `draining` is set by any thread, cleared under the lock of the pool's
    owner. `users`, `idle_since` (monotonic seconds, once it has left the pool) and `_announced` (when `draining` was
    first seen) are guarded by that lock.
    """

    __slots__ = (
        "_announced",
        "address",
        "authority",
        "begin",
        "calls",
        "draining",
        "end",
        "idle_since",
        "link",
        "ready",
        "users",
        "where",
    )

    def __init__(self, address: str, authority: str, link: Link) -> None:
        """Takes a link that has just been made; `users` counts the balancers that hold it."""
        self.address = address
        self.where = endpoint_target(address)
        self.authority = authority
        self.link = link
        self.ready = link.ready
        self.calls: list[None] = []
        self.begin: Callable[[None], None] = self.calls.append
        self.end: Callable[[], None] = self.calls.pop
        self.draining = False
        self._announced: float | None = None
        self.users = 0
        self.idle_since = 0.0

    def probe(self) -> Connectivity:
        """Tells the state and keeps the connection up; a peer that announced its end counts anew once it reconnects."""
        state = self.link.probe()
        if self.draining and state is not Connectivity.READY:
            self.stays()
        return state

    def leaving(self, now: float) -> bool:
        """Tells whether the peer announced its end, not long ago: one that serves long after that has stayed."""
        if not self.draining:
            return False
        if self._announced is None:
            self._announced = now
        elif now - self._announced >= _LONGEST_FAREWELL:
            self.stays()
        return self.draining

    def stays(self) -> None:
        """An announced end is off: the peer is another one, or online again."""
        self.draining, self._announced = False, None


class PooledBackend(Backend):
    """A backend of one balancer over a pooled connection, whose calls in flight it counts.

    `tally`: where its calls are counted for load reports; set by the balancer (`tallies`), read by any thread.
    """

    __slots__ = ("connection", "tally")
    watch: EndpointWatch | None

    def __init__(self, endpoint: Endpoint, connection: Connection) -> None:
        """Binds the endpoint (its weight and health in this cluster) to the shared connection."""
        super().__init__(endpoint, connection.calls)
        self.connection = connection
        self.tally = NOBODY

    def follow(self, state: Connectivity) -> bool:
        """Takes the connection's state; returns whether the backend's changed. FAILED lasts until READY (gRFC A62)."""
        if self.state is state or (self.state is Connectivity.FAILED and state is not Connectivity.READY):
            return False
        self.state = state
        if state is Connectivity.READY and self.watch is not None:
            self.watch.reconnected()
        return True


class Pool:
    """Connections by (address, authority). Owned by one scope and guarded by its lock."""

    def __init__(self, dial: Callable[[str, str], Link]) -> None:
        """`dial(address, authority)` makes a link without blocking."""
        self._dial = dial
        self._connections: dict[tuple[str, str], Connection] = {}
        self._leaving: list[Connection] = []

    def acquire(self, address: str, authority: str) -> Connection:
        """Returns the connection, made if there is none; the caller must `release` it."""
        key = (address, authority)
        connection = self._connections.get(key)
        if connection is None:
            connection = self._connections[key] = Connection(address, authority, self._dial(address, authority))
        connection.users += 1
        return connection

    def release(self, connection: Connection, now: float, *, cut: bool = False) -> None:
        """Gives the connection back at `now` (monotonic); with its last user gone it leaves and closes once idle.

        `cut`: the channel itself was closed, so calls still running end CANCELLED, as `grpc.Channel.close` says.
        """
        connection.users -= 1
        if connection.users == 0:
            del self._connections[connection.address, connection.authority]
            if cut:
                connection.link.close()
            else:
                connection.idle_since = now
                self._leaving.append(connection)

    def sweep(self, now: float) -> bool:
        """Closes left connections that have been idle for a while; returns whether some are still to be closed.

        The while covers a call that picked the connection just before it left and has not begun on it yet.
        """
        staying = []
        for connection in self._leaving:
            if connection.calls:
                connection.idle_since = now
            if now - connection.idle_since < _IDLE_BEFORE_CLOSE:
                staying.append(connection)
            else:
                connection.link.close()
        self._leaving = staying
        return bool(staying)

    def close(self) -> None:
        """Closes every connection at once; calls on them end CANCELLED, as `grpc.Channel.close` says."""
        for connection in (*self._connections.values(), *self._leaving):
            connection.link.close()
        self._connections.clear()
        self._leaving.clear()

    def forget(self) -> None:
        """Drops all without closing: after a fork the links are the parent's."""
        self._connections = {}
        self._leaving = []

    def abandon(self) -> None:
        """Drops all with the event loop that they were made in, which is closed: nothing can be closed on it any more.

        The native channels go now, whoever still holds a connection: grpc.aio deals with the ends of a closed loop's
        calls in the next loop, each an error on stderr, unless its last channel went in between.
        """
        for connection in (*self._connections.values(), *self._leaving):
            connection.link = _GONE
            connection.ready = _GONE.ready
        self.forget()

    def __len__(self) -> int:
        return len(self._connections)
