"""The hash policies of gRFC A42."""

from __future__ import annotations

import pytest

from meshsdk.model.policy import HashChannelId, HashHeader
from meshsdk.model.xxh64 import xxh64
from meshsdk.routing.hash_policy import compile_hash

MASK = 2**64 - 1
CHANNEL = 0x8000_0000_0000_0001


def _rotated(value):
    return (value << 1 | value >> 63) & MASK


A, B = xxh64(b"1"), xxh64(b"2")


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ((), None),
        ((HashHeader("a"),), A),
        ((HashHeader("none"),), None),
        ((HashHeader("none"), HashHeader("b")), B),
        ((HashHeader("a"), HashHeader("b")), _rotated(A) ^ B),
        ((HashHeader("a"), HashHeader("a")), _rotated(A) ^ A),
        ((HashHeader("a"), HashHeader("none"), HashHeader("b")), _rotated(A) ^ B),
        ((HashHeader("a", terminal=True), HashHeader("b")), A),
        ((HashHeader("none", terminal=True), HashHeader("b")), B),
        ((HashHeader("a"), HashHeader("none", terminal=True), HashHeader("b")), A),
        ((HashChannelId(),), CHANNEL),
        ((HashChannelId(), HashHeader("a")), _rotated(CHANNEL) ^ A),
        ((HashHeader("x-bin"),), None),
        ((HashHeader("content-type"),), xxh64(b"application/grpc")),
        ((HashHeader("many"),), xxh64(b"p,q")),
        ((HashHeader("path", regex="/(\\w+)/.*", substitution="<\\1>"),), xxh64(b"<shop>")),
        ((HashHeader("path", regex="nothing", substitution="x"),), xxh64(b"/shop/7")),
    ],
)
def test_combination(policies, expected):
    """Hashes are rotated and xored in order, a policy without result is passed over, a terminal one ends (A42)."""
    metadata = (("a", "1"), ("b", "2"), ("x-bin", b"1"), ("many", "p"), ("many", "q"), ("path", "/shop/7"))
    assert compile_hash(policies)(metadata, CHANNEL) == expected


def test_bad_rewrite_is_refused():
    """A rewrite that names a group its pattern lacks is refused when the route is compiled."""
    with pytest.raises(ValueError, match="no group"):
        compile_hash((HashHeader("a", regex="(x)", substitution="\\2"),))
