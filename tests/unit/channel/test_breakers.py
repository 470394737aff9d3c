"""Circuit breakers: what they let run at once, and that counts outlive a change of limits."""

from __future__ import annotations

import gc
import threading

import pytest

from meshsdk.channel.breakers import Breaker, Breakers, limits_nothing
from meshsdk.model.policy import CircuitBreakers, RetryBudget

HUGE = 4294967295


def test_requests():
    """As many attempts as `max_requests` run at once; who is refused is counted."""
    breaker = Breaker("c", CircuitBreakers(max_requests=2), high=False)
    assert [breaker.enter() for _ in range(3)] == [True, True, False]
    assert (breaker.running, breaker.limit, breaker.open, breaker.refused) == (2, 2, True, 1)
    breaker.leave()
    assert not breaker.open
    assert breaker.enter()


def test_pending():
    """As many calls as `max_pending_requests` wait at once."""
    breaker = Breaker("c", CircuitBreakers(max_pending_requests=1), high=False)
    assert [breaker.queue(), breaker.queue()] == [True, False]
    breaker.unqueue()
    assert breaker.queue()


def test_defaults_of_the_spec():
    """What a configuration leaves open is as envoy.config.cluster.v3.CircuitBreakers says."""
    breaker = Breaker("c", CircuitBreakers(), high=False)
    assert (breaker.limit, breaker.retry_limit) == (1024, 3)
    assert [breaker.queue() for _ in range(1025)] == [True] * 1024 + [False]


@pytest.mark.parametrize(
    ("budget", "running", "limit"),
    [(RetryBudget(0.2, 3), 0, 3), (RetryBudget(0.2, 3), 100, 20), (RetryBudget(0.5, 0), 1, 0), (RetryBudget(), 16, 3)],
)
def test_retry_budget(budget, running, limit):
    """A budget lets retries be a share of the calls that run, a few in any case, whatever `max_retries` says."""
    breaker = Breaker("c", CircuitBreakers(retry_budget=budget, max_retries=1), high=False)
    for _ in range(running):
        breaker.enter()
    assert breaker.retry_limit == limit
    assert [breaker.retry() for _ in range(limit + 1)] == [True] * limit + [False]
    for _ in range(limit):
        breaker.retried()
    assert breaker.retries == 0


def test_of_a_mesh():
    """One breaker for each cluster and priority, which takes new limits and is gone with its last holder."""
    breakers = Breakers()
    one = breakers.of("c", CircuitBreakers(max_requests=1), high=False)
    one.enter()
    assert breakers.of("c", CircuitBreakers(max_requests=5), high=False) is one
    assert (one.running, one.limit) == (1, 5)
    high = breakers.of("c", CircuitBreakers(), high=True)
    assert high is not one
    assert sorted(found.high for found in breakers) == [False, True]
    del high
    gc.collect()
    assert list(breakers) == [one]


@pytest.mark.parametrize(
    ("limits", "nothing"),
    [
        (CircuitBreakers(HUGE, HUGE, HUGE, HUGE), True),
        (CircuitBreakers(None, HUGE, HUGE, HUGE), True),
        (CircuitBreakers(HUGE, HUGE, HUGE, None), False),
        (CircuitBreakers(HUGE, HUGE, HUGE, HUGE, RetryBudget()), False),
        (CircuitBreakers(), False),
    ],
)
def test_limits_nothing(limits, nothing):
    """Limits that no process meets, as Istio writes them, are none."""
    assert limits_nothing(limits) is nothing


def test_threads():
    """However many threads enter at once, no more run than the limit lets."""
    breaker, most = Breaker("c", CircuitBreakers(max_requests=3), high=False), []

    def work() -> None:
        for _ in range(300):
            if breaker.enter():
                most.append(breaker.running)
                breaker.leave()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= 3
    assert breaker.running == 0
