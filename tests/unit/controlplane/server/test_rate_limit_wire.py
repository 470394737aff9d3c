"""Questions about rate limits as bytes: what is read, what is refused, what is answered."""

from __future__ import annotations

import pytest
from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf.wrappers_pb2 import UInt64Value

from controlplane.model.rate_limits import Limit, Unit
from controlplane.ratelimit.decide import Asked, Code, Question, Status
from controlplane.ratelimit.limiter import Answer
from controlplane.server.rate_limit_wire import MOST_BYTES, MOST_DESCRIPTORS, read, write
from controlplane.server.wire import Refused

Descriptor = ratelimit_pb2.RateLimitDescriptor
PER_USER = Limit(100, Unit.MINUTE, "user")
GUEST = Limit(1, Unit.SECOND, "user=guest")


def descriptor(*entries: tuple[str, str], **more: object) -> Descriptor:
    """A descriptor of the protocol."""
    return Descriptor(entries=[Descriptor.Entry(key=key, value=value) for key, value in entries], **more)


def question(*descriptors: Descriptor, domain: str = "shop", hits: int = 0) -> bytes:
    """A request of the protocol."""
    return rls_pb2.RateLimitRequest(domain=domain, descriptors=descriptors, hits_addend=hits).SerializeToString()


def test_question():
    """Entries keep their order; no hits at all mean one; a descriptor's own hits and limit are read."""
    override = Descriptor.RateLimitOverride(requests_per_unit=5, unit="HOUR")
    raw = question(
        descriptor(("user", "anna"), ("method", "write")),
        descriptor(("user", ""), hits_addend=UInt64Value(value=0), limit=override),
    )
    assert read(raw) == Question(
        "shop",
        (
            Asked((("user", "anna"), ("method", "write"))),
            Asked((("user", ""),), 0, Limit(5, Unit.HOUR, "override")),
        ),
        1,
    )
    assert read(question(descriptor(("user", "anna")), hits=3)).hits == 3


ONE = descriptor(("user", "anna"))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\xff", "not a RateLimitRequest"),
        (question(ONE, domain=""), "the domain must not be empty"),
        (question(), "0 descriptors"),
        (question(*[ONE] * (MOST_DESCRIPTORS + 1)), "101 descriptors; this server takes 1 to 100"),
        (question(ONE, descriptor()), r"descriptors\[1\]: 0 entries"),
        (question(descriptor(*[("k", "v")] * 17)), r"descriptors\[0\]: 17 entries"),
        (question(descriptor(("k", "v" * MOST_BYTES))), "bytes; this server takes"),
        (question(descriptor(("k", "v"), hits_addend=UInt64Value(value=2**32))), "hits_addend 4294967296 is more"),
        (
            question(descriptor(("k", "v"), limit=Descriptor.RateLimitOverride(requests_per_unit=5, unit="YEAR"))),
            "the unit 6 of its limit is none of SECOND, MINUTE, HOUR, DAY",
        ),
    ],
)
def test_refusals(raw, words):
    """What is no question, or more than one may hold, is refused in words."""
    with pytest.raises(Refused, match=words):
        read(raw)


def test_answer():
    """Each descriptor's status says its limit, what remains and when it is back; one that is over makes all over."""
    statuses = (
        Status(Code.OK, PER_USER, 41, 12.25),
        Status(Code.OVER, GUEST, 0, 0.5),
        Status(Code.UNKNOWN),
        Status(Code.UNLIMITED, Limit(9, Unit.SECOND, "user=admin", unlimited=True), 2**32 - 1),
    )
    answer = rls_pb2.RateLimitResponse.FromString(write(Answer(statuses)))
    codes = rls_pb2.RateLimitResponse
    assert answer.overall_code == codes.OVER_LIMIT
    assert [status.code for status in answer.statuses] == [codes.OK, codes.OVER_LIMIT, codes.OK, codes.OK]
    first, second, unknown, unlimited = answer.statuses
    assert (first.current_limit.requests_per_unit, first.current_limit.unit, first.current_limit.name) == (
        100,
        2,
        "user",
    )
    assert (first.limit_remaining, first.duration_until_reset.ToMilliseconds()) == (41, 12_250)
    assert (second.limit_remaining, second.duration_until_reset.ToMilliseconds()) == (0, 500)
    assert not unknown.HasField("current_limit")
    assert not unlimited.HasField("current_limit")
    assert unlimited.limit_remaining == 2**32 - 1
    assert not answer.response_headers_to_add


def test_shadow_is_answered_as_ok():
    """A limit in shadow mode lets a request pass that is over it."""
    answer = rls_pb2.RateLimitResponse.FromString(write(Answer((Status(Code.SHADOW, PER_USER, 0, 1.0),))))
    assert answer.overall_code == rls_pb2.RateLimitResponse.OK
    assert answer.statuses[0].code == rls_pb2.RateLimitResponse.OK


def test_headers():
    """Where a domain wants them, RateLimit-* headers tell of the limit that has the least left."""
    statuses = (Status(Code.OK, PER_USER, 41, 12.25), Status(Code.OK, GUEST, 1, 0.5), Status(Code.UNKNOWN))
    answer = rls_pb2.RateLimitResponse.FromString(write(Answer(statuses, headers=True)))
    assert {header.key: header.value for header in answer.response_headers_to_add} == {
        "ratelimit-limit": "1",
        "ratelimit-remaining": "1",
        "ratelimit-reset": "1",
    }
    nothing = rls_pb2.RateLimitResponse.FromString(write(Answer((Status(Code.UNKNOWN),), headers=True)))
    assert not nothing.response_headers_to_add
