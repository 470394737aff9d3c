"""The policy of every call: move what was never sent, retry what the route's retry policy allows.

Compiled into the call plan by `meshsdk.channel`; runs only once an attempt has failed, so a call that succeeds pays
nothing for it. Follows gRFC A6 (retries, pushback) and A44 (retry policy from xDS).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from meshsdk.interceptors.policies.steps import Attempt, Outcome, Sleep, Steps
from meshsdk.model.matching import HeaderMatch
from meshsdk.model.policy import RetryPolicy
from meshsdk.routing.matchers import HeaderTest, header_test, headers

MAX_MOVES = 64  # bounds a call on endpoints that all take the connection and lose it before the request is written


def recover(retry: RetryPolicy | None, draw: Callable[[], float], admit: Callable[[], bool] = lambda: True) -> Steps:
    """Yields the steps of one call. `draw` gives floats in [0, 1) for the backoff's jitter.

    `admit` is asked before each retry (circuit breakers, budgets); where it refuses, the error is the call's own. An
    attempt that was never sent is no attempt at all: another endpoint is tried at once (design.md section 4), and
    neither the retry count nor the backoff moves.
    """
    moves = retries = 0
    tried: frozenset[str] = frozenset()
    while True:
        outcome = yield Attempt(previous=retries, avoid=tried)
        if outcome is None or outcome.committed or not _failed(retry, outcome):
            return
        if retry is not None and retry.avoid_previous and outcome.address:
            tried |= {outcome.address}
        if outcome.unsent and moves < MAX_MOVES:
            moves += 1
            continue
        if retry is None or retries >= retry.num_retries or not _retriable(retry, outcome) or not admit():
            return
        retries += 1
        yield Sleep(_backoff(retry, retries, draw()) if outcome.pushback is None else outcome.pushback)


def _failed(retry: RetryPolicy | None, outcome: Outcome) -> bool:
    """Tells whether something may follow: a retriable header makes a failure of any answer."""
    return outcome.code != "OK" or (retry is not None and _has_retriable_header(retry, outcome))


def _retriable(retry: RetryPolicy, outcome: Outcome) -> bool:
    forbidden = outcome.pushback is not None and outcome.pushback < 0
    return not forbidden and (outcome.code in retry.retry_on or _has_retriable_header(retry, outcome))


def _has_retriable_header(retry: RetryPolicy, outcome: Outcome) -> bool:
    """Envoy `retriable_headers`: one match is enough."""
    if not retry.retriable_headers or not outcome.headers:
        return False
    tests = _tests(retry.retriable_headers)
    found = headers(outcome.headers, frozenset(test.name for test in tests))
    return any(test.decide(found.get(test.name)) for test in tests)


@lru_cache(maxsize=256)
def _tests(matches: tuple[HeaderMatch, ...]) -> tuple[HeaderTest, ...]:
    return tuple(header_test(match) for match in matches)


def _backoff(retry: RetryPolicy, nth: int, share: float) -> float:
    """A44: uniform over [0, min(base * 2**(n-1), max)); the exponent is bounded to keep the power finite."""
    return share * min(retry.base_interval * 2.0 ** min(nth - 1, 30), retry.max_interval)
