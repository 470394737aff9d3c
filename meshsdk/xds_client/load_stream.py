"""One LRS stream over the connection of an ADS stream, with the thread that reads it. Carries, decides nothing.

Opened, fed and closed by `load_reporter`; tells it what happened by events.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import grpc


@dataclass(frozen=True, slots=True)
class Ordered:
    """A response of the server."""

    stream: LoadStream
    data: bytes


@dataclass(frozen=True, slots=True)
class Over:
    """The stream has ended; `code` is the name of a gRPC status."""

    stream: LoadStream
    code: str
    details: str


StreamEvent = Ordered | Over


class LoadStream:
    """A stream that is being opened from the moment of construction. Methods are for one thread.

    `post` is called from the stream's reader. Raises ValueError where the connection was closed, and RuntimeError where
    the interpreter is too far gone to start a thread.
    """

    def __init__(self, channel: grpc.Channel, method: str, post: Callable[[StreamEvent], None]) -> None:
        self._post = post
        self._requests: SimpleQueue[bytes | None] = SimpleQueue()
        start: Any = channel.stream_stream(method)  # messages are bytes on both ways
        self._call = start(iter(self._requests.get, None))
        self._reader = threading.Thread(target=self._read, name="meshsdk-loads-reader", daemon=True)
        try:
            self._reader.start()
        except RuntimeError:
            self._requests.put(None)
            self._call.cancel()
            raise

    def send(self, data: bytes) -> None:
        """Queues a message; never blocks."""
        self._requests.put(data)

    def done(self) -> None:
        """Nothing more will be sent; the server answers with its end of the stream."""
        self._requests.put(None)

    def close(self, patience: float) -> None:
        """Ends the stream, and waits `patience` seconds at most for its thread."""
        self._requests.put(None)
        self._call.cancel()
        self._reader.join(patience)

    def _read(self) -> None:
        code, details = "OK", ""
        try:
            for data in self._call:
                self._post(Ordered(self, data))
        except grpc.RpcError as error:
            failed: Any = error  # grpcio's is also a Call
            code, details = failed.code().name, failed.details() or ""
        self._requests.put(None)
        self._post(Over(self, code, details))
