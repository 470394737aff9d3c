"""Deterministic subsetting by rendezvous hashing (gRFC A68 `random_subsetting`), kept up at the cost of a change.

Every endpoint has a rank, a hash of this client's seed and its address; a client uses the lowest ranks. So all clients
together load all endpoints alike, and an endpoint that comes or goes moves at most one place in each subset. Ranks of
usable endpoints come before those of degraded, and those before unhealthy ones; draining endpoints have none.

A `Ranking` holds the `keep` lowest of one locality's endpoints, not all of them: memory follows the subset. Called by
`selection.select`; knows nothing of connectivity.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from heapq import nsmallest

from meshsdk.model.endpoints import Endpoint, EndpointMap, Health, changes

_TIERS = {Health.HEALTHY: 0, Health.DEGRADED: 1, Health.UNHEALTHY: 2}

Rank = tuple[int, bytes, str]  # tier, hash, address
Entry = tuple[int, bytes, str, Endpoint]
_UNBOUNDED: Rank = (len(_TIERS), b"", "")


@dataclass(frozen=True, slots=True)
class Tally:
    """How many endpoints of the whole set are in each state of health, whether chosen or not."""

    healthy: int = 0
    degraded: int = 0
    unhealthy: int = 0
    draining: int = 0

    @property
    def staying(self) -> int:
        """All but the draining ones: those leave by plan, so they lower no availability."""
        return self.healthy + self.degraded + self.unhealthy


@dataclass(frozen=True, slots=True)
class Ranking:
    """The lowest ranks of `source`, ascending: every member whose rank is at most `bound`, and no other."""

    source: EndpointMap
    entries: tuple[Entry, ...]
    bound: Rank
    tally: Tally

    def best(self, count: int) -> tuple[Endpoint, ...]:
        """Returns the `count` endpoints of lowest rank, or all there are."""
        return tuple(entry[3] for entry in self.entries[:count])


def _ranker(seed: int) -> Callable[[Endpoint], Rank | None]:
    keyed = blake2b(digest_size=8, key=(seed & (1 << 64) - 1).to_bytes(8, "little"))

    def rank(endpoint: Endpoint) -> Rank | None:
        tier = _TIERS.get(endpoint.health)
        if tier is None:
            return None
        state = keyed.copy()
        state.update(endpoint.address.encode())
        return tier, state.digest(), endpoint.address

    return rank


def ranked(source: EndpointMap, keep: int, seed: int) -> Ranking:
    """Ranks a set from scratch: one hash for each of its endpoints."""
    rank = _ranker(seed)
    counts = dict.fromkeys(Health, 0)

    def entries() -> Iterable[Entry]:
        for endpoint in source:
            counts[endpoint.health] += 1
            if (place := rank(endpoint)) is not None:
                yield *place, endpoint

    lowest = tuple(nsmallest(keep, entries(), key=_rank_of))
    tally = _tally(counts)
    bound = _UNBOUNDED if len(lowest) == tally.staying else _rank_of(lowest[-1])
    return Ranking(source, lowest, bound, tally)


def reranked(ranking: Ranking, source: EndpointMap, count: int, keep: int, seed: int) -> Ranking:
    """Returns the ranking of `source`, at the cost of what changed since `ranking` (made with the same `seed`).

    The `count` lowest are right; up to `keep` are held, so that the whole set is ranked anew only after more than
    `keep - count` of those held have gone.
    """
    if source is ranking.source:
        return ranking
    put, removed = changes(ranking.source, source)
    rank = _ranker(seed)
    counts = _counts(ranking.tally)
    entries = list(ranking.entries)
    for address in (*removed, *(endpoint.address for endpoint in put)):
        before = ranking.source.get(address)
        if before is not None:
            counts[before.health] -= 1
            _discard(entries, rank(before))
    for endpoint in put:
        counts[endpoint.health] += 1
        place = rank(endpoint)
        if place is not None and place <= ranking.bound:
            entries.insert(bisect_left(entries, place), (*place, endpoint))
    tally = _tally(counts)
    if len(entries) < min(count, tally.staying):
        return ranked(source, keep, seed)
    bound = ranking.bound
    if len(entries) > keep:
        del entries[keep:]
        bound = _rank_of(entries[-1])
    return Ranking(source, tuple(entries), bound, tally)


def quotas(sizes: Sequence[int], limit: int) -> tuple[int, ...]:
    """Splits `limit` over sets of these sizes, in proportion to them and never less than 1 of a set that has any.

    Sets that fit together into `limit` are taken whole. More than `limit` sets get one each.
    """
    total = sum(sizes)
    if total <= limit:
        return tuple(sizes)
    parts = [max(1, limit * size // total) if size else 0 for size in sizes]
    spare = limit - sum(parts)
    by_remainder = sorted(range(len(sizes)), key=lambda at: (-(limit * sizes[at] % total), at))
    for at in by_remainder[: max(spare, 0)]:
        parts[at] += 1
    while spare < 0 and max(parts) > 1:
        parts[parts.index(max(parts))] -= 1
        spare += 1
    return tuple(parts)


def _rank_of(entry: Entry) -> Rank:
    return entry[:3]


def _discard(entries: list[Entry], place: Rank | None) -> None:
    if place is None:
        return
    at = bisect_left(entries, place)
    if at < len(entries) and entries[at][:3] == place:
        del entries[at]


def _counts(tally: Tally) -> dict[Health, int]:
    return {
        Health.HEALTHY: tally.healthy,
        Health.DEGRADED: tally.degraded,
        Health.UNHEALTHY: tally.unhealthy,
        Health.DRAINING: tally.draining,
    }


def _tally(counts: dict[Health, int]) -> Tally:
    return Tally(counts[Health.HEALTHY], counts[Health.DEGRADED], counts[Health.UNHEALTHY], counts[Health.DRAINING])
