"""The messages of Envoy's hot-restart protocol, as far as the holder of the listening sockets needs them. Pure.

Called by `socket_keeper`. The protocol is private to Envoy (`source/server/hot_restart.proto`), five fields in all that
have kept their numbers in all of "hot restart version 11"; so it is read and written here, field by field, rather than
by generated code. A datagram is the length of the message (8 bytes, big-endian) and the message.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from meshsdk.errors import MeshError

_MORE = 0x80  # another byte of this number follows
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_REQUEST = 1  # HotRestartMessage.request
_LENGTH = struct.Struct(">Q")
LONGEST = 4096 + _LENGTH.size  # bytes of a datagram; Envoy splits at 4,096, and no request is near that


class NotHandover(MeshError):
    """A datagram is not a request of this protocol."""


class Ask(enum.Enum):
    """What an Envoy asks of the one before it; the values are field numbers of `Request`."""

    LISTEN_SOCKET = 1
    ADMIN_SHUTDOWN = 2
    STATS = 3
    DRAIN_LISTENERS = 4  # it has started its workers; no answer
    TERMINATE = 5  # no answer
    TEST_CONNECTION = 7  # no answer


@dataclass(frozen=True, slots=True)
class Asked:
    """`address`, for LISTEN_SOCKET alone: such as `tcp://127.0.0.1:80`; `elsewhere`: in a network namespace by name."""

    ask: Ask
    address: str = ""
    elsewhere: bool = False


def read(datagram: bytes) -> Asked:
    """Returns what a datagram asks for. Raises NotHandover."""
    if len(datagram) < _LENGTH.size or _LENGTH.unpack_from(datagram)[0] != len(datagram) - _LENGTH.size:
        raise NotHandover("a datagram of another length than it says")
    request = dict(_fields(datagram[_LENGTH.size :])).get(_REQUEST)
    if not isinstance(request, bytes):
        raise NotHandover("a message that is no request")
    for number, value in _fields(request):
        if number in {one.value for one in Ask} and isinstance(value, bytes):
            return _asked(Ask(number), dict(_fields(value)))
    raise NotHandover("a request of an unknown kind")


def _asked(ask: Ask, fields: dict[int, bytes | int]) -> Asked:
    if ask is not Ask.LISTEN_SOCKET:
        return Asked(ask)
    address = fields.get(1, b"")
    if not isinstance(address, bytes):
        raise NotHandover("an address that is no text")
    return Asked(ask, address.decode("utf-8", "replace"), elsewhere=bool(fields.get(3)))


def socket_passed(number: int) -> bytes:
    """Answers LISTEN_SOCKET: the descriptor travels beside it; `number` -1: none, so that Envoy binds its own."""
    return _answer(1, b"\x08" + _varint(number & 0xFFFF_FFFF_FFFF_FFFF))


def admin_shut_down(started_at: int) -> bytes:
    """Answers ADMIN_SHUTDOWN. `started_at`: Unix seconds.

    What it leaves out says that a listener is by default one socket for all workers (`enable_reuse_port_default`).
    """
    return _answer(2, b"\x08" + _varint(started_at))


def no_stats() -> bytes:
    """Answers STATS with none."""
    return _answer(3, b"")


def unrecognized() -> bytes:
    """Answers what is not understood."""
    return _framed(b"\x18\x01")


def _answer(kind: int, body: bytes) -> bytes:
    inner = bytes([kind << 3 | _BYTES]) + _varint(len(body)) + body
    return _framed(bytes([2 << 3 | _BYTES]) + _varint(len(inner)) + inner)


def _framed(message: bytes) -> bytes:
    return _LENGTH.pack(len(message)) + message


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= _MORE:
        out.append(value & (_MORE - 1) | _MORE)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yields field numbers with their values. Raises NotHandover where the bytes are no protobuf message."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _read_varint(message, at)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, at = _read_varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise NotHandover("a field of an unknown form")
        if at + size > len(message):
            raise NotHandover("a message that ends within a field")
        yield tag >> 3, message[at : at + size]
        at += size


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & (_MORE - 1)) << shift
        if byte < _MORE:
            return value, at
    raise NotHandover("a number without an end")
