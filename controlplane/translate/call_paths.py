"""Splits a route by the paths that CallPolicies speak of: each part has one policy. Pure; used by `routes`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from controlplane.model.call_policy import CallParts, EffectivePolicy, over
from meshsdk.model.matching import PathKind, PathMatch

_NOTHING = CallParts()


def split(path: PathMatch, policy: EffectivePolicy) -> Iterator[tuple[PathMatch, CallParts]]:
    """Yields the parts of a match on the path with what rules say of each, in the order in which they are tried.

    What rules say of a method stands over what they say of its gRPC service. A match by a regular expression is split
    by methods only; `config` refuses one beside rules for a gRPC service.
    """
    services = [(prefix, parts) for prefix, parts in policy.paths if prefix.kind is PathKind.PREFIX]
    for method, parts in policy.paths:
        if method.kind is PathKind.EXACT and _takes(path, method.value):
            whole = next((outer for prefix, outer in services if method.value.startswith(prefix.value)), _NOTHING)
            yield method, over(parts, whole)
            if path == method:
                return
    for prefix, parts in services:
        if path.kind is PathKind.REGEX:
            continue
        if _folded(path).startswith(_folded(prefix, like=path)):
            yield path, parts  # all of it is of this gRPC service
            return
        if path.kind is PathKind.PREFIX and _folded(prefix, like=path).startswith(_folded(path)):
            yield prefix, parts
    yield path, _NOTHING


def _takes(path: PathMatch, method: str) -> bool:
    if path.kind is PathKind.REGEX:
        return re.fullmatch(path.value, method) is not None
    text = method.lower() if path.ignore_case else method
    return text == _folded(path) if path.kind is PathKind.EXACT else text.startswith(_folded(path))


def _folded(path: PathMatch, like: PathMatch | None = None) -> str:
    return path.value.lower() if (like or path).ignore_case else path.value
