"""ClusterLoadAssignment -> `ClusterEndpoints`. Called by `decoding` (EDS) and `cluster` (STATIC).

Specs: gRFC A27 (validation, drops, health), A32 (drops by category), A52 (locality weights). Splits the resource by
locality; each is carried over from the version before (`increment`) or decoded (`localities`), and what holds across
localities is checked here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from envoy.config.endpoint.v3 import endpoint_pb2

from meshsdk.model.resources import ClusterEndpoints, Drop, Locality, LocalityEndpoints
from meshsdk.xds_client.codec import increment, wire
from meshsdk.xds_client.codec.endpoint import port
from meshsdk.xds_client.codec.ignored import Honoured, unhonoured
from meshsdk.xds_client.codec.increment import Span
from meshsdk.xds_client.codec.localities import Part, part
from meshsdk.xds_client.codec.refusal import FieldError, shown
from meshsdk.xds_client.codec.values import UINT32_MAX, parsed, per_million, required

__all__ = ["decode", "port"]

_LOCALITY = wire.tag(2)  # ClusterLoadAssignment.endpoints
_HONOURED: Honoured = {
    "cluster_name": None,
    "policy": {
        "drop_overloads": {"category": None, "drop_percentage": None},
        "overprovisioning_factor": None,
    },
}


@dataclass(frozen=True, slots=True)
class _Layout:
    """The parts of a decoded resource in the order of its bytes; kept in `ClusterEndpoints.layout`."""

    parts: tuple[Part, ...]


def decode(raw: bytes, previous: object = None, previous_raw: bytes = b"") -> ClusterEndpoints:
    """Returns a serialised ClusterLoadAssignment; raises `FieldError`.

    `previous`: what `previous_raw` was decoded to; localities at the same place in it are carried over.
    """
    rest, spans = _split(raw)
    old_rest, old_spans, known = _known(previous, previous_raw)
    parts: list[Part] = []
    fresh: list[Sequence[str]] = []  # per part, the addresses that were not in its earlier version
    for i, span in enumerate(spans):
        step = increment.updated(known[i], old_spans[i], span) if i < len(known) else None
        one, came = step or _decoded(span, i)
        parts.append(one)
        fresh.append(came)
    if isinstance(previous, ClusterEndpoints) and rest == old_rest and _same(parts, known):
        return previous
    _check_unique(parts, fresh)
    return _assembled(rest, parts)


def _split(raw: bytes) -> tuple[bytes, tuple[Span, ...]]:
    """Returns (the bytes of all fields but the localities, where each locality lies)."""
    rest, spans = bytearray(), []
    for key, begin, payload, end in wire.fields(raw, 0, len(raw)):
        if key == _LOCALITY:
            spans.append(Span(raw, payload, end))
        else:
            rest += raw[begin:end]
    return bytes(rest), tuple(spans)


def _known(previous: object, raw: bytes) -> tuple[bytes, tuple[Span, ...], tuple[Part, ...]]:
    """Returns the earlier version as `_split` has it, with its parts; nothing if there is none that fits."""
    nothing: tuple[bytes, tuple[Span, ...], tuple[Part, ...]] = (b"", (), ())
    if not isinstance(previous, ClusterEndpoints) or not isinstance(previous.layout, _Layout):
        return nothing
    try:
        rest, spans = _split(raw)
    except FieldError:
        return nothing
    return (rest, spans, previous.layout.parts) if len(spans) == len(previous.layout.parts) else nothing


def _decoded(span: Span, index: int) -> tuple[Part, tuple[str, ...]]:
    try:
        one = part(span.raw, span.start, span.end)
    except FieldError as error:
        raise error.under(f"endpoints[{index}]") from error
    return one, tuple(found.address for found in one.endpoints.endpoints) if one.endpoints else ()


def _same(parts: Sequence[Part], known: Sequence[Part]) -> bool:
    return len(parts) == len(known) and all(a is b for a, b in zip(parts, known, strict=True))


def _check_unique(parts: Sequence[Part], fresh: Sequence[Sequence[str]]) -> None:
    """Refuses an address in two localities (A27). Costs by what came in, not by the size of the set."""
    maps = [(i, one.endpoints.endpoints) for i, one in enumerate(parts) if one.endpoints]
    if len(maps) < 2:  # noqa: PLR2004 - two localities; within one, `localities` and `increment` have looked
        return
    few = sum(map(len, fresh)) * len(maps) <= sum(len(endpoints) for _, endpoints in maps)
    if few and not any(
        i != index and endpoints.get(address)
        for index, addresses in enumerate(fresh)
        for address in addresses
        for i, endpoints in maps
    ):
        return
    seen: set[str] = set()
    twice: set[str] = set()
    for _, endpoints in maps:
        addresses = {one.address for one in endpoints}
        twice |= seen & addresses
        seen |= addresses
    if twice:
        raise FieldError("endpoints", f"the address {shown(min(twice))} is in two localities")


def _assembled(rest: bytes, parts: Sequence[Part]) -> ClusterEndpoints:
    message = parsed(endpoint_pb2.ClusterLoadAssignment, rest)
    if message.endpoints:
        raise FieldError("endpoints", "is not encoded as protobuf libraries do")
    factor = 140
    if message.policy.HasField("overprovisioning_factor"):
        factor = message.policy.overprovisioning_factor.value
        if not factor:
            raise FieldError("policy.overprovisioning_factor", "must be 1 or more")
    return ClusterEndpoints(
        name=message.cluster_name,
        localities=_ordered([one.endpoints for one in parts if one.endpoints]),
        drops=tuple(_drop(one, i) for i, one in enumerate(message.policy.drop_overloads)),
        overprovisioning=factor / 100,
        ignored=tuple(sorted({*unhonoured(message, _HONOURED), *_ignored(parts)})),
        layout=_Layout(tuple(parts)),
    )


def _drop(message: Any, index: int) -> Drop:
    path = f"policy.drop_overloads[{index}]"
    category = required(message.category, f"{path}.category")
    return Drop(category, per_million(message.drop_percentage, f"{path}.drop_percentage"))


def _ordered(localities: Sequence[LocalityEndpoints]) -> tuple[LocalityEndpoints, ...]:
    """Returns the localities by (priority, locality); refuses doubles, gaps and too large sums of weights (A27)."""
    weights: dict[int, int] = {}
    seen: set[tuple[int, Locality]] = set()
    collections: set[str] = set()
    for one in localities:
        if one.collection in collections:
            raise FieldError("endpoints", f"the collection {shown(one.collection)} is in two localities")
        collections |= {one.collection} - {""}
        place = (one.priority, one.locality)
        if place in seen:
            where = f"{one.locality.region}/{one.locality.zone}/{one.locality.sub_zone}"
            raise FieldError("endpoints", f"the locality {shown(where)} is twice in priority {one.priority}")
        seen.add(place)
        weights[one.priority] = weights.get(one.priority, 0) + one.weight
        if weights[one.priority] > UINT32_MAX:
            raise FieldError("endpoints", f"the weights in priority {one.priority} add up to more than {UINT32_MAX}")
    for priority in range(len(weights)):
        if priority not in weights:
            raise FieldError("endpoints", f"priority {priority} has no locality with weight, while {max(weights)} has")
    return tuple(sorted(localities, key=lambda one: (one.priority, one.locality)))


def _ignored(parts: Iterable[Part]) -> Iterator[str]:
    for one in parts:
        for path, endpoints in one.noted.items():
            yield f"endpoints.lb_endpoints.{path}" if endpoints else f"endpoints.{path}"
