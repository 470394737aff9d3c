"""Rendezvous subsetting: right after any update, few moves, even load."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from meshsdk.lb.subsetting import Ranking, Tally, quotas, ranked, reranked
from meshsdk.model.endpoints import Endpoint, EndpointMap, Health
from tests.unit.lb.fleet import address, endpoints, mixed


def chosen(ranking: Ranking, count: int) -> set[str]:
    """The addresses of a subset."""
    return {endpoint.address for endpoint in ranking.best(count)}


a_change = st.tuples(st.integers(0, 40), st.sampled_from([None, None, *Health]), st.integers(1, 3))


@given(
    st.integers(0, 40),
    st.lists(st.lists(a_change, min_size=1, max_size=25), min_size=1, max_size=8),
    st.integers(1, 5),
    st.integers(0, 2**64 - 1),
)
def test_an_updated_ranking_equals_one_from_scratch(
    start: int, updates: list[list[tuple[int, Health | None, int]]], count: int, seed: int
) -> None:
    """After any series of additions, removals, changes of health and weight, subset and tally are as if made anew."""
    source = EndpointMap.of(endpoints(start))
    ranking = ranked(source, 2 * count, seed)
    for update in updates:
        put = [Endpoint(address(number), weight, health) for number, health, weight in update if health]
        source = source.updated(put, [address(number) for number, health, _ in update if not health])
        ranking = reranked(ranking, source, count, 2 * count, seed)
        anew = ranked(source, 2 * count, seed)
        assert ranking.best(count) == anew.best(count)
        assert ranking.tally == anew.tally
        assert len(ranking.entries) <= 2 * count


def test_what_a_full_ranking_let_go_is_found_again() -> None:
    """Endpoints that did not fit are not forgotten when a worse one comes after better ones have gone."""
    by_rank = ranked(EndpointMap.of(endpoints(20)), 20, 1).best(20)
    source = EndpointMap()
    ranking = ranked(source, 4, 1)
    for put, removed in ((range(10), []), ([], [0]), ([15], []), ([], [1, 2])):
        source = source.updated([by_rank[at] for at in put], [by_rank[at].address for at in removed])
        ranking = reranked(ranking, source, 2, 4, 1)
    assert ranking.best(2) == (by_rank[3], by_rank[4])


def test_an_update_is_applied_without_ranking_the_set_anew(monkeypatch) -> None:
    """One changed endpoint of 5,000 costs its own hashes; the set is ranked anew only when too many held ones left."""
    source = EndpointMap.of(endpoints(5000))
    ranking = ranked(source, 20, 1)
    monkeypatch.setattr("meshsdk.lb.subsetting.ranked", lambda *_: (_ for _ in ()).throw(AssertionError))
    for number in range(100):
        source = source.updated([Endpoint(address(number), weight=7)])
        ranking = reranked(ranking, source, 10, 20, 1)
    for victim in sorted(chosen(ranking, 10)):
        source = source.updated(removed=[victim])
        ranking = reranked(ranking, source, 10, 20, 1)
    monkeypatch.undo()
    assert ranking.best(10) == ranked(source, 20, 1).best(10)


@given(st.sets(st.integers(0, 299), min_size=1, max_size=10), st.integers(0, 2**32))
def test_k_removed_endpoints_move_at_most_k_places(removed: set[int], seed: int) -> None:
    """Subsets of 20 out of 300 lose only what was removed and gain as many."""
    source = EndpointMap.of(endpoints(300))
    before = chosen(ranked(source, 40, seed), 20)
    gone = {address(number) for number in removed}
    after = chosen(ranked(source.updated(removed=gone), 40, seed), 20)
    assert before - after == before & gone
    assert len(after - before) == len(before & gone)


def test_many_clients_load_all_endpoints_alike() -> None:
    """2,000 clients with subsets of 20 out of 100 give each endpoint about 400 connections."""
    source = EndpointMap.of(endpoints(100))
    counts = Counter(one for seed in range(2000) for one in chosen(ranked(source, 20, seed), 20))
    assert len(counts) == 100
    assert min(counts.values()) > 310
    assert max(counts.values()) < 490  # five standard deviations of 18


def test_a_subset_depends_on_seed_and_addresses_only() -> None:
    """The same client sees the same subset in whatever order and with whatever history endpoints come."""
    forward, backward = (EndpointMap.of(order) for order in (endpoints(200), endpoints(200)[::-1]))
    assert ranked(forward, 20, 5).best(10) == ranked(backward, 20, 5).best(10)
    assert chosen(ranked(forward, 20, 5), 10) != chosen(ranked(forward, 20, 6), 10)


def test_usable_endpoints_come_first_and_draining_never() -> None:
    """A subset takes healthy ones, then degraded, then unhealthy ones; draining ones are counted, not taken."""
    source = EndpointMap.of(mixed(healthy=3, degraded=2, unhealthy=4, draining=5))
    ranking = ranked(source, 100, 1)
    kinds = [endpoint.health.value for endpoint in ranking.best(100)]
    assert kinds == ["healthy"] * 3 + ["degraded"] * 2 + ["unhealthy"] * 4
    assert ranking.tally == Tally(3, 2, 4, 5)
    assert ranking.tally.staying == 9


@given(st.lists(st.integers(0, 500), min_size=1, max_size=30), st.integers(1, 200))
def test_quotas_fit_and_keep_proportion(sizes: list[int], limit: int) -> None:
    """Quotas never exceed sets or (with fewer sets than places) the limit, starve no set and follow the sizes."""
    parts = quotas(sizes, limit)
    total, occupied = sum(sizes), sum(size > 0 for size in sizes)
    assert sum(parts) == (total if total <= limit else max(limit, occupied))
    for size, part in zip(sizes, parts, strict=True):
        assert (part >= 1) == (size >= 1)
        assert part <= size
        if total > limit >= 2 * occupied:
            assert abs(part - limit * size / total) < 1 + occupied
