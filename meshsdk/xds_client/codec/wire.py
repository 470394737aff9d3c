"""Walks the fields of a serialised message without building it, to find where the parts of a large EDS resource lie.

Called by `endpoints`, `localities` and `increment`. Reads tags and lengths only; what is inside is parsed by protobuf.
Spec: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshsdk.xds_client.codec.refusal import FieldError

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MORE = 0x80  # the bit of a varint's byte that says another one follows
_VARINT_BYTES = 10


def tag(field: int) -> int:
    """Returns the (one-byte) tag of length-delimited field number `field`, 1 to 15."""
    return field << 3 | _LENGTH


def fields(raw: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields (tag, start of the field, start of its payload, end) for the fields of the message raw[start:end].

    Raises `FieldError` on what is no sequence of whole fields, groups (which proto3 does not have) included.
    """
    position = start
    while position < end:
        begin = position
        key, position = _varint(raw, position, end)
        kind = key & 7
        if kind == _LENGTH:
            length, position = _varint(raw, position, end)
            payload, position = position, position + length
        elif kind == _VARINT:
            payload = position
            _, position = _varint(raw, position, end)
        elif kind in {_FIXED64, _FIXED32}:
            payload, position = position, position + (8 if kind == _FIXED64 else 4)
        else:
            raise FieldError("", f"has a field of wire type {kind}")
        if position > end or key >> 3 == 0:
            raise FieldError("", "is not a sequence of whole fields")
        yield key, begin, payload, position


def run(raw: bytes, start: int, end: int, key: int, most: int) -> Iterator[int]:
    """Yields the ends of up to `most` successive length-delimited fields with the one-byte tag `key` from `start`.

    Stops before a field of another tag; raises `FieldError` if a field reaches beyond `end`.
    """
    position = start
    for _ in range(most):
        if position >= end or raw[position] != key:
            return
        length = raw[position + 1] if position + 1 < end else _MORE
        if length < _MORE:  # nearly always
            position += 2 + length
        else:
            length, position = _varint(raw, position + 1, end)
            position += length
        if position > end:
            raise FieldError("", "is not a sequence of whole fields")
        yield position


def _varint(raw: bytes, position: int, end: int) -> tuple[int, int]:
    """Returns (value, position after it)."""
    if position < end and raw[position] < _MORE:
        return raw[position], position + 1
    value = 0
    for index in range(position, min(end, position + _VARINT_BYTES)):
        value |= (raw[index] & (_MORE - 1)) << 7 * (index - position)
        if raw[index] < _MORE:
            return value, index + 1
    raise FieldError("", "is not a sequence of whole fields")
