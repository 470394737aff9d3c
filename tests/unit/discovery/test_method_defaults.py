"""What servers say of their methods: read from revisions, and put together while several are in use."""

from __future__ import annotations

import logging
from types import MappingProxyType

import pytest

from meshsdk.discovery.method_defaults import agreed, methods_of
from meshsdk.interceptors.rpc_options import read_options
from meshsdk.model.instance import MethodInfo, Revision
from meshsdk.model.policy import RetryPolicy, RpcDefaults

GET = "/shop.Orders/Get"
RETRY = RetryPolicy(frozenset({"UNAVAILABLE"}), 2)


def revision(options, name=GET):
    """Returns a revision with one method."""
    return Revision("orders", "r", (MethodInfo(name, MappingProxyType(options)),))


def test_what_the_decorator_writes_is_what_callers_read():
    """`@meshsdk.rpc` publishes idempotence, timeout and retries; a limit is for the server alone."""
    policy = RetryPolicy(frozenset({"INTERNAL"}), 3, 0.1, 2.0, 0.5)
    said = read_options(idempotent=True, timeout="250ms", retry=policy, limit=7).published()
    assert methods_of(revision(said)) == {GET: RpcDefaults(True, 0.25, policy)}
    assert methods_of(revision({})) == {GET: RpcDefaults()}


@pytest.mark.parametrize(
    "options",
    [
        {"idempotent": True, "timeout": "2s"},
        {"idempotent": True, "timeout": -1},
        {"idempotent": True, "timeout": float("nan")},
        {"idempotent": True, "timeout": True},
        {"idempotent": True, "retry": 3},
        {"idempotent": True, "retry": {"retryOn": []}},
        {"idempotent": True, "retry": {"retryOn": [["x"]]}},
        {"idempotent": True, "retry": {"retryOn": ["OK"]}},
        {"idempotent": True, "retry": {"retryOn": ["INTERNAL"], "numRetries": 100}},
        {"idempotent": True, "retry": {"retryOn": ["INTERNAL"], "baseInterval": 2, "maxInterval": 1}},
        {"retry": {"retryOn": ["INTERNAL"]}},
    ],
)
def test_options_that_cannot_be_meant(options, caplog):
    """A registry is a place that others write to: what is wrong counts for nothing, and is said in one line."""
    with caplog.at_level(logging.WARNING):
        assert methods_of(revision(options)) == {GET: RpcDefaults()}
    assert next(record.getMessage() for record in caplog.records).startswith(
        f"revision r of orders: the options of {GET} do not count: "
    )


def test_versions_must_agree():
    """While a server is replaced, a call is executed twice only if both versions allow that."""
    new = {GET: RpcDefaults(True, 1.0, RETRY), "/s/New": RpcDefaults(True)}
    assert agreed([new]) == new
    assert agreed([new, {GET: RpcDefaults(True, 2.0, RETRY)}]) == {
        GET: RpcDefaults(True, None, RETRY),
        "/s/New": RpcDefaults(True),
    }
    assert agreed([new, {GET: RpcDefaults(), "/s/New": RpcDefaults()}]) == {}
    assert agreed([]) == {}
