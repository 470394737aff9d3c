"""One ADS stream over grpcio's synchronous API, with the thread that reads it.

Opened, fed and closed by the driver; tells the driver what happened by events. It carries and decides nothing.

Each stream has a channel of its own: a new attempt connects anew at once, when the machine's backoff says so and not
when a shared channel's own backoff allows it, and certificate files are read again (A65).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc

from meshsdk.bootstrap import ServerConfig, TlsCredentials, Transport
from meshsdk.xds_client.recording import Tap
from meshsdk.xds_client.wire import METHODS

_LARGEST_MESSAGE = 128 * 1024 * 1024  # bytes; 100,000 endpoints in one resource take about 8 MB
_UNREAD = 2  # messages on their way to the driver; beyond them HTTP/2 flow control holds the server back


@dataclass(frozen=True, slots=True)
class Connected:
    """The first request has left this host (A57: timers may start)."""

    stream: AdsStream


@dataclass(frozen=True, slots=True)
class Message:
    """A whole response. The driver calls `stream.more()` when it has dealt with it."""

    stream: AdsStream
    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The stream is over; `code` is the name of a gRPC status."""

    stream: AdsStream
    code: str
    details: str


StreamEvent = Connected | Message | Ended


class _Requests:
    """The request iterator. grpcio takes from it on a thread of its own, one at a time.

    C-core completes a send when the transport has taken the message, and grpcio asks for the next only then: the
    second call of `__next__` is the sign that A57 prefers for "connected and dispatched".
    """

    def __init__(self, on_first_sent: Callable[[], None]) -> None:
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._on_first_sent = on_first_sent
        self._handed_out = 0  # only grpcio's thread reads and writes it

    def put(self, data: bytes | None) -> None:
        """Adds a request; None ends the iteration and lets grpcio's thread go."""
        self._queue.put(data)

    def __iter__(self) -> _Requests:
        return self

    def __next__(self) -> bytes:
        if self._handed_out == 1:
            self._on_first_sent()
        self._handed_out += 1
        data = self._queue.get()
        if data is None:
            raise StopIteration
        return data


class AdsStream:
    """A stream that is being opened from the moment of construction. Methods are for the driver thread.

    `let_go` is given the connection (`channel`, None where there is none) at the end, to close it or to use it on.
    `post` is called from the stream's threads. What cannot be opened at all (no such certificate file) ends like one
    that failed: by an event.
    """

    def __init__(
        self,
        server: ServerConfig,
        transport: Transport,
        post: Callable[[StreamEvent], None],
        connect_timeout: float,
        let_go: Callable[[grpc.Channel], None] = grpc.Channel.close,
        tap: Tap | None = None,
    ) -> None:
        """`tap` is told every message, both ways."""
        self._tap = tap
        self._post = post
        self._let_go = let_go
        self._permits = threading.Semaphore(_UNREAD)
        self._requests = _Requests(lambda: post(Connected(self)))
        self.channel: grpc.Channel | None = None
        self._call: Any = None  # an iterator of responses and a Call
        self._reader: threading.Thread | None = None
        self._closed = False  # written by the driver, read by the reader: ends its last wait
        try:
            self.channel = _channel(server, connect_timeout)
        except (OSError, ValueError) as error:
            post(Ended(self, "UNAVAILABLE", str(error)))
            return
        start: Any = self.channel.stream_stream(METHODS[transport])  # messages are bytes on both ways
        self._call = start(self._requests)
        self._reader = threading.Thread(target=self._read, name="meshsdk-ads-reader", daemon=True)
        self._reader.start()

    def send(self, data: bytes) -> None:
        """Queues a serialised request; never blocks."""
        if self._tap is not None:
            self._tap("client", data)
        self._requests.put(data)

    def more(self) -> None:
        """One message has been dealt with."""
        self._permits.release()

    def close(self) -> None:
        """Ends the stream and its connection; never blocks. The reader ends soon after, see `join`."""
        self._closed = True
        self._requests.put(None)
        self._permits.release()
        if self._call is not None:
            self._call.cancel()
        if self.channel is not None:
            self._let_go(self.channel)

    def ended(self) -> bool:
        """Says whether the reader thread of a closed stream has ended."""
        return self._reader is None or not self._reader.is_alive()

    def join(self, timeout: float) -> None:
        """Waits for the reader thread of a closed stream."""
        if self._reader is not None:
            self._reader.join(timeout)

    def _read(self) -> None:
        code, details = "OK", "the server ended the stream"
        try:
            for data in self._call:
                self._permits.acquire()
                if self._closed:
                    return
                if self._tap is not None:
                    self._tap("server", data)
                self._post(Message(self, data))
                del data  # or the last message, perhaps of megabytes, would stay until the next one comes
        except grpc.RpcError as error:
            code, details = _status(error)
        self._post(Ended(self, code, details))


def _status(error: Any) -> tuple[str, str]:
    """Code and details of an RpcError; grpcio's, which its types do not say, is also a Call."""
    return error.code().name, error.details() or ""


def _channel(server: ServerConfig, connect_timeout: float) -> grpc.Channel:
    """Makes the channel; raises OSError for a certificate file that cannot be read."""
    options = [
        ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
        # A connection of its own, see the module's docstring.
        ("grpc.use_local_subchannel_pool", 1),
        # C-core takes the connection timeout from here.
        ("grpc.min_reconnect_backoff_ms", int(connect_timeout * 1000)),
        # A peer that vanished without a word is noticed; five minutes is what servers allow by default.
        ("grpc.keepalive_time_ms", 300_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.ping_timeout_ms", 20_000),  # core counts a minute for an answer, whatever the line above says
    ]
    if isinstance(server.credentials, TlsCredentials):
        return grpc.secure_channel(server.uri, _tls(server.credentials), options)
    return grpc.insecure_channel(server.uri, options)


def _tls(credentials: TlsCredentials) -> grpc.ChannelCredentials:
    def read(path: str | None) -> bytes | None:
        return None if path is None else Path(path).read_bytes()

    return grpc.ssl_channel_credentials(
        root_certificates=read(credentials.ca_file),
        private_key=read(credentials.key_file),
        certificate_chain=read(credentials.certificate_file),
    )
