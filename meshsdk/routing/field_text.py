"""The text of a protobuf value as proto3 JSON writes it, without quotes: what conditions on request fields compare.

Called by `fields`, which picks one function per field when it first sees a message type. Never sees a message.
Whole floats are written without a fraction ("2", as C++ and Envoy do; Python's own JSON writer says "2.0").
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Mapping
from typing import Any, Protocol

Text = Callable[[Any], str]

# google.protobuf.descriptor.FieldDescriptor.TYPE_*: numbers of descriptor.proto, fixed for ever
_DOUBLE, _FLOAT, _BOOL, _STRING, _BYTES, _ENUM = 1, 2, 8, 9, 12, 14
_FLOAT_DIGITS = range(6, 9)  # nine always tell two 32-bit floats apart
_LARGEST = 3.4028235677973366e38  # from here on struct refuses to pack: it would round to infinity


class _EnumValue(Protocol):
    name: str


class EnumType(Protocol):
    """What is used of google.protobuf.descriptor.EnumDescriptor."""

    values_by_number: Mapping[int, _EnumValue]


def text_of(field_type: int, enum_type: EnumType | None) -> Text:
    """Returns the function from a field's Python value to its text."""
    if field_type == _ENUM and enum_type is not None:
        names = {number: value.name for number, value in enum_type.values_by_number.items()}
        return lambda number: names.get(number) or str(number)
    texts: dict[int, Text] = {_STRING: _same, _BYTES: _bytes, _BOOL: _bool, _DOUBLE: _double, _FLOAT: _float}
    return texts.get(field_type, str)


def _same(value: str) -> str:
    return value


def _bytes(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _bool(value: bool) -> str:  # noqa: FBT001  the value itself, not a switch
    return "true" if value else "false"


def _double(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value).removesuffix(".0")


def _float(value: float) -> str:
    """The shortest text that gives the same 32-bit float."""
    if math.isfinite(value):
        single = struct.pack("<f", value)
        for digits in _FLOAT_DIGITS:
            short = float(f"{value:.{digits}g}")
            if abs(short) < _LARGEST and struct.pack("<f", short) == single:
                return _double(short)
        return _double(float(f"{value:.9g}"))
    return _double(value)
