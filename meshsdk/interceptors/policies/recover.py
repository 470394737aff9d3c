"""The policy of every call: move what was never sent, retry what the route's retry policy allows.

Compiled into the call plan by `meshsdk.channel`; runs only once an attempt has failed, so a call that succeeds pays
nothing for it. Follows gRFC A6 (retries, pushback) and A44 (retry policy from xDS).
"""

from __future__ import annotations

from collections.abc import Callable

from meshsdk.interceptors.policies.steps import Attempt, Outcome, Sleep, Steps
from meshsdk.model.policy import RetryPolicy

MAX_MOVES = 64  # bounds a call on endpoints that all take the connection and lose it before the request is written


def recover(retry: RetryPolicy | None, draw: Callable[[], float]) -> Steps:
    """Yields the steps of one call. `draw` gives floats in [0, 1) for the backoff's jitter.

    An attempt that was never sent is no attempt at all: another endpoint is tried at once (design.md section 4), and
    neither the retry count nor the backoff moves.
    """
    moves = retries = 0
    while True:
        outcome = yield Attempt(previous=retries)
        if outcome is None or outcome.code == "OK" or outcome.committed:
            return
        if outcome.unsent and moves < MAX_MOVES:
            moves += 1
            continue
        if retry is None or retries >= retry.num_retries or not _retriable(retry, outcome):
            return
        retries += 1
        yield Sleep(_backoff(retry, retries, draw()) if outcome.pushback is None else outcome.pushback)


def _retriable(retry: RetryPolicy, outcome: Outcome) -> bool:
    forbidden = outcome.pushback is not None and outcome.pushback < 0
    return outcome.code in retry.retry_on and not forbidden


def _backoff(retry: RetryPolicy, nth: int, share: float) -> float:
    """A44: uniform over [0, min(base * 2**(n-1), max)); the exponent is bounded to keep the power finite."""
    return share * min(retry.base_interval * 2.0 ** min(nth - 1, 30), retry.max_interval)
