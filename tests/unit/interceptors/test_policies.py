"""The recover policy: a table of what follows what, and properties over any sequence of outcomes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.interceptors.policies.recover import MAX_MOVES, recover
from meshsdk.interceptors.policies.steps import Attempt, Outcome, Sleep
from meshsdk.model.matching import HeaderMatch, StringKind, StringMatch
from meshsdk.model.policy import RetryPolicy

RETRY = RetryPolicy(frozenset({"UNAVAILABLE"}), num_retries=2, base_interval=1.0, max_interval=1.5)
OK, LOST, OTHER = Outcome("OK"), Outcome("UNAVAILABLE"), Outcome("ABORTED")
UNSENT = Outcome("UNAVAILABLE", unsent=True)


def run(retry, outcomes, draw=lambda: 0.5):
    """The steps that follow the outcomes, to the end of either."""
    steps = recover(retry, draw)
    seen = [next(steps)]
    given_ = iter(outcomes)
    try:
        while True:
            seen.append(steps.send(None if isinstance(seen[-1], Sleep) else next(given_)))
    except StopIteration:
        return seen


FIRST = Attempt()


@pytest.mark.parametrize(
    ("retry", "outcomes", "steps"),
    [
        (None, [OK], [FIRST]),
        (None, [LOST, OK], [FIRST]),
        (None, [UNSENT, OK], [FIRST, FIRST]),
        (None, [UNSENT, UNSENT, LOST, OK], [FIRST] * 3),
        (RETRY, [OK], [FIRST]),
        (RETRY, [OTHER, OK], [FIRST]),
        (RETRY, [LOST, OK], [FIRST, Sleep(0.5), Attempt(1)]),
        (RETRY, [LOST, LOST, LOST, OK], [FIRST, Sleep(0.5), Attempt(1), Sleep(0.75), Attempt(2)]),
        (RETRY, [UNSENT, LOST, UNSENT, OK], [FIRST, FIRST, Sleep(0.5), Attempt(1), Attempt(1)]),
        (RETRY, [Outcome("UNAVAILABLE", committed=True), OK], [FIRST]),
        (RETRY, [Outcome("UNAVAILABLE", unsent=True, committed=True), OK], [FIRST]),
        (RETRY, [Outcome("UNAVAILABLE", pushback=3.0), OK], [FIRST, Sleep(3.0), Attempt(1)]),
        (RETRY, [Outcome("UNAVAILABLE", pushback=0.0), OK], [FIRST, Sleep(0.0), Attempt(1)]),
        (RETRY, [Outcome("UNAVAILABLE", pushback=-1.0), OK], [FIRST]),
        (RETRY, [Outcome("ABORTED", pushback=3.0), OK], [FIRST]),
        (RetryPolicy(frozenset({"UNAVAILABLE"}), num_retries=0), [LOST, OK], [FIRST]),
        (RetryPolicy(frozenset(), num_retries=5), [LOST, OK], [FIRST]),
    ],
)
def test_table(retry, outcomes, steps):
    """Each way a call can go."""
    assert run(retry, outcomes) == steps


def test_abandoned_after_no_outcome():
    """A driver that has no outcome to tell ends the policy."""
    steps = recover(RETRY, lambda: 0.5)
    next(steps)
    with pytest.raises(StopIteration):
        steps.send(None)


def test_moves_are_bounded():
    """Endpoints that take connections and lose them before the request is written do not hold a call for ever."""
    assert run(None, [UNSENT] * 1000) == [FIRST] * (MAX_MOVES + 1)


def test_moves_beyond_the_bound_may_be_retried():
    """Beyond the bound an unsent attempt is treated as any other failure of its code."""
    seen = run(RETRY, [UNSENT] * (MAX_MOVES + 1) + [OK])
    assert seen[MAX_MOVES + 1 :] == [Sleep(0.5), Attempt(1)]


outcomes_of_calls = st.lists(
    st.builds(
        Outcome,
        st.sampled_from(["OK", "UNAVAILABLE", "ABORTED", "INTERNAL"]),
        unsent=st.booleans(),
        committed=st.booleans(),
        pushback=st.none() | st.floats(-1, 100),
    ),
    max_size=80,
)
policies = st.none() | st.builds(
    RetryPolicy,
    st.frozensets(st.sampled_from(["UNAVAILABLE", "ABORTED"])),
    st.integers(0, 5),
    st.floats(0.001, 10),
    st.floats(0.001, 100),
)


@given(policies, outcomes_of_calls, st.lists(st.floats(0, 1, exclude_max=True), min_size=10))
def test_properties(retry, outcomes, draws):
    """Nothing follows a success or a commit; retries are bounded, named by the policy, and each waits first."""
    drawn = iter(draws * 10)
    steps = recover(retry, lambda: next(drawn))
    step = next(steps)
    sent = 0
    for outcome in outcomes:
        assert isinstance(step, Attempt)
        assert step.previous == sent
        try:
            step = steps.send(outcome)
        except StopIteration:
            allowed = retry is not None and sent < retry.num_retries and outcome.code in retry.retry_on
            refused = outcome.pushback is not None and outcome.pushback < 0
            if outcome.code != "OK" and not outcome.committed and not outcome.unsent:
                assert not allowed or refused
            return
        assert outcome.code != "OK"
        assert not outcome.committed
        if isinstance(step, Attempt):
            assert outcome.unsent
            continue
        assert retry is not None
        assert outcome.code in retry.retry_on
        if outcome.pushback is None:
            assert 0 <= step.seconds <= min(retry.base_interval * 2**sent, retry.max_interval)
        else:
            assert step.seconds == outcome.pushback >= 0
        sent += 1
        assert sent <= retry.num_retries
        step = steps.send(None)


def test_admission():
    """A retry that is not admitted is not made; moves ask nobody."""
    asked = []

    def admit() -> bool:
        asked.append(None)
        return len(asked) < 2

    steps = recover(RETRY, lambda: 0.5, admit)
    assert next(steps) == FIRST
    assert steps.send(UNSENT) == FIRST
    assert asked == []
    assert steps.send(LOST) == Sleep(0.5)
    assert steps.send(None) == Attempt(1)
    with pytest.raises(StopIteration):
        steps.send(LOST)
    assert len(asked) == 2


def test_endpoints_to_avoid():
    """Where the policy says so, each further attempt names all endpoints that the call has tried."""
    policy = RetryPolicy(RETRY.retry_on, 2, 1.0, 1.5, avoid_previous=True)
    steps = recover(policy, lambda: 0.5)
    next(steps)
    assert steps.send(Outcome("UNAVAILABLE", unsent=True, address="a:1")) == Attempt(avoid=frozenset({"a:1"}))
    assert steps.send(Outcome("UNAVAILABLE", address="b:1")) == Sleep(0.5)
    assert steps.send(None) == Attempt(1, avoid=frozenset({"a:1", "b:1"}))


TEST = HeaderMatch("x-retry", StringMatch(StringKind.EXACT, "yes"))


@pytest.mark.parametrize("code", ["OK", "ABORTED", "UNAVAILABLE"])
@pytest.mark.parametrize(
    ("headers", "retried"),
    [((("x-retry", "yes"),), True), ((("x-retry", "no"),), False), ((), False)],
)
def test_retriable_headers(code, headers, retried):
    """A header of the policy makes a failure of any answer, unless it has reached the application."""
    policy = RetryPolicy(frozenset(), 1, 1.0, 1.5, retriable_headers=(TEST,))
    assert len(run(policy, [Outcome(code, headers=headers), OK])) == (3 if retried else 1)
    assert len(run(policy, [Outcome(code, headers=headers, committed=True), OK])) == 1
    assert len(run(policy, [Outcome(code, headers=headers, pushback=-1.0), OK])) == 1


def test_backoff_of_many_retries_is_finite():
    """The power of a far retry does not overflow."""
    policy = RetryPolicy(frozenset({"UNAVAILABLE"}), num_retries=5000, base_interval=10.0, max_interval=60.0)
    waits = [step.seconds for step in run(policy, [LOST] * 5000, lambda: 0.999) if isinstance(step, Sleep)]
    assert len(waits) == 5000
    assert max(waits) < 60.0
