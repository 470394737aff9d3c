"""Questions about rate limits on the wire (envoy.service.ratelimit.v3): bytes to values and back, with limits. Pure.

Called by `rate_limits`.
"""

from __future__ import annotations

from collections.abc import Sequence

from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from envoy.service.ratelimit.v3 import rls_pb2
from envoy.type.v3 import ratelimit_unit_pb2
from google.protobuf.message import DecodeError

from controlplane.model.rate_limits import Limit, Unit
from controlplane.ratelimit.decide import MOST, Asked, Code, Question, Status
from controlplane.ratelimit.limiter import Answer
from controlplane.server.wire import Refused

METHOD = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
MOST_BYTES = 1_048_576  # of one question: all of a request's headers fit in, many times
MOST_DESCRIPTORS = 100
_MOST_ENTRIES = 16  # of one descriptor, as the configuration nests them
_OVERRIDE = "override"  # the name of limits that a question brings along
_OVER, _OK = rls_pb2.RateLimitResponse.OVER_LIMIT, rls_pb2.RateLimitResponse.OK
_UNITS = {unit: rls_pb2.RateLimitResponse.RateLimit.Unit.Value(unit.name) for unit in Unit}
_ASKED_UNITS = {ratelimit_unit_pb2.RateLimitUnit.Value(unit.name): unit for unit in Unit}  # not _UNITS from WEEK on
_NANOS = 1_000_000_000


def read(raw: bytes) -> Question:
    """Returns the question. Raises Refused for what is none, or is over a limit."""
    if len(raw) > MOST_BYTES:
        raise Refused(f"the question has {len(raw)} bytes; this server takes {MOST_BYTES}")
    try:
        message = rls_pb2.RateLimitRequest.FromString(raw)
    except DecodeError as error:
        raise Refused(f"the request is not a RateLimitRequest: {error}") from error
    if not message.domain:
        raise Refused("the domain must not be empty")
    if not 1 <= len(message.descriptors) <= MOST_DESCRIPTORS:
        raise Refused(f"{len(message.descriptors)} descriptors; this server takes 1 to {MOST_DESCRIPTORS}")
    descriptors = tuple(_asked(index, each) for index, each in enumerate(message.descriptors))
    return Question(message.domain, descriptors, message.hits_addend or 1)


def _asked(index: int, descriptor: ratelimit_pb2.RateLimitDescriptor) -> Asked:
    if not 1 <= len(descriptor.entries) <= _MOST_ENTRIES:
        what = f"{len(descriptor.entries)} entries; this server takes 1 to {_MOST_ENTRIES}"
        raise Refused(f"descriptors[{index}]: {what}")
    hits = descriptor.hits_addend.value if descriptor.HasField("hits_addend") else None
    if hits is not None and hits > MOST:
        raise Refused(f"descriptors[{index}]: hits_addend {hits} is more than {MOST}")
    override = None
    if descriptor.HasField("limit"):
        override = _override(index, descriptor.limit.requests_per_unit, descriptor.limit.unit)
    return Asked(tuple((entry.key, entry.value) for entry in descriptor.entries), hits, override)


def _override(index: int, requests: int, number: int) -> Limit:
    unit = _ASKED_UNITS.get(number)
    if unit is None:
        known = ", ".join(each.name for each in Unit)
        raise Refused(f"descriptors[{index}]: the unit {number} of its limit is none of {known}")
    return Limit(requests, unit, _OVERRIDE)


def write(answer: Answer) -> bytes:
    """Returns the answer as bytes."""
    message = rls_pb2.RateLimitResponse(overall_code=_OVER if answer.over else _OK)
    for status in answer.statuses:
        _put(message.statuses.add(), status)
    if answer.headers:
        for name, value in _headers(answer.statuses):
            message.response_headers_to_add.add(key=name, value=value)
    raw: bytes = message.SerializeToString()
    return raw


def _put(into: rls_pb2.RateLimitResponse.DescriptorStatus, status: Status) -> None:
    into.code = _OVER if status.code.refuses else _OK
    into.limit_remaining = status.remaining
    if status.limit is None or status.limit.unlimited:
        return
    into.current_limit.requests_per_unit = status.limit.requests
    into.current_limit.unit = _UNITS[status.limit.unit]
    into.current_limit.name = status.limit.name
    seconds, nanos = divmod(round(status.reset * _NANOS), _NANOS)
    into.duration_until_reset.seconds, into.duration_until_reset.nanos = seconds, nanos


def _headers(statuses: Sequence[Status]) -> Sequence[tuple[str, str]]:
    """Returns RateLimit-* (draft-ietf-httpapi-ratelimit-headers-03) of the limit that has the least left."""
    counted = [status for status in statuses if status.code in {Code.OK, Code.OVER, Code.SHADOW}]
    least = min(counted, key=lambda status: (status.remaining, -status.reset), default=None)
    if least is None or least.limit is None:
        return ()
    return (
        ("ratelimit-limit", str(least.limit.requests)),
        ("ratelimit-remaining", str(least.remaining)),
        ("ratelimit-reset", str(int(least.reset) + 1)),
    )
