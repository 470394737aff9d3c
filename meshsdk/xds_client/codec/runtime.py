"""Runtime -> `model.resources.RuntimeLayer`. Called by `decoding` (RTDS, envoy.service.runtime.v3).

The layer's Struct becomes plain values, as JSON has them. What the values mean is for whoever watches the layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from envoy.service.runtime.v3 import rtds_pb2

from meshsdk.model.resources import RuntimeLayer
from meshsdk.xds_client.codec.refusal import FieldError
from meshsdk.xds_client.codec.values import parsed

_LARGEST = 64 * 1024  # bytes: settings, not data
_DEEPEST = 16


def decode(raw: bytes) -> RuntimeLayer:
    """Returns a serialised Runtime; raises `FieldError`."""
    if len(raw) > _LARGEST:
        raise FieldError("layer", f"has {len(raw)} bytes, at most {_LARGEST}")
    message = parsed(rtds_pb2.Runtime, raw)
    return RuntimeLayer(message.name, _mapping(message.layer, "layer", 0))


def _mapping(struct: Any, path: str, depth: int) -> Mapping[str, object]:
    if depth > _DEEPEST:
        raise FieldError(path, f"is nested deeper than {_DEEPEST}")
    return MappingProxyType({key: _value(value, f"{path}.{key}", depth) for key, value in struct.fields.items()})


def _value(value: Any, path: str, depth: int) -> object:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _mapping(value.struct_value, path, depth + 1)
    if kind == "list_value":
        if depth > _DEEPEST:
            raise FieldError(path, f"is nested deeper than {_DEEPEST}")
        return tuple(_value(one, path, depth + 1) for one in value.list_value.values)
    if kind is None or kind == "null_value":
        return None
    plain: bool | float | str = getattr(value, kind)
    return plain
