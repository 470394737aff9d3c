"""Which route a described call takes, and why each route before it does not: for people, not for calls.

Called by `meshsdk explain` and `meshctl diff-routes`. Asks the conditions of `matchers` one by one, in the order of the
configuration, where `router` compiles them; a property test holds the two to the same answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from meshsdk.model.matching import FieldMatch, HeaderMatch, PresentMatch, RangeMatch, StringMatch
from meshsdk.model.resources import NoForward, Route, VirtualHost
from meshsdk.routing.matchers import PATH_HEADER, header_test, header_value, path_test, value_test

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class DescribedCall:
    """A call in words. `fields`: texts by dotted path, as in proto3 JSON; what is not in it is not set.

    None: there is no request yet (a stream before its first message).
    """

    method: str
    metadata: tuple[tuple[str, str], ...] = ()
    fields: Mapping[str, tuple[str, ...]] | None = None


@dataclass(frozen=True, slots=True)
class RouteVerdict:
    """What became of one route: the `share` (0-1) of such calls that pass it, and why the others do not."""

    route: Route
    share: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """A way that a `share` (0-1) of such calls takes. `cluster` "": the route fails them, for `problem`.

    `place`: of the route among the verdicts; -1: no route takes them.
    """

    route: str
    cluster: str
    share: float
    problem: str = ""
    place: int = -1


@dataclass(frozen=True, slots=True)
class Decision:
    """All routes that were asked, in order, and where the calls go. The shares of `taken` add up to 1."""

    verdicts: tuple[RouteVerdict, ...]
    taken: tuple[Taken, ...]


def decide(host: VirtualHost, call: DescribedCall) -> Decision:
    """Returns what happens to a call; a share that no route takes fails UNAVAILABLE (gRFC A28)."""
    verdicts: list[RouteVerdict] = []
    taken: list[Taken] = []
    left = 1.0
    for route in host.routes:
        reasons = _reasons(route, call)
        fraction = route.match.fraction
        share = 0.0 if reasons else 1.0 if fraction is None else min(max(fraction.per_million, 0) / _MILLION, 1.0)
        if not reasons and share < 1.0:
            reasons.append(f"takes {share * 100:g} % of the calls")
        verdicts.append(RouteVerdict(route, share, tuple(reasons)))
        if share:
            taken.extend(_ways(route, left * share, len(verdicts) - 1))
            left *= 1.0 - share
        if share >= 1.0:
            break
    if left > 0.0:
        taken.append(Taken("", "", left, f"no route matches {call.method}"))
    return Decision(tuple(verdicts), tuple(taken))


def _ways(route: Route, share: float, place: int) -> list[Taken]:
    action, name = route.action, label(route)
    if isinstance(action, NoForward):
        return [Taken(name, "", share, action.reason, place)]
    total = sum(one.weight for one in action.clusters)
    if not total:
        return [Taken(name, "", share, f"route {name!r} has no cluster with a weight above 0", place)]
    return [Taken(name, one.name, share * one.weight / total, "", place) for one in action.clusters if one.weight]


def label(route: Route) -> str:
    """Returns the name of a route, or the path of one that has none."""
    return route.name or f"{route.match.path.kind.value} {route.match.path.value}"


def _reasons(route: Route, call: DescribedCall) -> list[str]:
    """Returns why the route does not match, one line a condition; none: it does, but for its fraction."""
    match = route.match
    reasons = []
    if not path_test(match.path)(call.method):
        reasons.append(f"the method is not {match.path.kind.value} {match.path.value!r}")
    for header in match.headers:
        value = call.method if header.name == PATH_HEADER else header_value(call.metadata, header.name)
        if not header_test(header).decide(value):
            reasons.append(_header(header, value))
    reasons.extend(_field(field, call) for field in match.fields if not _holds(field, call))
    return reasons


def _header(header: HeaderMatch, value: str | None) -> str:
    has = f"metadata {header.name} is " + ("not there" if value is None else repr(value))
    return f"{has}, must {_wanted(header.test, invert=header.invert)}"


def _holds(field: FieldMatch, call: DescribedCall) -> bool:
    if call.fields is None:
        return False
    texts = call.fields.get(".".join(field.path), ())
    if isinstance(field.test, PresentMatch):
        return bool(texts) == (field.test.present != field.invert)
    return any(map(value_test(field.test), texts)) != field.invert


def _field(field: FieldMatch, call: DescribedCall) -> str:
    path = ".".join(field.path)
    if call.fields is None:
        return f"request field {path}: there is no request yet"
    texts = call.fields.get(path, ())
    has = " and ".join(map(repr, texts)) or "not set"
    return f"request field {path} is {has}, must {_wanted(field.test, invert=field.invert)}"


def _wanted(test: StringMatch | RangeMatch | PresentMatch, *, invert: bool) -> str:
    if isinstance(test, PresentMatch):
        return "be there" if test.present != invert else "not be there"
    word = "not be" if invert else "be"
    if isinstance(test, RangeMatch):
        return f"{word} in [{test.start}, {test.end})"
    case = " in any case" if test.ignore_case else ""
    return f"{word} {test.kind.value} {test.value!r}{case}"
