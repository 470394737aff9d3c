"""LocalityLbEndpoints -> `LocalityEndpoints`, with notes on where its endpoints lie (`Part`).

Called by `endpoints` for every locality that `increment` could not carry over. Parses endpoints block by block, so that
a set of 100,000 never stands in memory as protobuf messages beside its values. Specs: gRFC A27, A52; for LEDS
envoy.config.endpoint.v3.LedsClusterLocalityConfig, with a glob collection over ADS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from envoy.config.endpoint.v3 import endpoint_components_pb2

from meshsdk.model.endpoints import Endpoint, EndpointMap
from meshsdk.model.resources import Kind, Locality, LocalityEndpoints
from meshsdk.xds_client.codec import wire
from meshsdk.xds_client.codec.endpoint import Shared, endpoint
from meshsdk.xds_client.codec.ignored import Honoured, unhonoured
from meshsdk.xds_client.codec.refusal import FieldError, shown
from meshsdk.xds_client.codec.values import NAME_MAX, UINT32_MAX, from_ads, parsed
from meshsdk.xds_client.names import canonical, is_glob

BLOCK = 64  # endpoints per block: what an update hops over to find the one that changed
ENDPOINT = wire.tag(2)  # LocalityLbEndpoints.lb_endpoints
_PRIORITY_MAX = 128  # envoy.config.endpoint.v3.LocalityLbEndpoints.priority
_HONOURED: Honoured = {
    "locality": None,
    "load_balancing_weight": None,
    "priority": None,
    "leds_cluster_locality_config": {"leds_config": None, "leds_collection_name": None},
}
_LEDS = "leds_cluster_locality_config"
_Message = endpoint_components_pb2.LocalityLbEndpoints


@dataclass(frozen=True, slots=True)
class Part:
    """One locality of the serialised resource. `endpoints` is None for a locality without weight, which gets no calls.

    `blocks`: its bytes in order, in runs: n > 0 for n bytes of endpoints, -n for n bytes of other fields.
    `weights`: sum of the endpoints' weights. `noted`: paths without effect here, with how many endpoints set them
    (0: the locality itself does).
    """

    endpoints: LocalityEndpoints | None
    blocks: tuple[int, ...]
    weights: int
    noted: Mapping[str, int]


def part(raw: bytes, start: int, end: int) -> Part:
    """Decodes raw[start:end]; raises `FieldError` with a path relative to the locality."""
    blocks, rest = _blocks(raw, start, end)
    message = parsed(_Message, rest)
    listed = any(size > 0 for size in blocks)
    collection = _collection(message, listed=listed)
    _check(message)
    noted = dict.fromkeys(unhonoured(message, _HONOURED), 0)
    weight = message.load_balancing_weight.value
    if not weight:
        noted |= dict.fromkeys([name for name, set_ in (("lb_endpoints", listed), (_LEDS, collection)) if set_], 0)
        return Part(None, blocks, 0, noted)
    found = _Collected(noted)
    endpoints = EndpointMap.of(found.all(raw, start, blocks))
    if len(endpoints) != found.count:
        _refuse_duplicate(_Collected({}).all(raw, start, blocks))
    check_weights(found.weights)
    where = Locality(message.locality.region, message.locality.zone, message.locality.sub_zone)
    one = LocalityEndpoints(where, message.priority, weight, endpoints, collection)
    return Part(one, blocks, found.weights, noted)


def block(raw: bytes, shared: Shared, noted: dict[str, int], base: int = 0) -> Iterator[Endpoint]:
    """Decodes a run of serialised `lb_endpoints` fields, the first of which is number `base` of its locality."""
    for i, message in enumerate(parsed(_Message, raw, "lb_endpoints").lb_endpoints):
        try:
            yield endpoint(message, shared, noted)
        except FieldError as error:
            raise error.under(f"lb_endpoints[{base + i}]") from error


def block_sizes(raw: bytes, start: int, end: int) -> Iterator[int]:
    """Yields the sizes in bytes of the blocks into which the run of endpoints that begins at `start` is cut."""
    while start < end:
        position = start
        for position in wire.run(raw, start, end, ENDPOINT, BLOCK):  # noqa: B007 - the last one counts
            pass
        if position == start:
            return
        yield position - start
        start = position


def check_weights(total: int) -> None:
    """Refuses endpoints whose weights do not add up to a uint32."""
    if total > UINT32_MAX:
        raise FieldError("lb_endpoints", f"the sum of the weights is {total}, more than {UINT32_MAX}")


class _Collected:
    """Counts over the endpoints of one locality while they stream by. Lives for one decode, in one thread."""

    def __init__(self, noted: dict[str, int]) -> None:
        self.count = 0
        self.weights = 0
        self._noted = noted

    def all(self, raw: bytes, start: int, blocks: tuple[int, ...]) -> Iterator[Endpoint]:
        shared = Shared()
        for size in blocks:
            if size > 0:
                for one in block(raw[start : start + size], shared, self._noted, self.count):
                    self.count += 1
                    self.weights += one.weight
                    yield one
            start += abs(size)


def _blocks(raw: bytes, start: int, end: int) -> tuple[tuple[int, ...], bytes]:
    """Returns (blocks as in `Part`, the bytes of all fields that are not endpoints)."""
    blocks: list[int] = []
    rest = bytearray()
    position = start
    while position < end:
        if raw[position] == ENDPOINT:
            sizes = tuple(block_sizes(raw, position, end))
            blocks += sizes
            position += sum(sizes)
            continue
        _, _, _, after = next(wire.fields(raw, position, end))
        rest += raw[position:after]
        if blocks and blocks[-1] < 0:
            blocks[-1] -= after - position
        else:
            blocks.append(position - after)
        position = after
    return tuple(blocks), bytes(rest)


def _check(message: Any) -> None:
    if not message.HasField("locality"):
        raise FieldError("locality", "is not set")
    if message.lb_endpoints:
        raise FieldError("lb_endpoints", "is not encoded as protobuf libraries do")
    if message.WhichOneof("lb_config") not in {None, _LEDS}:
        raise FieldError(message.WhichOneof("lb_config"), "is not supported")
    if message.priority > _PRIORITY_MAX:
        raise FieldError("priority", f"{message.priority} is more than {_PRIORITY_MAX}")


def _collection(message: Any, *, listed: bool) -> str:
    """Returns the name of the LEDS collection that the endpoints are in, "" if the locality lists them itself."""
    if not message.HasField(_LEDS):
        return ""
    if listed:  # as Envoy has it
        raise FieldError(_LEDS, "is set beside lb_endpoints; a locality has one or the other")
    config = message.leds_cluster_locality_config
    from_ads(config.leds_config, f"{_LEDS}.leds_config")
    name = canonical(config.leds_collection_name)
    path = f"{_LEDS}.leds_collection_name"
    if not is_glob(name, Kind.LB_ENDPOINTS):
        raise FieldError(path, f"{shown(name)} is not xdstp://AUTHORITY/envoy.config.endpoint.v3.LbEndpoint/.../*")
    if len(name) > NAME_MAX:
        raise FieldError(path, f"is longer than {NAME_MAX} characters")
    return name


def _refuse_duplicate(endpoints: Iterator[Endpoint]) -> None:
    seen: set[str] = set()
    for i, one in enumerate(endpoints):
        if one.address in seen:
            raise FieldError(f"lb_endpoints[{i}]", f"the address {shown(one.address)} is there twice")
        seen.add(one.address)
