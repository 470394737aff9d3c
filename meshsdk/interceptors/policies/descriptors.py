"""Rate limit descriptors: what a call is counted under, from the actions of its route.

Called by the rate limit gates, local and global, for each call (`envoy.config.route.v3.RateLimit`). Sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from meshsdk.interceptors.policies.gate import Descriptor, GateCall
from meshsdk.model.filters import (
    CalledCluster,
    CallerCluster,
    DescriptorAction,
    GenericKey,
    HeaderValueMatch,
    RateLimitActions,
    RequestHeader,
)
from meshsdk.routing.matchers import PATH_HEADER, header_test, header_value

_Entry = tuple[str, str]
_Action = Callable[[GateCall], "_Entry | bool"]  # False: no descriptor at all; True: go on without an entry


class Descriptors:
    """The compiled actions of one route and stage. Read-only after init."""

    __slots__ = ("_all",)

    def __init__(self, actions: Sequence[RateLimitActions], stage: int = 0) -> None:
        """Raises ValueError for a header match that cannot be compiled."""
        self._all = tuple(
            tuple(_compiled(action) for action in one.actions) for one in actions if one.stage == stage and one.actions
        )

    def of(self, call: GateCall) -> tuple[Descriptor, ...]:
        """Returns the call's descriptors. One of which an action finds nothing is left out whole, as in Envoy."""
        found = []
        for actions in self._all:
            descriptor = _descriptor(actions, call)
            if descriptor:
                found.append(descriptor)
        return tuple(found)


def header(call: GateCall, name: str) -> str | None:
    """Returns a header of the call as matchers see it (A28), `:path` being its method."""
    return call.method if name == PATH_HEADER else header_value(call.metadata, name)


def _descriptor(actions: tuple[_Action, ...], call: GateCall) -> Descriptor:
    entries: list[_Entry] = []
    for action in actions:
        entry = action(call)
        if entry is False:
            return ()
        if isinstance(entry, tuple):
            entries.append(entry)
    return tuple(entries)


def _compiled(action: DescriptorAction) -> _Action:
    if isinstance(action, GenericKey):
        fixed = (action.key, action.value)
        return lambda _: fixed
    if isinstance(action, RequestHeader):
        return _of_header(action)
    if isinstance(action, HeaderValueMatch):
        return _of_match(action)
    if isinstance(action, CallerCluster):
        return lambda call: ("source_cluster", call.app)
    assert isinstance(action, CalledCluster)  # noqa: S101 - the last of the union, for mypy
    return lambda call: ("destination_cluster", call.cluster)


def _of_header(action: RequestHeader) -> _Action:
    name, key, otherwise = action.name, action.key, action.skip_if_absent

    def entry(call: GateCall) -> _Entry | bool:
        value = header(call, name)
        return (key, value) if value is not None else otherwise

    return entry


def _of_match(action: HeaderValueMatch) -> _Action:
    tests = tuple(header_test(match) for match in action.headers)
    fixed = (action.key, action.value)

    def entry(call: GateCall) -> _Entry | bool:
        matched = all(test.decide(header(call, test.name)) for test in tests)
        return fixed if matched == action.expect else False

    return entry
