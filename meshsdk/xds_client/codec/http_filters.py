"""HTTP filters: which a listener may name, and what routes may override of them.

Called by `listener` and `route`. Specs: gRFC A39 (an unknown filter is refused unless it is optional; the router comes
last and only last), A33 (fault injection: accepted while it injects nothing), A55 (stateful sessions: listed as
without effect), A83 (an unknown filter that is not optional must never be skipped: it may be what secures the calls).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envoy.config.route.v3 import route_components_pb2
from google.protobuf.any_pb2 import Any as PackedAny
from udpa.type.v1 import typed_struct_pb2 as udpa_struct_pb2
from xds.type.v3 import typed_struct_pb2 as xds_struct_pb2

from meshsdk.xds_client.codec.refusal import FieldError, shown
from meshsdk.xds_client.codec.values import parsed, required, type_name

_ROUTER = "envoy.extensions.filters.http.router.v3.Router"
_EXTRACTION = "envoy.extensions.filters.http.grpc_field_extraction.v3.GrpcFieldExtractionConfig"
_FAULT = "envoy.extensions.filters.http.fault.v3.HTTPFault"
_SESSION = "envoy.extensions.filters.http.stateful_session.v3.StatefulSession"
_SESSION_ROUTE = "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute"
_WITHOUT_EFFECT = frozenset({_SESSION, _SESSION_ROUTE})
_STRUCTS = {
    "udpa.type.v1.TypedStruct": udpa_struct_pb2.TypedStruct,
    "xds.type.v3.TypedStruct": xds_struct_pb2.TypedStruct,
}
_FILTER_CONFIG = "envoy.config.route.v3.FilterConfig"


def http_filters(filters: Any, path: str, noted: set[str], listed: str) -> tuple[str, ...]:
    """Returns the names of the filters that are in force, the router last.

    Those that are accepted without effect are added to `noted` as `<listed>.<name>`.
    """
    names: dict[str, str] = {}  # name -> type, of those in force
    seen: set[str] = set()
    for i, one in enumerate(filters):
        where = f"{path}[{i}]"
        name = required(one.name, f"{where}.name")
        if name in seen:
            raise FieldError(f"{where}.name", f"{shown(name)} is there twice")
        seen.add(name)
        kind = _type_of(one.typed_config, where)
        if one.disabled or not _in_force(kind, one.typed_config, where, optional=one.is_optional):
            noted.add(f"{listed}.{name}")
        else:
            names[name] = kind
    _check_order(names, path)
    return tuple(names)


def check_overrides(overrides: Mapping[str, PackedAny], path: str, noted: set[str], listed: str) -> None:
    """Checks a `typed_per_filter_config` map (A39): none is honoured, so each must be optional or without effect."""
    for name in sorted(overrides):
        config, optional = overrides[name], False
        where = f"{path}[{shown(name)}]"
        if type_name(config) == _FILTER_CONFIG:
            wrapper = parsed(route_components_pb2.FilterConfig, config.value, where)
            config, optional = wrapper.config, wrapper.is_optional or wrapper.disabled
        kind = _type_of(config, where)
        if kind == _ROUTER and not optional:
            raise FieldError(where, "the router filter takes no overrides")
        if kind == _ROUTER or not _in_force(kind, config, where, optional=optional):
            noted.add(f"{listed}.{name}")


def _type_of(config: PackedAny, path: str) -> str:
    """Returns the message name of a filter's configuration, also where it is wrapped in a TypedStruct."""
    kind = type_name(config)
    if kind in _STRUCTS:
        kind = parsed(_STRUCTS[kind], config.value, f"{path}.typed_config").type_url.rpartition("/")[2]
    return str(kind)


def _in_force(kind: str, config: PackedAny, path: str, *, optional: bool) -> bool:
    """Whether the filter does here what it says; False: it has no effect and may be listed. Refuses all others."""
    if kind in {_ROUTER, _EXTRACTION}:
        return True
    if kind == _FAULT and _injects_nothing(config):
        return True
    if optional or kind in _WITHOUT_EFFECT:
        return False
    if kind == _FAULT:
        raise FieldError(f"{path}.typed_config", "fault injection (delay, abort, response_rate_limit) is not supported")
    raise FieldError(f"{path}.typed_config", f"no filter of type {shown(kind)} is known here, and it is not optional")


def _injects_nothing(config: PackedAny) -> bool:
    # Istio puts this filter into every listener; its message is loaded only where one is met.
    from envoy.extensions.filters.http.fault.v3 import fault_pb2  # noqa: PLC0415 - not needed by most meshes

    if type_name(config) != _FAULT:
        return False  # a TypedStruct: not worth reading, it says something
    fault = parsed(fault_pb2.HTTPFault, config.value, "typed_config")
    return not any(fault.HasField(name) for name in ("delay", "abort", "response_rate_limit"))


def _check_order(names: Mapping[str, str], path: str) -> None:
    kinds = list(names.values())
    if not kinds:
        raise FieldError(path, "is empty; the router filter is needed")
    if kinds[-1] != _ROUTER:
        raise FieldError(path, f"the last filter is {shown(list(names)[-1])}, must be the router")
    if _ROUTER in kinds[:-1]:
        raise FieldError(path, "the router filter is there twice or is not the last")
