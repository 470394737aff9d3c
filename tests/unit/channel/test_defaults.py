"""What a server says of its methods fills in what the route leaves open, and nothing else."""

from __future__ import annotations

import pytest

from meshsdk.channel.attempt import shorter
from meshsdk.channel.defaults import IDEMPOTENT, defaulted
from meshsdk.model.policy import RetryPolicy, RpcDefaults
from meshsdk.model.resources import Forward

OWN = RetryPolicy(frozenset({"ABORTED"}), 1)
ROUTES = RetryPolicy(frozenset({"INTERNAL"}), 0)


@pytest.mark.parametrize(
    ("forward", "said", "retry"),
    [
        (Forward(()), RpcDefaults(), None),
        (Forward(()), RpcDefaults(idempotent=True), IDEMPOTENT),
        (Forward(()), RpcDefaults(idempotent=True, retry=OWN), OWN),
        (Forward(()), RpcDefaults(retry=OWN), OWN),
        (Forward((), retry=ROUTES), RpcDefaults(idempotent=True, retry=OWN), ROUTES),
    ],
)
def test_retry(forward, said, retry):
    """The route's policy stands; then the decorator's; then what idempotence allows."""
    assert defaulted(forward, said).retry == retry


def test_idempotent_calls_find_the_other_endpoint():
    """A retry draws as often as the control plane's routes do: one draw of two would fail where it failed before."""
    assert (IDEMPOTENT.avoid_previous, IDEMPOTENT.avoid_attempts) == (True, 5)


@pytest.mark.parametrize(
    ("cap", "timeout", "limit"),
    [(None, None, 2.0), (None, 9.0, 9.0), (None, 1.0, 1.0), (5.0, None, 5.0), (0.0, None, None)],
)
def test_timeout(cap, timeout, limit):
    """The server's timeout is for calls without a deadline, on a route that sets no cap."""
    forward = defaulted(Forward((), max_duration=cap), RpcDefaults(timeout=2.0))
    assert shorter(timeout, forward) == limit
