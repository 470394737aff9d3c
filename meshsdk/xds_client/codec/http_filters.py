"""HTTP filters: which a listener may name, what they say, and what routes override of them.

Called by `listener` and `route`. Specs: gRFC A39 (an unknown filter is refused unless it is optional; the router comes
last and only last), A33 (fault injection), A55 (stateful sessions), A83 (an unknown filter that is not optional must
never be skipped: it may be what secures the calls). Every filter known here does something to a call; its module is
loaded where a mesh first names it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any

from envoy.config.route.v3 import route_components_pb2
from google.protobuf.any_pb2 import Any as PackedAny

from meshsdk.model.filters import FilterConfig, NamedFilter
from meshsdk.model.resources import NO_FILTERS, Filters
from meshsdk.xds_client.codec.refusal import FieldError, shown
from meshsdk.xds_client.codec.typed_struct import Unpacked, unpacked
from meshsdk.xds_client.codec.values import parsed, required, type_name

_PACKAGE = "envoy.extensions.filters.http."
_ROUTER = f"{_PACKAGE}router.v3.Router"
_NEUTRAL = frozenset({_ROUTER, f"{_PACKAGE}grpc_field_extraction.v3.GrpcFieldExtractionConfig"})
_FILTER_CONFIG = "envoy.config.route.v3.FilterConfig"


class _Place(enum.Enum):
    """Where a configuration of a type may stand."""

    LISTENER = enum.auto()
    ROUTE = enum.auto()
    BOTH = enum.auto()


@dataclass(frozen=True, slots=True)
class _Known:
    """Where a type is decoded: a module of `filters`, the names of its message class and of its function in there."""

    module: str
    message: str
    function: str
    place: _Place = _Place.BOTH

    def decode(self, config: Unpacked, path: str, noted: set[str], listed: str) -> FilterConfig | None:
        """Returns what a configuration says, None if that is nothing."""
        module = import_module(f"meshsdk.xds_client.codec.filters.{self.module}")
        message = config.message(getattr(module, self.message), path)
        found: FilterConfig | None = getattr(module, self.function)(message, path, noted, listed)
        return found


_KNOWN: Mapping[str, _Known] = {
    f"{_PACKAGE}fault.v3.HTTPFault": _Known("fault", "MESSAGE", "fault"),
    f"{_PACKAGE}local_ratelimit.v3.LocalRateLimit": _Known("limits", "LOCAL", "local_rate_limit"),
    f"{_PACKAGE}ratelimit.v3.RateLimit": _Known("limits", "SERVICE", "rate_limit", _Place.LISTENER),
    f"{_PACKAGE}ratelimit.v3.RateLimitPerRoute": _Known("limits", "PER_ROUTE", "rate_limit_route", _Place.ROUTE),
    f"{_PACKAGE}adaptive_concurrency.v3.AdaptiveConcurrency": _Known("load", "ADAPTIVE", "adaptive_concurrency"),
    f"{_PACKAGE}admission_control.v3.AdmissionControl": _Known("load", "ADMISSION", "admission_control"),
    f"{_PACKAGE}stateful_session.v3.StatefulSession": _Known("session", "MESSAGE", "stateful_session", _Place.LISTENER),
    f"{_PACKAGE}stateful_session.v3.StatefulSessionPerRoute": _Known(
        "session", "PER_ROUTE", "stateful_session_route", _Place.ROUTE
    ),
    f"{_PACKAGE}header_mutation.v3.HeaderMutation": _Known("mutation", "MESSAGE", "header_mutation", _Place.LISTENER),
    f"{_PACKAGE}header_mutation.v3.HeaderMutationPerRoute": _Known(
        "mutation", "PER_ROUTE", "header_mutation", _Place.ROUTE
    ),
}


@dataclass(frozen=True, slots=True)
class _Seat:
    """One filter in a listener: its name, its type, and what it says (None: nothing for calls)."""

    name: str
    kind: str
    config: FilterConfig | None
    off: bool = False


def http_filters(filters: Any, path: str, noted: set[str], listed: str) -> tuple[NamedFilter, ...]:
    """Returns the filters that do something to calls, in order; one that is off is kept, a route may turn it on.

    Those that are accepted without effect are added to `noted` as `<listed>.<name>`, fields below that.
    """
    seats: list[_Seat] = []
    seen: set[str] = set()
    for i, one in enumerate(filters):
        where = f"{path}[{i}]"
        name = required(one.name, f"{where}.name")
        if name in seen:
            raise FieldError(f"{where}.name", f"{shown(name)} is there twice")
        seen.add(name)
        seat = _seat(one, f"{where}.typed_config", noted, f"{listed}.{name}")
        if seat is None:
            noted.add(f"{listed}.{name}")
        else:
            seats.append(seat)
    _check_order(seats, path)
    return tuple(NamedFilter(seat.name, seat.config, seat.off) for seat in seats if seat.kind not in _NEUTRAL)


def _seat(one: Any, path: str, noted: set[str], listed: str) -> _Seat | None:
    """Returns one filter of a listener; None: it is accepted without effect. Refuses all others."""
    config = unpacked(one.typed_config, path)
    known = _KNOWN.get(config.name)
    if config.name in _NEUTRAL:
        return None if one.disabled else _Seat(one.name, config.name, None)
    if known is None or known.place is _Place.ROUTE:
        if one.is_optional or one.disabled:
            return None
        raise FieldError(path, f"no filter of type {shown(config.name)} is known here, and it is not optional")
    said = known.decode(config, path, noted, listed)
    return _Seat(one.name, config.name, said, one.disabled)


def overrides(configs: Mapping[str, PackedAny], path: str, noted: set[str], listed: str) -> Filters:
    """Returns a `typed_per_filter_config` map (A39); None turns a filter off. `noted` as for `http_filters`."""
    if not configs:
        return NO_FILTERS  # nearly always
    found: dict[str, FilterConfig | None] = {}
    for name in sorted(configs):
        config, optional, off = configs[name], False, False
        where = f"{path}[{shown(name)}]"
        if type_name(config) == _FILTER_CONFIG:
            wrapper = parsed(route_components_pb2.FilterConfig, config.value, where)
            config, optional, off = wrapper.config, wrapper.is_optional, wrapper.disabled
        if off:
            found[name] = None
            continue
        inside = unpacked(config, f"{where}.typed_config")
        known = _KNOWN.get(inside.name)
        if known is not None and known.place is not _Place.LISTENER:
            found[name] = known.decode(inside, f"{where}.typed_config", noted, f"{listed}.{name}")
            continue
        if inside.name == _ROUTER and not optional:
            raise FieldError(where, "the router filter takes no overrides")
        if not optional and inside.name not in _NEUTRAL:
            what = f"no filter of type {shown(inside.name)} is known here, and it is not optional"
            raise FieldError(f"{where}.typed_config", what)
        if optional or inside.name == _ROUTER:
            noted.add(f"{listed}.{name}")
    return MappingProxyType(found)


def _check_order(seats: Sequence[_Seat], path: str) -> None:
    if not seats:
        raise FieldError(path, "is empty; the router filter is needed")
    if seats[-1].kind != _ROUTER:
        raise FieldError(path, f"the last filter is {shown(seats[-1].name)}, must be the router")
    if any(seat.kind == _ROUTER for seat in seats[:-1]):
        raise FieldError(path, "the router filter is there twice or is not the last")
