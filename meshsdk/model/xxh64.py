"""XXH64: the hash that xDS calls XX_HASH (gRFC A42), for hash policies, hash rings and Maglev tables.

Called by `meshsdk.routing` for a call's hash and by `meshsdk.lb` for tables. Uses the `xxhash` package when it is
installed (extra `hash`, about 0.1 us a call), else the Python below (about 5 us for an address). Both give the same
numbers: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md.
"""

from __future__ import annotations

import struct
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

_MASK = (1 << 64) - 1
_P1 = 0x9E3779B185EBCA87
_P2 = 0xC2B2AE3D27D4EB4F
_P3 = 0x165667B19E3779F9
_P4 = 0x85EBCA77C2B2AE63
_P5 = 0x27D4EB2F165667C5
_STRIPE = 32  # bytes taken per round of the four accumulators


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _MASK


def _round(accumulator: int, lane: int) -> int:
    return _rotated((accumulator + lane * _P2) & _MASK, 31) * _P1 & _MASK


def _stripes(data: bytes, seed: int) -> int:
    lanes = [(seed + _P1 + _P2) & _MASK, (seed + _P2) & _MASK, seed, (seed - _P1) & _MASK]
    for four in struct.iter_unpack("<4Q", data[: len(data) - len(data) % _STRIPE]):
        lanes = [_round(lane, word) for lane, word in zip(lanes, four, strict=True)]
    merged = sum(_rotated(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK
    for lane in lanes:
        merged = ((merged ^ _round(0, lane)) * _P1 + _P4) & _MASK
    return merged


def _tail(value: int, rest: bytes) -> int:
    words = len(rest) // 8
    for (word,) in struct.iter_unpack("<Q", rest[: words * 8]):
        value = (_rotated(value ^ _round(0, word), 27) * _P1 + _P4) & _MASK
    at = words * 8
    if len(rest) - at >= 4:  # noqa: PLR2004 - bytes of a 32-bit lane
        half = int.from_bytes(rest[at : at + 4], "little")
        value = (_rotated(value ^ half * _P1 & _MASK, 23) * _P2 + _P3) & _MASK
        at += 4
    for byte in rest[at:]:
        value = _rotated(value ^ byte * _P5 & _MASK, 11) * _P1 & _MASK
    return value


def xxh64_python(data: bytes, seed: int = 0) -> int:
    """Returns XXH64 of `data` by the Python code, as an unsigned 64-bit integer."""
    value = _stripes(data, seed) if len(data) >= _STRIPE else (seed + _P5) & _MASK
    value = _tail((value + len(data)) & _MASK, data[len(data) - len(data) % _STRIPE :])
    value = (value ^ value >> 33) * _P2 & _MASK
    value = (value ^ value >> 29) * _P3 & _MASK
    return value ^ value >> 32


class Hash64(Protocol):
    """A seeded 64-bit hash of bytes."""

    def __call__(self, data: bytes, seed: int = 0, /) -> int:
        """Returns the hash as an unsigned 64-bit integer."""


xxh64: Hash64 = import_module("xxhash").xxh64_intdigest if find_spec("xxhash") else xxh64_python
"""XXH64 by the fastest code at hand."""
