"""Protobuf fields written by hand: what lets serialised parts be joined to messages without parsing them again. Pure.

Used by the packer and the assembler of responses, and by `controlplane.translate` for endpoint sets.
"""

from __future__ import annotations

_SEVEN_BITS = 0x7F


def length_delimited(tag: bytes, value: bytes, *, extra: int = 0, head_only: bool = False) -> bytes:
    """Returns a length-delimited protobuf field; `extra` bytes of its value follow elsewhere, or all (`head_only`)."""
    length = len(value) + extra
    if length <= _SEVEN_BITS:
        head = tag + length.to_bytes(1, "big")
    else:
        out = bytearray(tag)
        while length > _SEVEN_BITS:  # seven bits a byte, protobuf's varint
            out.append(length & _SEVEN_BITS | 0x80)
            length >>= 7
        out.append(length)
        head = bytes(out)
    return head if head_only else head + value


def heading(tag: bytes, length: int) -> bytes:
    """Returns tag and length of a length-delimited field whose `length` bytes follow elsewhere."""
    return length_delimited(tag, b"", extra=length)
