"""A token bucket whose content is computed from `now`: no timer refills it.

Used by the local rate limits of clients and servers. As Envoy's since 1.31: tokens come continuously at
`tokens_per_fill / fill_interval` a second, and the bucket begins full. It takes no lock; who shares it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as dataclass_field

from meshsdk.model.filters import TokenBucket


@dataclass(slots=True)
class Bucket:
    """Tokens of one limit. Thread rule: guarded by its owner's guard."""

    limit: TokenBucket
    tokens: float
    at: float
    rate: float = dataclass_field(init=False)

    def __post_init__(self) -> None:
        self.rate = self.limit.tokens_per_fill / self.limit.fill_interval

    def take(self, now: float) -> bool:
        """Takes a token if there is one. `now`: monotonic seconds; an earlier one than before adds none."""
        if now > self.at:
            self.tokens = min(float(self.limit.max_tokens), self.tokens + (now - self.at) * self.rate)
            self.at = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True

    def wait(self) -> float:
        """Returns the seconds until there is a token, as of the last `take`."""
        return max(0.0, (1.0 - self.tokens) / self.rate)


def full(limit: TokenBucket, now: float) -> Bucket:
    """Returns a full bucket."""
    return Bucket(limit, float(limit.max_tokens), now)


def words(limit: TokenBucket) -> str:
    """Says a limit: "100 calls per 1s, at most 200 at once"."""
    return f"{limit.tokens_per_fill} calls per {limit.fill_interval:g}s, at most {limit.max_tokens} at once"
