"""A route's hash policies: from a call to the hash that ring_hash and maglev pick by (gRFC A42).

Called by `router`. Never falls back to a random hash: that is the caller's, who has the randomness.
"""

from __future__ import annotations

from collections.abc import Callable

from meshsdk.model.policy import HashHeader, HashPolicy
from meshsdk.model.xxh64 import xxh64
from meshsdk.routing.matchers import Metadata, header_value
from meshsdk.routing.regex import compile_rewrite

_MASK = 0xFFFF_FFFF_FFFF_FFFF

Hash = Callable[[Metadata, int], "int | None"]  # (metadata, channel id) -> 64 bits, None: this policy gives none


def compile_hash(policies: tuple[HashPolicy, ...]) -> Hash:
    """Returns the combination of all policies: rotate what came before left by one bit, xor the new hash.

    A terminal policy ends the evaluation once there is a hash (envoy.config.route.v3.RouteAction.HashPolicy.terminal).
    Raises ValueError for a rewrite whose pattern or substitution is not acceptable.
    """
    steps = tuple((_compile(policy), policy.terminal) for policy in policies)

    def combined(metadata: Metadata, channel_id: int) -> int | None:
        result: int | None = None
        for step, terminal in steps:
            value = step(metadata, channel_id)
            if value is not None:
                result = value if result is None else (result << 1 & _MASK | result >> 63) ^ value
            if terminal and result is not None:
                break
        return result

    return combined


def _compile(policy: HashPolicy) -> Hash:
    if not isinstance(policy, HashHeader):
        return lambda _, channel_id: channel_id & _MASK
    name = policy.name
    rewrite = None if policy.regex is None else compile_rewrite(policy.regex, policy.substitution)

    def of_header(metadata: Metadata, _: int) -> int | None:
        value = header_value(metadata, name)
        if value is None:
            return None
        return xxh64((value if rewrite is None else rewrite(value)).encode("utf-8", "surrogatepass"))

    return of_header
