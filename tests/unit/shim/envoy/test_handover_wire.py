"""Envoy's hot-restart messages, byte by byte as Envoy 1.38 to 1.40 sends and takes them."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.shim.envoy.handover_wire import (
    Ask,
    Asked,
    NotHandover,
    admin_shut_down,
    no_stats,
    read,
    socket_passed,
    unrecognized,
)


def framed(message: bytes) -> bytes:
    """A datagram."""
    return struct.pack(">Q", len(message)) + message


@pytest.mark.parametrize(
    ("message", "asked"),
    [
        (
            b"\n\x19\n\x17\n\x15tcp://127.0.0.1:53039",
            Asked(Ask.LISTEN_SOCKET, "tcp://127.0.0.1:53039"),
        ),
        (b"\n\x0b\n\x09\n\x05tcp:/\x10\x01", Asked(Ask.LISTEN_SOCKET, "tcp:/")),  # of the second worker
        (b"\n\x0c\n\x0a\n\x05tcp:/\x1a\x01n", Asked(Ask.LISTEN_SOCKET, "tcp:/", elsewhere=True)),
        (b"\n\x02\x12\x00", Asked(Ask.ADMIN_SHUTDOWN)),
        (b"\n\x02\x1a\x00", Asked(Ask.STATS)),
        (b'\n\x02"\x00', Asked(Ask.DRAIN_LISTENERS)),
        (b"\n\x02*\x00", Asked(Ask.TERMINATE)),
        (b"\n\x02:\x00", Asked(Ask.TEST_CONNECTION)),
    ],
)
def test_what_envoy_asks(message, asked):
    """Requests as a real Envoy sent them."""
    assert read(framed(message)) == asked


@pytest.mark.parametrize(
    "datagram",
    [b"", b"\x00" * 7, framed(b"\n\x02\x12\x00") + b"x", framed(b""), framed(b"\x12\x00"), framed(b"\n\x02b\x00")],
)
def test_what_is_no_request(datagram):
    """Another length, an answer, nothing at all, an unknown kind: refused, not guessed."""
    with pytest.raises(NotHandover):
        read(datagram)


@given(st.binary(max_size=80))
def test_noise_is_refused_or_read(message):
    """Whatever a local process sends, the outcome is a request or NotHandover."""
    with contextlib.suppress(NotHandover):
        assert isinstance(read(framed(message)), Asked)


def test_answers():
    """Bytes that Envoy takes: a descriptor, none (ten bytes of minus one), a start time, no stats, not understood."""
    assert socket_passed(5) == framed(b"\x12\x04\x0a\x02\x08\x05")
    assert socket_passed(-1) == framed(b"\x12\x0d\x0a\x0b\x08" + b"\xff" * 9 + b"\x01")
    assert admin_shut_down(300) == framed(b"\x12\x05\x12\x03\x08\xac\x02")
    assert no_stats() == framed(b"\x12\x02\x1a\x00")
    assert unrecognized() == framed(b"\x18\x01")
