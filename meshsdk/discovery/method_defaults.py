"""What servers say of their methods (`@meshsdk.rpc`), read from the revisions that they published. Pure.

Called by `mapping`, once for each revision, and by `consumer`, for all revisions that are in use at a time. Callers go
by it where no configuration says more. A revision comes from outside: options that cannot be meant do not count, which
is logged once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from meshsdk.model.instance import MethodInfo, Revision
from meshsdk.model.policy import RetryPolicy, RpcDefaults
from meshsdk.model.resources import NO_METHODS, Methods

_SAID_NOTHING = RpcDefaults()
_LONGEST = 24 * 3600.0  # seconds
_MOST_RETRIES = 10
_RETRIABLE = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "UNAVAILABLE"})  # A44
_LOG = logging.getLogger("meshsdk.discovery")


def methods_of(content: Revision) -> Methods:
    """Returns what a revision says, of each of its methods: those without options too, for `agreed`."""
    return MappingProxyType({method.name: _defaults(content, method) for method in content.methods})


def agreed(said: Sequence[Methods]) -> Methods:
    """Returns what holds for callers of instances with these revisions: what all that have a method say of it alike.

    While a server is being replaced, a call may reach either version: it is executed twice only if both allow that.
    """
    if not said:
        return NO_METHODS
    found = dict(said[0])
    for methods in said[1:]:
        for name, defaults in methods.items():
            known = found.get(name)
            found[name] = defaults if known is None else _both(known, defaults)
    return MappingProxyType({name: one for name, one in found.items() if one != _SAID_NOTHING})


def _both(one: RpcDefaults, other: RpcDefaults) -> RpcDefaults:
    if one == other:
        return one
    return RpcDefaults(
        one.idempotent and other.idempotent,
        one.timeout if one.timeout == other.timeout else None,
        one.retry if one.retry == other.retry else None,
    )


def _defaults(content: Revision, method: MethodInfo) -> RpcDefaults:
    options = method.options
    if not options:
        return _SAID_NOTHING
    try:
        idempotent = options.get("idempotent", False) is True
        retry = _retry(options.get("retry"))
        if retry is not None and not idempotent:
            raise ValueError("a retry policy for a method that is not idempotent")  # noqa: TRY301 - as the others below
        found = RpcDefaults(idempotent, _seconds(options.get("timeout")), retry)
    except ValueError as error:
        words = "revision %s of %s: the options of %s do not count: %s"
        _LOG.warning(words, content.revision, content.app, method.name, error)
        return _SAID_NOTHING
    return _SAID_NOTHING if found == _SAID_NOTHING else found


def _retriable(name: object) -> bool:
    return isinstance(name, str) and name in _RETRIABLE


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LONGEST:
        raise ValueError(f"{str(value)[:40]!r} is no number of seconds up to a day")
    return float(value)


def _retry(value: object) -> RetryPolicy | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ValueError("retry is no object")  # noqa: TRY004 - one kind of error for whatever is wrong
    names, count = value.get("retryOn"), value.get("numRetries", 1)
    if not isinstance(names, list | tuple) or not names or not all(_retriable(name) for name in names):
        raise ValueError("retryOn is no list of statuses that can be retried")
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= _MOST_RETRIES:
        raise ValueError(f"numRetries is no number of 1 to {_MOST_RETRIES}")
    plain = RetryPolicy(frozenset(names), count)
    base = _seconds(value.get("baseInterval")) or plain.base_interval
    longest = _seconds(value.get("maxInterval")) or max(base, plain.max_interval)
    if longest < base:
        raise ValueError("maxInterval is less than baseInterval")
    timeout = _seconds(value.get("perTryTimeout"))
    return replace(plain, base_interval=base, max_interval=longest, per_try_timeout=timeout)
