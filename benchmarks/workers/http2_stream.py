"""One gRPC stream over HTTP/2 in as little Python as it takes, so that a thousand of them fit beside what they measure.

RFC 9113 as far as a client with one stream and no header compression needs it: the windows are opened wide at the
start and never looked at again. grpcio would spend more on a received message than the server on sending it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_WIDE = 2**31 - 1
_DEFAULT_WINDOW = 65_535
_FRAME_HEAD = 9
_MESSAGE_HEAD = 5


def _frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + body


def _text(value: str) -> bytes:
    return bytes((len(value),)) + value.encode()  # RFC 7541 section 5.2: below 127 bytes, not Huffman-coded


def _opening(method: str) -> bytes:
    """Returns what a client says first: preface, settings, windows, the headers of stream 1 (RFC 7541 Appendix A)."""
    headers = b"".join(
        (
            b"\x83\x86",  # :method POST, :scheme http
            b"\x04" + _text(method),  # :path
            b"\x01" + _text("benchmark"),  # :authority
            b"\x0f\x10" + _text("application/grpc"),  # content-type
            b"\x00" + _text("te") + _text("trailers"),
        )
    )
    return b"".join(
        (
            _PREFACE,
            _frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, _WIDE)),  # SETTINGS_INITIAL_WINDOW_SIZE
            _frame(_WINDOW, 0, 0, struct.pack(">I", _WIDE - _DEFAULT_WINDOW)),
            _frame(_HEADERS, _END_HEADERS, 1, headers),
        )
    )


class Http2Stream(asyncio.Protocol):
    """Calls `on_message` with each message of the stream's one call. Owned by its event loop."""

    def __init__(self, method: str, first: bytes, on_message: Callable[[Http2Stream, bytes], None]) -> None:
        """`method`: "/package.Service/Method"; `first`: the serialised first request."""
        self._opening = _opening(method)
        self._first = first
        self._on_message = on_message
        self._unread = bytearray()
        self._message = bytearray()
        self._transport: asyncio.Transport | None = None
        self.ended = ""  # why, once the peer ended it

    def connection_made(self, transport) -> None:
        """Opens the call."""
        self._transport = transport
        transport.write(self._opening)
        self.send(self._first)

    def send(self, message: bytes) -> None:
        """Sends one message; it must fit into one frame (16 kB)."""
        assert self._transport is not None
        self._transport.write(_frame(_DATA, 0, 1, struct.pack(">BI", 0, len(message)) + message))

    def close(self) -> None:
        """Closes the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc) -> None:
        """Notes it."""
        self.ended = self.ended or f"connection lost: {exc}"

    def data_received(self, data) -> None:
        """Takes frames apart."""
        unread = self._unread
        unread += data
        start = 0
        while len(unread) - start >= _FRAME_HEAD:
            size = int.from_bytes(unread[start : start + 3], "big")
            end = start + _FRAME_HEAD + size
            if len(unread) < end:
                break
            self._frame(unread[start + 3], unread[start + 4], bytes(unread[start + _FRAME_HEAD : end]))
            start = end
        del unread[:start]

    def _frame(self, kind: int, flags: int, body: bytes) -> None:
        if kind == _DATA:
            self._data(body)
        elif kind == _SETTINGS and not flags & _ACK:
            self._transport.write(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            self._transport.write(_frame(_PING, _ACK, 0, body))
        elif kind in (_RESET, _GOAWAY) or (kind == _HEADERS and flags & _END_STREAM):
            self.ended = f"the server ended it with frame type {kind}: {body[:200]!r}"

    def _data(self, body: bytes) -> None:
        message = self._message
        message += body
        while len(message) >= _MESSAGE_HEAD:
            end = _MESSAGE_HEAD + int.from_bytes(message[1:_MESSAGE_HEAD], "big")
            if len(message) < end:
                return
            whole = bytes(message[_MESSAGE_HEAD:end])
            del message[:end]
            self._on_message(self, whole)
