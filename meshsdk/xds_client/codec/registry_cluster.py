"""The cluster type `meshsdk.clusters.registry` -> `RegistrySource`: endpoints straight from a service registry.

Called by `cluster`. On the wire (design.md section 3): `cluster_type.name` is `NAME`, its typed_config a TypedStruct of
`TYPE_URL` whose value has the strings `registry`, `app`, `unit`, `interface`, `migration` and the struct `labels`.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.any_pb2 import Any as PackedAny

from meshsdk.model.migration import Migration
from meshsdk.model.resources import RegistrySource
from meshsdk.xds_client.codec.refusal import FieldError, shown
from meshsdk.xds_client.codec.values import parsed, type_name

NAME = "meshsdk.clusters.registry"
TYPE_URL = "type.googleapis.com/meshsdk.clusters.registry.v1.RegistryCluster"

_STRUCTS = frozenset({"xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct"})  # the same message under two names
_PATH = "cluster_type.typed_config"
_TEXTS = ("registry", "app", "unit", "interface", "migration")
_MAX_TEXT = 256  # characters, as `meshsdk.discovery.limits` allows for names
_MAX_LABELS = 64
_MAX_LABEL = 1024  # characters
_MODES = {mode.value: mode for mode in Migration}


def source(config: PackedAny, noted: set[str]) -> RegistrySource:
    """Returns where the endpoints come from; fields that are not known here go into `noted`. Raises `FieldError`."""
    if type_name(config) not in _STRUCTS:
        raise FieldError(_PATH, f"must be an xds.type.v3.TypedStruct, is {shown(type_name(config))}")
    from xds.type.v3 import typed_struct_pb2  # noqa: PLC0415 - most meshes have no cluster of this type

    struct = parsed(typed_struct_pb2.TypedStruct, config.value, _PATH)
    if struct.type_url != TYPE_URL:
        raise FieldError(f"{_PATH}.type_url", f"must be {TYPE_URL}, is {shown(struct.type_url)}")
    fields = struct.value.fields
    noted.update(f"{_PATH}.value.{name}" for name in fields if name not in (*_TEXTS, "labels"))
    texts = {name: _text(fields[name], f"{_PATH}.value.{name}") for name in _TEXTS if name in fields}
    if not texts.get("registry"):
        raise FieldError(f"{_PATH}.value.registry", "is not set; name a registry of the client's bootstrap")
    if not texts.get("app") and not texts.get("interface"):
        raise FieldError(f"{_PATH}.value", "sets neither app nor interface")
    mode = texts.pop("migration", "")
    if mode and mode not in _MODES:
        raise FieldError(f"{_PATH}.value.migration", f"{shown(mode)} is none of {', '.join(_MODES)}")
    labels = _labels(fields["labels"]) if "labels" in fields else ()
    return RegistrySource(**texts, migration=_MODES.get(mode), labels=labels)


def _text(value: Any, path: str, most: int = _MAX_TEXT) -> str:
    if value.WhichOneof("kind") != "string_value":
        raise FieldError(path, "must be a string")
    text: str = value.string_value
    if len(text) > most:
        raise FieldError(path, f"is longer than {most} characters")
    return text


def _labels(value: Any) -> tuple[tuple[str, str], ...]:
    path = f"{_PATH}.value.labels"
    if value.WhichOneof("kind") != "struct_value":
        raise FieldError(path, "must be a struct of strings")
    fields = value.struct_value.fields
    if len(fields) > _MAX_LABELS:
        raise FieldError(path, f"has {len(fields)} labels, at most {_MAX_LABELS}")
    return tuple(sorted((name, _text(fields[name], f"{path}.{name[:_MAX_TEXT]}", _MAX_LABEL)) for name in fields))
