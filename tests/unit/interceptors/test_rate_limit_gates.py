"""Rate limits as gates: descriptors, local buckets, the question to a service."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from meshsdk.interceptors.policies import gates, local_rate_limit
from meshsdk.interceptors.policies.descriptors import Descriptors
from meshsdk.interceptors.policies.gate import Consult, GateCall, Verdict
from meshsdk.interceptors.policies.steps import Reject
from meshsdk.model.filters import (
    CalledCluster,
    CallerCluster,
    DescriptorLimit,
    GenericKey,
    HeaderValueMatch,
    LocalRateLimit,
    RateLimitActions,
    RateLimitService,
    RequestHeader,
    TokenBucket,
)
from meshsdk.model.matching import HeaderMatch, StringKind, StringMatch
from tests.unit.interceptors.overload import decision

USER = RateLimitActions((RequestHeader("x-user", "user"),))
TWO = TokenBucket(2, 1, 10.0)


def call(*metadata: tuple[str, str], now: float = 0.0, left: float | None = None) -> GateCall:
    """A call with this metadata."""
    return GateCall("/s/m", metadata, now, left, "orders|v2", "web")


def local(config: LocalRateLimit, actions=(), draw: float = 0.5):
    """A local rate limit gate that draws the same each time."""
    return gates.make(config, actions, lambda: draw, nullcontext)


def allowed(gate, *metadata, now: float = 0.0) -> bool:
    """Whether the gate lets a call go on."""
    return not isinstance(decision(gate, call(*metadata, now=now)), Reject)


def test_descriptors():
    """Each action adds its entry; the method, the caller and the called cluster are known."""
    exact = (HeaderMatch("env", StringMatch(StringKind.EXACT, "a")),)
    path = RequestHeader(":path", "method")
    actions = RateLimitActions(
        (GenericKey("g"), path, HeaderValueMatch("yes", exact), CallerCluster(), CalledCluster())
    )
    entries = (("generic_key", "g"), ("method", "/s/m"), ("header_match", "yes"))
    clusters = (("source_cluster", "web"), ("destination_cluster", "orders|v2"))
    assert Descriptors((actions,)).of(call(("env", "a"))) == ((*entries, *clusters),)


def test_a_descriptor_is_whole_or_not_at_all():
    """An action that finds nothing drops its descriptor and no other; `skip_if_absent` drops the entry alone."""
    both = RateLimitActions((GenericKey("g"), RequestHeader("x-user", "user")))
    skipping = RateLimitActions((GenericKey("s"), RequestHeader("x-user", "user", skip_if_absent=True)))
    only_skipped = RateLimitActions((RequestHeader("x-user", "user", skip_if_absent=True),))
    descriptors = Descriptors((both, skipping, only_skipped))
    assert descriptors.of(call()) == ((("generic_key", "s"),),)


def test_a_match_may_be_expected_not_to_be():
    """`expect` False: the entry is there when the metadata does not match."""
    tests = (HeaderMatch("env", StringMatch(StringKind.EXACT, "a")),)
    descriptors = Descriptors((RateLimitActions((HeaderValueMatch("other", tests, expect=False),)),))
    assert descriptors.of(call()) == ((("header_match", "other"),),)
    assert descriptors.of(call(("env", "a"))) == ()


def test_stages():
    """Only actions of the asked stage count."""
    staged = RateLimitActions((GenericKey("late"),), stage=1)
    assert Descriptors((staged,)).of(call()) == ()
    assert Descriptors((staged,), stage=1).of(call()) == ((("generic_key", "late"),),)


def test_a_bucket_fills_with_time():
    """It begins full, is empty after its tokens, and gets a tenth of a token a second."""
    gate = local(LocalRateLimit(TWO, status="RESOURCE_EXHAUSTED"))
    assert [allowed(gate) for _ in range(3)] == [True, True, False]
    assert [allowed(gate, now=9.9), allowed(gate, now=10.0), allowed(gate, now=10.0)] == [False, True, False]
    assert [allowed(gate, now=1e6) for _ in range(3)] == [True, True, False]


def test_a_refusal_says_why_and_how_long():
    """The status of the filter, the limit in words, and the seconds until there is a token."""
    gate = local(LocalRateLimit(TWO, status="RESOURCE_EXHAUSTED"))
    allowed(gate), allowed(gate)
    refusal = decision(gate, call(now=4.0))
    assert isinstance(refusal, Reject)
    assert (refusal.code, refusal.category) == ("RESOURCE_EXHAUSTED", "local_rate_limit")
    assert refusal.info.reason == "LOCAL_RATE_LIMITED"
    assert refusal.info.retry_after == pytest.approx(6.0)
    assert (refusal.info.quota_subject, "1 calls per 10s" in refusal.details) == ("all calls", True)


def test_time_that_goes_back_adds_nothing():
    """Two threads may look at the clock in one order and come in the other."""
    gate = local(LocalRateLimit(TWO))
    assert allowed(gate, now=5.0)
    assert allowed(gate, now=4.0)
    assert not allowed(gate, now=5.0)


def test_descriptor_and_default_bucket():
    """A matched descriptor's bucket is asked, and the default one too, unless told otherwise."""
    limit = DescriptorLimit((("user", "ann"),), TokenBucket(5, 1, 10.0))
    both = local(LocalRateLimit(TWO, (limit,)), (USER,))
    alone = local(LocalRateLimit(TWO, (limit,), always_consume_default=False), (USER,))
    ann = ("x-user", "ann")
    assert [allowed(both, ann) for _ in range(3)] == [True, True, False]
    assert [allowed(alone, ann) for _ in range(6)] == [True] * 5 + [False]
    assert [allowed(alone, ("x-user", "bob")) for _ in range(3)] == [True, True, False]


def test_the_slowest_bucket_first():
    """Of two that match, the one that fills slower is asked first: an empty one costs the other no token."""
    slow = DescriptorLimit((("user", "ann"),), TokenBucket(1, 1, 100.0))
    fast = DescriptorLimit((("generic_key", "g"),), TokenBucket(2, 1, 1.0))
    actions = (RateLimitActions((GenericKey("g"),)), USER)
    gate = local(LocalRateLimit(None, (fast, slow)), actions)
    assert [allowed(gate, ("x-user", "ann")) for _ in range(3)] == [True, False, False]
    assert allowed(gate)


def test_any_value_has_a_bucket_of_its_own():
    """An entry without a value stands for any; each value that comes has its own tokens."""
    gate = local(LocalRateLimit(None, (DescriptorLimit((("user", ""),), TokenBucket(1, 1, 10.0)),)), (USER,))
    assert [allowed(gate, ("x-user", name)) for name in ("a", "b", "a", "b")] == [True, True, False, False]
    assert allowed(gate)


def test_values_that_callers_make_up_do_not_fill_the_memory(monkeypatch):
    """Beyond the most buckets the longest unused goes, and begins full when it comes again."""
    monkeypatch.setattr(local_rate_limit, "MAX_DYNAMIC", 2)
    gate = local(LocalRateLimit(None, (DescriptorLimit((("user", ""),), TokenBucket(1, 1, 10.0)),)), (USER,))
    names = ("a", "b", "a", "c", "a", "b")
    assert [allowed(gate, ("x-user", name)) for name in names] == [True, True, False, True, False, True]


@pytest.mark.parametrize(
    ("enabled", "enforced", "refused"), [(1.0, 1.0, True), (0.5, 1.0, False), (1.0, 0.5, False), (0.6, 0.6, True)]
)
def test_shares(enabled, enforced, refused):
    """`enabled` of the calls are asked, `enforced` of those that are over the limit are refused (draws are 0.5)."""
    gate = local(LocalRateLimit(TokenBucket(1, 1, 10.0), enabled=enabled, enforced=enforced))
    allowed(gate)
    assert allowed(gate) is not refused


def test_the_filters_own_actions_go_before_the_routes():
    """`rate_limits` of the filter stand in place of the route's."""
    limit = DescriptorLimit((("generic_key", "own"),), TokenBucket(1, 1, 10.0))
    own = (RateLimitActions((GenericKey("own"),)),)
    gate = local(LocalRateLimit(None, (limit,), rate_limits=own), (USER,))
    assert [allowed(gate), allowed(gate)] == [True, False]
    asking = gates.make(RateLimitService("shop", target="limiter:1", rate_limits=own), (), lambda: 0.0, nullcontext)
    question, _ = asked(asking, call(), Verdict(allowed=True))
    assert question.descriptors == ((("generic_key", "own"),),)


def test_the_filters_stage():
    """A filter looks at the actions of its own stage."""
    limit = DescriptorLimit((("generic_key", "late"),), TokenBucket(1, 1, 10.0))
    late = (RateLimitActions((GenericKey("late"),), stage=2),)
    assert [allowed(gate) for gate in [local(LocalRateLimit(None, (limit,), stage=2), late)] * 2] == [True, False]
    assert [allowed(gate) for gate in [local(LocalRateLimit(None, (limit,)), late)] * 2] == [True, True]


@pytest.mark.parametrize("bucket", [TokenBucket(0, 1, 1.0), TokenBucket(1, 0, 1.0), TokenBucket(1, 1, 0.0)])
def test_a_bucket_that_never_has_a_token_is_an_error(bucket):
    """It is named when the gate is made, not when a call comes."""
    with pytest.raises(ValueError, match="more than 0"):
        local(LocalRateLimit(bucket))


def asked(gate, one: GateCall, verdict: Verdict):
    """Runs a call to the question and answers it; returns question and decision."""
    passing = gate.enter(one)
    question = next(passing)
    try:
        passing.send(verdict)
    except StopIteration as ended:
        return question, ended.value
    raise AssertionError("it asks twice")


def service(**config: object):
    """A gate that asks a service, with descriptors by user."""
    return gates.make(RateLimitService("shop", cluster="limiter", **config), (USER,), lambda: 0.0, nullcontext)


def test_the_service_is_asked():
    """With the descriptors, where and how long; what it allows goes on."""
    question, decided = asked(service(), call(("x-user", "ann"), left=0.005), Verdict(allowed=True))
    assert question == Consult("shop", ((("user", "ann"),),), 0.005, "limiter", "")
    assert decided is None


def test_the_service_refuses():
    """Its limit and its wait are in the details."""
    verdict = Verdict(allowed=False, retry_after=3.0, limit="5 per minute")
    _, decided = asked(service(status="RESOURCE_EXHAUSTED"), call(("x-user", "ann")), verdict)
    assert decided.code == "RESOURCE_EXHAUSTED"
    assert decided.info.retry_after == 3.0
    assert (decided.info.quota_subject, decided.info.quota_description) == ("user=ann", "5 per minute")


@pytest.mark.parametrize("deny", [True, False])
def test_a_service_that_does_not_answer(deny):
    """The filter says whether calls go on then."""
    _, decided = asked(service(deny_on_failure=deny), call(("x-user", "a")), Verdict(None, problem="timeout"))
    assert (decided is None) is not deny
    if deny:
        assert (decided.code, "timeout" in decided.details) == ("UNAVAILABLE", True)


def test_nothing_to_ask_about():
    """A call without a descriptor is not asked about; a route without actions, or that turned it off, has no gate."""
    assert decision(service(), call()) is None
    assert gates.make(RateLimitService("shop"), (), lambda: 0.0, nullcontext) is None
    assert gates.make(RateLimitService("shop", disabled_by_route=True), (USER,), lambda: 0.0, nullcontext) is None
