"""A Consul agent's HTTP API: one request, one answer. Used by `registry` and the watches.

The standard library's client does: its connection can be shut from another thread, which ends a watch that waits at
the agent for a minute; and nothing of it is in the way of ten simple requests. Decides nothing about what is asked.
"""

from __future__ import annotations

import http.client
import json
import logging
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from meshsdk.discovery.consul.place import Place
from meshsdk.discovery.following import RegistryClosed
from meshsdk.errors import RegistryError

_LOG = logging.getLogger("meshsdk.discovery")
_MAX_ANSWER = 256 * 1024 * 1024  # bytes: 100,000 instances of 2 kB, and some
_MAX_WORDS = 200  # characters of an agent's error in a message
_OK, _REFUSED, _NOT_FOUND = 200, 403, 404
Query = Mapping[str, str]


class NotFound(RegistryError):
    """The agent does not know what was named."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`index`: of the state that was answered from, as blocking queries want it; 0 where none was told."""

    index: int
    body: bytes

    def json(self) -> object:
        """Returns what the body says; RegistryError if it is no JSON."""
        try:
            return json.loads(self.body) if self.body else None
        except (ValueError, RecursionError) as error:
            raise RegistryError(f"an answer is not JSON: {error}") from None


class Agent:
    """The agent at `place`. All methods may be called from any thread."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.name = place.name
        self._closed = False  # written once, by `close`

    def ask(self, method: str, path: str, query: Query | None = None, body: bytes | None = None) -> Answer:
        """Asks on a connection of its own. Raises NotFound, and RegistryError for all else that is not 200."""
        line = self.line()
        try:
            return line.ask(method, path, query or {}, body)
        finally:
            line.close()

    def line(self) -> Line:
        """Returns a connection for many requests, one after the other."""
        if self._closed:
            raise RegistryClosed(f"the registry {self.name} is closed")
        return Line(self.place)

    def reads(self) -> dict[str, str]:
        """Returns the parameters that every read carries: datacenter and consistency."""
        query = {"dc": self.place.dc} if self.place.dc else {}
        return query if self.place.consistency == "default" else {**query, self.place.consistency: ""}

    def close(self) -> None:
        """Refuses what is asked from now on."""
        self._closed = True


class Line:
    """A connection, made when first used and made again when it broke. One thread asks; any may interrupt."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._token = place.token()
        self._security = place.security()
        self._lock = threading.Lock()
        self._interrupted = False  # guarded by _lock
        self._connection: http.client.HTTPConnection | None = None  # written by the asking thread, under _lock

    def ask(
        self, method: str, path: str, query: Query | None = None, body: bytes | None = None, *, wait: float = 0.0
    ) -> Answer:
        """Returns the answer to a request that the agent may hold for `wait` seconds. Raises as `Agent.ask` does."""
        target = f"{path}?{urlencode(query)}" if query else path
        headers = {"X-Consul-Token": self._token} if self._token else {}
        try:
            connection = self._connected()
            connection.sock.settimeout(self._place.timeout + wait)
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            text = response.read(_MAX_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            words = str(error) or type(error).__name__
            raise RegistryError(f"{method} {path} at {self._place.name}: {words}") from None
        if len(text) > _MAX_ANSWER:
            self.close()
            raise RegistryError(f"{method} {path} at {self._place.name}: the answer has more than {_MAX_ANSWER} bytes")
        if response.status == _OK:
            return Answer(_index(response.getheader("X-Consul-Index")), text)
        words = text[:_MAX_WORDS].decode("utf-8", "replace").strip()
        problem = f"{method} {path} at {self._place.name}: {response.status} {words}"
        if response.status == _NOT_FOUND:
            raise NotFound(problem)
        if response.status == _REFUSED:
            raise RegistryError(f"{problem} (the token's policy must allow it: token_file or CONSUL_HTTP_TOKEN)")
        raise RegistryError(problem)

    def interrupt(self) -> None:
        """Breaks what waits, and refuses what is asked from now on."""
        with self._lock:
            self._interrupted = True
            connection = self._connection
        if connection is not None and not _shut_by_agent(connection):
            _shut(connection.sock)

    def close(self) -> None:
        """Closes the connection; the next request makes another."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> http.client.HTTPConnection:
        self._refuse_if_interrupted()
        connection = self._connection
        if connection is None:
            connection = self._new()
            connection.connect()
            with self._lock:
                self._connection = connection
            self._refuse_if_interrupted()
        elif _shut_by_agent(connection):
            connection.connect()
        return connection

    def _refuse_if_interrupted(self) -> None:
        with self._lock:
            if self._interrupted:
                raise RegistryError("interrupted")

    def _new(self) -> http.client.HTTPConnection:
        place = self._place
        if self._security is None:
            return http.client.HTTPConnection(place.host, place.port, timeout=place.timeout)
        return http.client.HTTPSConnection(place.host, place.port, timeout=place.timeout, context=self._security)


def segment(text: str) -> str:
    """Quotes a name for one segment of a path."""
    return quote(text, safe="")


def _shut_by_agent(connection: http.client.HTTPConnection) -> bool:
    """Whether the agent closed it after its last answer. Typeshed has it that there always is a socket."""
    sock: socket.socket | None = connection.sock
    return sock is None


def _index(header: str | None) -> int:
    try:
        return max(0, int(header or "0"))
    except ValueError:
        return 0


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        _LOG.debug("a connection was broken already: %s", error)
