"""The local rate limit: token buckets of this process, for all calls and for descriptors of calls.

Made by `gates` for clients, and for servers from the limits of code. Follows Envoy's `local_ratelimit`: of the buckets
that a call's descriptors match, the slowest is asked first; the default bucket is asked too if none matched or
`always_consume_default` says so. Asks no other process.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from meshsdk.interceptors.policies.descriptors import Descriptors
from meshsdk.interceptors.policies.gate import Descriptor, GateCall, NewGuard, Passing
from meshsdk.interceptors.policies.steps import Reject, RejectionInfo
from meshsdk.interceptors.policies.token_bucket import Bucket, full, words
from meshsdk.model.filters import LocalRateLimit, RateLimitActions, TokenBucket

MAX_DYNAMIC = 1024  # buckets of one limit whose value any call may make up; beyond, the longest unused begins anew


class LocalRateLimitGate:
    """One local rate limit filter. Thread rule: buckets are guarded by `_guard`."""

    __slots__ = ("_config", "_default", "_descriptors", "_draw", "_guard", "_limits", "_subject")

    def __init__(
        self,
        config: LocalRateLimit,
        actions: Sequence[RateLimitActions],
        draw: Callable[[], float],
        guard: NewGuard,
        subject: str = "all calls",
    ) -> None:
        """`actions`: of the route; the filter's own go before. `subject`: what the default bucket limits, in words.

        Raises ValueError for a header match or a bucket that cannot be used.
        """
        self._subject = subject
        self._config = config
        self._draw = draw
        self._guard = guard()
        self._descriptors = Descriptors(config.rate_limits or actions, config.stage)
        self._default = None if config.bucket is None else _Buckets(config.bucket, ())
        self._limits = sorted((_Buckets(one.bucket, one.entries) for one in config.descriptors), key=_speed)

    def enter(self, call: GateCall) -> Passing:
        """Refuses the call when a bucket that counts it is empty."""
        yield from ()
        config = self._config
        if not _hits(config.enabled, self._draw):
            return None
        descriptors = self._descriptors.of(call) if self._limits else ()
        with self._guard:
            empty = self._take(descriptors, call.now)
        if empty is None or not _hits(config.enforced, self._draw):
            return None
        return self._refusal(*empty)

    def _take(self, descriptors: tuple[Descriptor, ...], now: float) -> tuple[Bucket, Descriptor] | None:
        """Returns the bucket that had no token, and whose; None: the call may go on."""
        matched = False
        for limit in self._limits:
            for descriptor in descriptors:
                if limit.covers(descriptor):
                    matched = True
                    bucket = limit.bucket(descriptor, now)
                    if not bucket.take(now):
                        return bucket, descriptor
        if self._default is not None and (self._config.always_consume_default or not matched):
            bucket = self._default.bucket((), now)
            if not bucket.take(now):
                return bucket, ()
        return None

    def _refusal(self, bucket: Bucket, descriptor: Descriptor) -> Reject:
        subject = ", ".join(f"{key}={value}" for key, value in descriptor) or self._subject
        limit = words(bucket.limit)
        info = RejectionInfo("LOCAL_RATE_LIMITED", bucket.wait(), subject, limit)
        return Reject(self._config.status, f"local rate limit: {subject}: {limit}", "local_rate_limit", (), info)


class _Buckets:
    """The bucket of one limit; one for each value that is met, where the limit has an entry with any value."""

    __slots__ = ("_entries", "_held", "_keys", "limit")

    def __init__(self, limit: TokenBucket, entries: Descriptor) -> None:
        if limit.max_tokens < 1 or limit.tokens_per_fill < 1 or limit.fill_interval <= 0:
            raise ValueError(f"token bucket of {words(limit)}: all must be more than 0")
        self.limit = limit
        self._entries = entries
        self._keys = tuple(key for key, _ in entries)
        self._held: OrderedDict[Descriptor, Bucket] = OrderedDict()

    def covers(self, descriptor: Descriptor) -> bool:
        if len(descriptor) != len(self._entries):
            return False
        return all(
            key == own and value in (own_value, own_value or value)
            for (key, value), (own, own_value) in zip(descriptor, self._entries, strict=True)
        )

    def bucket(self, descriptor: Descriptor, now: float) -> Bucket:
        """Returns the bucket of a descriptor that this covers; a full one for one not met before."""
        held = self._held
        bucket = held.get(descriptor)
        if bucket is None:
            bucket = held[descriptor] = full(self.limit, now)
            if len(held) > MAX_DYNAMIC:
                held.popitem(last=False)
        elif len(held) > 1:
            held.move_to_end(descriptor)
        return bucket


def _speed(limit: _Buckets) -> float:
    return limit.limit.tokens_per_fill / limit.limit.fill_interval


def _hits(share: float, draw: Callable[[], float]) -> bool:
    return share >= 1 or (share > 0 and draw() < share)
