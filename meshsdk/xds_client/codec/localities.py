"""LocalityLbEndpoints -> `LocalityEndpoints`, with notes on where its endpoints lie (`Part`).

Called by `endpoints` for every locality that `increment` could not carry over. Parses endpoints block by block, so that
a set of 100,000 never stands in memory as protobuf messages beside its values. Specs: gRFC A27, A52; LEDS is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from envoy.config.endpoint.v3 import endpoint_components_pb2

from meshsdk.model.endpoints import Endpoint, EndpointMap
from meshsdk.model.resources import Locality, LocalityEndpoints
from meshsdk.xds_client.codec import wire
from meshsdk.xds_client.codec.endpoint import Shared, endpoint
from meshsdk.xds_client.codec.ignored import Honoured, unhonoured
from meshsdk.xds_client.codec.refusal import FieldError, shown
from meshsdk.xds_client.codec.values import UINT32_MAX, parsed

BLOCK = 64  # endpoints per block: what an update hops over to find the one that changed
ENDPOINT = wire.tag(2)  # LocalityLbEndpoints.lb_endpoints
_PRIORITY_MAX = 128  # envoy.config.endpoint.v3.LocalityLbEndpoints.priority
_HONOURED: Honoured = {
    "locality": None,
    "load_balancing_weight": None,
    "priority": None,
}
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
    _check(message)
    noted = dict.fromkeys(unhonoured(message, _HONOURED), 0)
    weight = message.load_balancing_weight.value
    if not weight:
        if len(blocks) > 1 or any(size > 0 for size in blocks):
            noted["lb_endpoints"] = 0
        return Part(None, blocks, 0, noted)
    found = _Collected(noted)
    endpoints = EndpointMap.of(found.all(raw, start, blocks))
    if len(endpoints) != found.count:
        _refuse_duplicate(_Collected({}).all(raw, start, blocks))
    check_weights(found.weights)
    where = Locality(message.locality.region, message.locality.zone, message.locality.sub_zone)
    return Part(LocalityEndpoints(where, message.priority, weight, endpoints), blocks, found.weights, noted)


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
    if message.WhichOneof("lb_config"):
        raise FieldError(message.WhichOneof("lb_config"), "is not supported")
    if message.priority > _PRIORITY_MAX:
        raise FieldError("priority", f"{message.priority} is more than {_PRIORITY_MAX}")


def _refuse_duplicate(endpoints: Iterator[Endpoint]) -> None:
    seen: set[str] = set()
    for i, one in enumerate(endpoints):
        if one.address in seen:
            raise FieldError(f"lb_endpoints[{i}]", f"the address {shown(one.address)} is there twice")
        seen.add(one.address)
