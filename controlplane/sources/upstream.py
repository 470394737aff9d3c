"""Another control plane as a source of configuration: a client of its xDS (`--source xds://HOST:PORT`).

A thread reads one state-of-the-world stream; the plane takes the newest complete state under its lock, once a burst of
responses is over. What cannot be used is NACKed, type by type, and the last good state of that type stays; in an outage
all of it does. Decides nothing about precedence: that is `config.merge`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import grpc

from controlplane.admin.address import split_address
from controlplane.config.documents import Documents, join
from controlplane.server.debounce import Debounce
from controlplane.sources import wire
from meshsdk.discovery.following import Following, RegistryClosed
from meshsdk.errors import ConfigurationError, RegistryError

_QUIET, _MOST = 0.05, 0.5  # seconds: resources of several types that belong together come one after another
_MAX_MESSAGE = 64 * 1024 * 1024  # bytes
_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # core counts a minute for an answer, whatever the line above says
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    """How an upstream fares. `up`: it is followed, and all that it has told can be used as far as it goes by itself."""

    name: str
    up: bool
    resources: int
    problems: tuple[str, ...]


class Upstream:
    """Follows the control plane at `url` from `start` to `close`.

    Args:
        url: `xds://HOST:PORT`; also its name in messages.
        wake: called on the reader's thread when there is something to take.
        clock: monotonic seconds.

    Raises ConfigurationError where `url` is no such thing.
    """

    def __init__(self, url: str, wake: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        parts = urlsplit(url)
        if parts.scheme != "xds" or parts.path.strip("/") or parts.query:
            raise ConfigurationError(f"--source: {url!r} is not xds://HOST:PORT")
        try:
            host, _ = split_address(parts.netloc)
        except ConfigurationError:
            host = ""
        if not host:
            raise ConfigurationError(f"--source: {url!r} is not xds://HOST:PORT")
        self.name = url.rstrip("/")
        self._address = parts.netloc
        self._wake = wake
        self._clock = clock
        self._following = Following(
            f"configuration from {self.name}", self._follow, "what it told before stays in force"
        )
        self._channel: grpc.Channel | None = None  # owned by the caller of start and close
        self._garbled = False  # owned by the reader's thread: the last outage was a response that is none
        self._first = threading.Event()  # a complete state was taken
        self._lock = threading.Lock()  # guards all below
        self._documents: dict[str, Documents] = {}  # by type URL
        self._refused: dict[str, str] = {}  # by type URL: why its newest state is not used
        self._debounce = Debounce(_QUIET, _MOST)

    def start(self) -> None:
        """Begins to follow."""
        self._channel = grpc.insecure_channel(self._address, _OPTIONS)
        self._following.start()

    def close(self) -> None:
        """Ends it. Idempotent."""
        self._following.cancel()
        if self._channel is not None:
            self._channel.close()

    def wait_told(self, seconds: float) -> bool:
        """Waits until the first complete state was taken; returns whether it was."""
        return self._first.wait(seconds)

    def take(self, now: float) -> Documents | None:
        """Returns the newest state unless it was taken; None as well while it is incomplete or still moves."""
        with self._lock:
            if len(self._documents) < len(wire.KINDS) or not self._debounce.due(now):
                return None
            every = list(self._documents.values())
        self._first.set()
        return join(every)  # what had problems was not taken

    def next_deadline(self) -> float | None:
        """Returns when `take` should be called though nothing is told."""
        with self._lock:
            return self._debounce.deadline if len(self._documents) == len(wire.KINDS) else None

    def status(self) -> UpstreamStatus:
        """Returns how it fares."""
        with self._lock:
            refused = tuple(self._refused.values())
            count = sum(len(each.entries) for each in self._documents.values())
            complete = len(self._documents) == len(wire.KINDS)
        kept = "its last good configuration stays in force" if complete else "nothing of it is in force yet"
        broken = self._following.problem or ("" if complete or refused else "has not told everything yet")
        problems = (*((f"{broken}; {kept}",) if broken else ()), *refused)
        return UpstreamStatus(self.name, not problems, count, problems)

    # -- the reader's thread ----------------------------------------------------------------------------------------

    def _follow(self, following: Following) -> None:
        requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        answered: set[str] = set()  # type URLs, on this stream
        node = f"meshctl-{id(self):x}"
        for type_url in wire.KINDS:
            requests.put(wire.request(type_url, node))
        try:
            call = self._stream(_until_none(requests))
            following.interruptible(call.cancel)
            for raw in call:
                found = self._read(raw)
                answered.add(found.type_url)
                requests.put(self._answer(found, node))
                self._judge(following, found, complete=len(answered) == len(wire.KINDS))
        except grpc.RpcError as error:
            raise RegistryError(f"{error.code().name}: {error.details()}") from None
        except ValueError as error:
            if self._channel_closed(error):
                raise RegistryClosed(str(error)) from None
            raise RegistryError(str(error)) from None
        finally:
            requests.put(None)
        raise RegistryError("the stream ended")

    def _stream(self, requests: Iterator[bytes]) -> Any:
        if self._channel is None:
            raise RegistryClosed("not started")
        stream: Any = self._channel.stream_stream(wire.METHOD)
        return stream(requests)

    def _channel_closed(self, error: ValueError) -> bool:
        return not self._following.live or "closed channel" in str(error)

    def _read(self, raw: bytes) -> wire.Response:
        try:
            return wire.response(raw, self.name)
        except ValueError:
            self._garbled = True
            raise

    def _judge(self, following: Following, found: wire.Response, *, complete: bool) -> None:
        """Ends an outage with the first response that is accepted; one by garbage, once nothing is left to follow it.

        Else one that sends garbage after something good would be dialled, and logged, over and over.
        """
        if complete:
            self._garbled = False
        if not found.documents.problems and not self._garbled:
            following.settled()

    def _answer(self, found: wire.Response, node: str) -> bytes:
        """Takes a response over, or refuses it; returns the ACK or the NACK."""
        with self._lock:
            if found.documents.problems:
                first, more = found.documents.problems[0], len(found.documents.problems) - 1
                words = f"{first}{f' (and {more} more)' if more else ''}"
                self._refused[found.type_url] = f"{words}; the last good {found.type_url} stay in force"
                # The version of the last good state, as a NACK repeats it, matters to no server that goes by nonces.
                return wire.request(found.type_url, node, nonce=found.nonce, error=words)
            self._refused.pop(found.type_url, None)
            self._documents[found.type_url] = found.documents
            self._debounce.note(self._clock())
        self._wake()
        return wire.request(found.type_url, node, found.version, found.nonce)


def _until_none(requests: queue.SimpleQueue[bytes | None]) -> Iterator[bytes]:
    while (request := requests.get()) is not None:
        yield request
