"""What the two calling workers of B1 share: the channels' names, the payload, and the shape of their answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

UNARY = "/orders.v1.Orders/Get"
STREAM = "/orders.v1.Orders/Watch"
MESSAGES = 1000
PAYLOAD = b"x" * 100
METADATA = (("x-user", "u1"),)
ROUND_ROBIN = '{"loadBalancingConfig": [{"round_robin": {}}]}'
DEADLINE = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Round:
    """One variant in one round: the median of its calls (seconds), and all its calls over all its time (1/s)."""

    p50: float
    rate: float


def turns(variants: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Yields (round, variant) so that variants take turns and each is first, and behind each other one, alike often."""
    for number in range(rounds):
        start = number % len(variants)
        order = [*variants[start:], *variants[:start]]
        for variant in reversed(order) if number // len(variants) % 2 else order:
            yield number, variant


def answer(found: dict[str, list[Round]]) -> dict[str, list[dict[str, float]]]:
    """Returns what goes back as JSON."""
    return {variant: [asdict(one) for one in rounds] for variant, rounds in found.items()}
