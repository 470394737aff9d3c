"""How the match of a route is split where CallPolicies speak of methods and gRPC services."""

from __future__ import annotations

import pytest

from controlplane.model.call_policy import CallParts, CallPolicy, CallRule, EffectivePolicy
from controlplane.model.identity import ResourceId, ResourceKind
from controlplane.translate.call_paths import split
from meshsdk.model.filters import StatefulSession
from meshsdk.model.matching import PathKind, PathMatch

GET, LIST = PathMatch(PathKind.EXACT, "/a.B/Get"), PathMatch(PathKind.EXACT, "/a.B/List")
OF_B, OF_C = PathMatch(PathKind.PREFIX, "/a.B/"), PathMatch(PathKind.PREFIX, "/a.C/")
EVERY = PathMatch(PathKind.PREFIX, "/")
HIGH, SESSION = CallParts(high_priority=True), CallParts(session=StatefulSession("s"))
BOTH = CallParts(high_priority=True, session=StatefulSession("s"))
NONE = CallParts()


def policy(*rules: tuple[PathMatch, CallParts]) -> EffectivePolicy:
    """Returns what rules for these paths come to."""
    identity = ResourceId(ResourceKind.CALL_POLICY, "default", "p")
    made = tuple(CallRule((path,), parts) for path, parts in rules)
    return EffectivePolicy.of([CallPolicy(identity, "orders", rules=made)])


RULES = policy((OF_B, SESSION), (GET, HIGH), (OF_C, HIGH))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (EVERY, [(GET, BOTH), (OF_B, SESSION), (OF_C, HIGH), (EVERY, NONE)]),
        (GET, [(GET, BOTH)]),
        (LIST, [(LIST, SESSION)]),
        (OF_C, [(OF_C, HIGH)]),
        (PathMatch(PathKind.PREFIX, "/a.B/G"), [(GET, BOTH), (PathMatch(PathKind.PREFIX, "/a.B/G"), SESSION)]),
        (PathMatch(PathKind.PREFIX, "/a.B/L"), [(PathMatch(PathKind.PREFIX, "/a.B/L"), SESSION)]),
        (PathMatch(PathKind.PREFIX, "/b."), [(PathMatch(PathKind.PREFIX, "/b."), NONE)]),
        (
            PathMatch(PathKind.PREFIX, "/A.b/", ignore_case=True),
            [(GET, BOTH), (PathMatch(PathKind.PREFIX, "/A.b/", ignore_case=True), SESSION)],
        ),
        (
            PathMatch(PathKind.EXACT, "/a.b/get", ignore_case=True),
            [(GET, BOTH), (PathMatch(PathKind.EXACT, "/a.b/get", ignore_case=True), SESSION)],
        ),
    ],
)
def test_split(path: PathMatch, expected: list[tuple[PathMatch, CallParts]]) -> None:
    """Methods come before their gRPC service, and this before the rest; what all is covered has no rest."""
    assert list(split(path, RULES)) == expected


def test_a_pattern_is_split_by_methods() -> None:
    """A regular expression takes the methods that it matches as a whole, and keeps the rest."""
    pattern = PathMatch(PathKind.REGEX, "/[^/]+/G.*")
    assert list(split(pattern, policy((GET, HIGH), (LIST, HIGH)))) == [(GET, HIGH), (pattern, NONE)]


def test_nothing_is_split_without_rules() -> None:
    """Without rules a match stays as it is."""
    assert list(split(EVERY, EffectivePolicy())) == [(EVERY, NONE)]
