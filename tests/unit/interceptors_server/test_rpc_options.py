"""The words of `@meshsdk.rpc`, read and refused."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from meshsdk.errors import ConfigurationError
from meshsdk.interceptors.rpc_options import Limit, RpcOptions, read_options
from meshsdk.model.policy import RetryPolicy


def read(**said) -> RpcOptions:
    """Reads options, unsaid ones as the decorator's defaults."""
    return read_options(**{"idempotent": False, "timeout": None, "retry": None, "limit": None, **said})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2s", 2.0), ("250ms", 0.25), ("1.5m", 90.0), ("1h", 3600.0), (3, 3.0), (0.5, 0.5), (timedelta(seconds=4), 4.0)],
)
def test_timeouts_are_read(text, seconds):
    """A timeout is seconds, a timedelta, or text with a unit."""
    assert read(timeout=text).timeout == pytest.approx(seconds)


@pytest.mark.parametrize(
    "wrong", ["2", "s", "-1s", "1 s", 0, -1, "0s", float("nan"), float("inf"), "25h", True, [], "1d"]
)
def test_wrong_timeouts_are_refused(wrong):
    """What is no duration, or none that makes sense, is refused with what was written."""
    with pytest.raises(ConfigurationError, match="timeout="):
        read(timeout=wrong)


def test_retry_is_a_number_or_a_policy():
    """A number retries on UNAVAILABLE; a policy says more."""
    assert read(idempotent=True, retry=2).retry == RetryPolicy(frozenset({"UNAVAILABLE"}), 2)
    policy = RetryPolicy(frozenset({"INTERNAL"}), 3, per_try_timeout=0.5)
    assert read(idempotent=True, retry=policy).retry is policy


@pytest.mark.parametrize("wrong", [0, 11, True, "2", RetryPolicy(frozenset({"unavailable"}), 1)])
def test_wrong_retries_are_refused(wrong):
    """A count out of range, a wrong type and unknown statuses are refused."""
    with pytest.raises(ConfigurationError, match="retr"):
        read(idempotent=True, retry=wrong)


def test_retry_needs_idempotence():
    """Retrying what must not run twice is refused, with what to write."""
    with pytest.raises(ConfigurationError, match="idempotent=True"):
        read(retry=2)


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        (64, Limit(concurrent=64)),
        ("100/s", Limit(rate=100.0)),
        ("6000/m", Limit(rate=100.0)),
        (Limit(concurrent=1, rate=0.5), Limit(concurrent=1, rate=0.5)),
        ({"rate": "100/s", "concurrent": 64}, Limit(concurrent=64, rate=100.0)),
        ({"rate": 2.5}, Limit(rate=2.5)),
    ],
)
def test_limits_are_read(said, limit):
    """A limit is a number of calls in flight, a rate, or both."""
    assert read(limit=said).limit == limit


@pytest.mark.parametrize(
    "wrong",
    [
        *(0, -1, True, "100", "0/s", "1/d", Limit(), Limit(rate=float("nan")), {}, {"rps": 5}),
        *({"rate": "fast"}, {"rate": True}, {"concurrent": "64"}, {"concurrent": 0}, {"rate": None}),
    ],
)
def test_wrong_limits_are_refused(wrong):
    """What limits nothing, or everything, is refused."""
    with pytest.raises(ConfigurationError, match="limit"):
        read(limit=wrong)


def test_idempotent_is_a_boolean():
    """A truthy word is not taken for a promise."""
    with pytest.raises(ConfigurationError, match="idempotent='yes'"):
        read(idempotent="yes")


def test_published_options_are_json_and_leave_out_the_unsaid():
    """What is published survives JSON, and an empty decorator publishes nothing."""
    assert read().published() == {}
    published = read(idempotent=True, timeout="2s", retry=1, limit="10/s").published()
    assert json.loads(json.dumps(published)) == {
        "idempotent": True,
        "timeout": 2.0,
        "retry": {
            "retryOn": ["UNAVAILABLE"],
            "numRetries": 1,
            "baseInterval": 0.025,
            "maxInterval": 0.25,
            "perTryTimeout": None,
        },
        "limit": {"concurrent": None, "rate": 10.0},
    }
