"""Hash rings and Maglev tables: shares, stability, and what happens to keys of a broken backend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.lb.backend import Backend, Connectivity
from meshsdk.lb.maglev import build_table, maglev
from meshsdk.lb.ring_hash import build_ring, ring_hash
from meshsdk.lb.stand_in import Pick, stand_in
from meshsdk.model.endpoints import Endpoint
from meshsdk.model.policy import Maglev, RingHash
from meshsdk.model.xxh64 import xxh64
from tests.unit.lb.fleet import address, draws

CALL_KEYS = [xxh64(b"call %d" % number) for number in range(5000)]
Build = Callable[[Sequence[str], Sequence[float], Sequence[Backend | None]], Pick]


def ring(keys: Sequence[str], weights: Sequence[float], members: Sequence[Backend | None]) -> Pick:
    """A ring's pick, with 200 points a member whatever their number."""
    known = [member for member in members if member is not None]
    table = build_ring(keys, weights, RingHash(min_size=200 * len(keys), max_size=200 * len(keys)))
    return ring_hash(table, members, draws().random, stand_in(known, (), draws().random))


def table(keys: Sequence[str], weights: Sequence[float], members: Sequence[Backend | None]) -> Pick:
    """A Maglev table's pick, small so that tests are fast."""
    known = [member for member in members if member is not None]
    filled = build_table(keys, weights, Maglev(table_size=10_007))
    return maglev(filled, members, draws().random, stand_in(known, (), draws().random))


policies = pytest.mark.parametrize("build", [ring, table])


def names(count: int) -> list[str]:
    """So many addresses."""
    return [address(number) for number in range(count)]


def ready(keys: Sequence[str]) -> list[Backend]:
    """A connected backend for each key."""
    made = [Backend(Endpoint(key)) for key in keys]
    for backend in made:
        backend.state = Connectivity.READY
    return made


def owners(build: Build, keys: Sequence[str], weights: Sequence[float] | None = None) -> list[str]:
    """Who gets each call key when all are connected."""
    pick = build(keys, weights or [1] * len(keys), ready(keys))
    return [pick(key).endpoint.address for key in CALL_KEYS]


@policies
def test_one_of_n_leaving_moves_about_one_nth_of_the_keys(build: Build) -> None:
    """Of 20 endpoints one leaves: its keys move, and hardly any others (none on a ring)."""
    keys = names(20)
    before, after = owners(build, keys), owners(build, keys[:7] + keys[8:])
    moved = [old for old, new in zip(before, after, strict=True) if old != new]
    assert moved.count(keys[7]) == before.count(keys[7])
    assert len(moved) / len(CALL_KEYS) < (0.08 if build is ring else 0.2)
    if build is ring:
        assert set(moved) == {keys[7]}


@policies
@given(st.permutations(names(6)))
def test_the_order_of_endpoints_is_immaterial(build: Build, keys: list[str]) -> None:
    """Clients that see the same endpoints in different order send a key to the same one."""
    first, other = (build(order, [1] * 6, ready(order)) for order in (names(6), keys))
    for key in CALL_KEYS[:50]:
        assert first(key).endpoint.address == other(key).endpoint.address


@policies
def test_shares_follow_weights(build: Build) -> None:
    """Endpoints of weight 1, 2 and 5 own keys in about that proportion."""
    counts = Counter(owners(build, names(3), [1, 2, 5]))
    shares = [counts[name] / len(CALL_KEYS) for name in names(3)]
    assert shares == pytest.approx([1 / 8, 2 / 8, 5 / 8], rel=0.25)


@policies
def test_keys_of_a_broken_backend_walk_on_and_come_back(build: Build) -> None:
    """While a backend is not READY its keys go to several others and no other key moves; then it has its keys again."""
    keys = names(10)
    members = ready(keys)
    pick = build(keys, [1] * 10, members)
    before = [pick(key) for key in CALL_KEYS]
    members[4].state = Connectivity.FAILED
    during = [pick(key) for key in CALL_KEYS]
    members[4].state = Connectivity.READY
    heirs = {new.endpoint.address for old, new in zip(before, during, strict=True) if old is members[4]}
    assert len(heirs) > 4
    assert keys[4] not in heirs
    assert all(new is old for old, new in zip(before, during, strict=True) if old is not members[4])
    assert [pick(key) for key in CALL_KEYS] == before


def test_a_broken_backends_keys_go_where_a_ring_without_it_sends_them() -> None:
    """Connectivity and the control plane's removal agree: the keys move once, not twice (A42)."""
    keys = names(10)
    members = ready(keys)
    members[4].state = Connectivity.FAILED
    broken = ring(keys, [1] * 10, members)
    without = owners(ring, keys[:4] + keys[5:])
    assert [broken(key).endpoint.address for key in CALL_KEYS] == without


@policies
def test_members_without_a_backend_are_passed_over(build: Build) -> None:
    """An endpoint that has no connection object yet gets no call, and stops none."""
    keys = names(3)
    members: list[Backend | None] = [None, ready(keys)[1], None]
    pick = build(keys, [1, 1, 1], members)
    assert {pick(key) for key in CALL_KEYS[:100]} == {members[1]}


@policies
def test_with_nothing_connected_any_member_is_given(build: Build) -> None:
    """When every member left READY the pick still answers."""
    members = ready(names(3))
    pick = build(names(3), [1, 1, 1], members)
    for member in members:
        member.state = Connectivity.FAILED
    assert pick(CALL_KEYS[0]) in members


@policies
def test_a_call_without_a_hash_is_spread(build: Build) -> None:
    """Calls for which no policy produced a hash go to all endpoints."""
    pick = build(names(4), [1] * 4, ready(names(4)))
    counts = Counter(pick(None).endpoint.address for _ in range(4000))
    assert min(counts.values()) > 500


@pytest.mark.parametrize(
    ("weights", "config", "size"),
    [
        ([1, 1, 1], RingHash(), 1026),  # 1024 rounded up to like numbers of points
        ([1] * 10, RingHash(min_size=1, max_size=8), 8),
        ([1, 2], RingHash(min_size=3), 3),
        ([1, 1], RingHash(min_size=10_000, max_size=1_000_000), 4096),  # A42: the client's cap
        ([1, 999], RingHash(min_size=10), 1000),  # the least weight has a point
        ([1, 99_999], RingHash(min_size=10), 4096),
    ],
)
def test_ring_sizes_follow_the_bounds(weights: list[float], config: RingHash, size: int) -> None:
    """A ring has at least min_size points, a point for the least weight, and at most max_size or the cap."""
    built = build_ring(names(len(weights)), weights, config)
    assert len(built.points) == size
    assert list(built.points) == sorted(built.points)


def test_ring_points_are_those_of_ketama_with_xx_hash() -> None:
    """The points of an endpoint are XX_HASH of key, underscore and number, as stock gRPC and Envoy place them."""
    built = build_ring(["10.0.0.1:80"], [1], RingHash(min_size=3, max_size=3))
    assert list(built.points) == sorted(xxh64(f"10.0.0.1:80_{number}".encode()) for number in range(3))


def test_maglev_slots_are_even_and_the_size_prime() -> None:
    """Equal weights own slot counts that differ by one at most; a size that is not prime becomes the next prime."""
    filled = build_table(names(7), [1] * 7, Maglev(table_size=1000))
    assert len(filled) == 1009
    counts = Counter(filled)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_maglev_tables_are_bounded() -> None:
    """A table size of millions from a control plane does not stall the client: 65,537 slots are the most."""
    assert len(build_table(names(2), [1, 1], Maglev(table_size=5_000_011))) == 65_537
