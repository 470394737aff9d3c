"""The plan of one method: its routes in order, ready to be run by each call.

Built by `router`, run by the channel façade. What a plan does not ask for costs nothing: headers are read only where
a route tests one, request fields likewise, and each field at most once per call. Never looks at the path: that is
decided when the plan is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from meshsdk.model.matching import FieldMatch, PresentMatch
from meshsdk.routing.compiled_route import CompiledRoute, Draw
from meshsdk.routing.fields import FieldSource
from meshsdk.routing.matchers import HeaderTest, Metadata, Test, headers, value_test

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Conditions:
    """What is left to ask when a call's path matches: all `headers`, all `fields`, and `per_million` of the calls."""

    route: CompiledRoute
    headers: tuple[HeaderTest, ...] = ()
    fields: tuple[FieldMatch, ...] = ()
    per_million: int | None = None

    @property
    def none(self) -> bool:
        """Whether there is nothing to ask."""
        return not (self.headers or self.fields or self.per_million is not None)


class _Call:
    """One call under `select`: used by one thread, gone with it. Keeps the texts of fields already read."""

    __slots__ = ("draw", "headers", "request", "seen")

    def __init__(self, found: dict[str, str], request: object, draw: Draw) -> None:
        self.headers = found
        self.request = request
        self.draw = draw
        self.seen: dict[FieldSource, tuple[str, ...] | None] = {}

    def texts(self, source: FieldSource) -> tuple[str, ...] | None:
        """The values of a field; None: there is no request (yet), or its type lacks the field."""
        if self.request is None:
            return None
        if source not in self.seen:
            self.seen[source] = source.texts(self.request)
        return self.seen[source]


_Check = tuple[str, Test, bool]  # header, test of its value, answer where it is missing: cheap, so tried first
_Later = Callable[[_Call], bool]  # fraction, regular expressions, fields
_Row = tuple[tuple[_Check, ...], tuple[_Later, ...], CompiledRoute]
_Group = tuple["str | None", "dict[str | None, tuple[_Row, ...]]", tuple[_Row, ...]]
"""Neighbours: (header, rows by its exact value, -) where all ask one header for a value; else (None, -, rows)."""


class MethodPlan:
    """Routes of one method. Read-only after init, save `problems`, to which any calling thread appends.

    `unconditional`: the route of every call, where the first possible one asks nothing: read it before `select`.
    `problems`: routes that never match, and why, in words; request fields show up when the first request is seen.
    """

    __slots__ = ("_groups", "_wanted", "problems", "unconditional")

    def __init__(self, conditions: Sequence[Conditions], problems: Iterable[str] = ()) -> None:
        self.problems: list[str] = list(problems)
        self.unconditional = conditions[0].route if conditions and conditions[0].none else None
        reachable = _reachable(conditions)
        self._wanted = frozenset(test.name for entry in reachable for test in entry.headers)
        sources = _sources(reachable, self.problems)
        self._groups = tuple(_group(header, run, sources) for header, run in _runs(reachable))

    def select(self, metadata: Metadata | None, request: object | None, draw: Draw) -> CompiledRoute | None:
        """Returns the first route whose conditions all hold; None: no route matches, the call fails UNAVAILABLE (A28).

        `request` is the decoded message, None before a stream's first one; `draw` is called once per fraction that
        comes into question.
        """
        found = headers(metadata, self._wanted) if metadata and self._wanted else {}
        value_of = found.get
        call: _Call | None = None
        for header, table, rows in self._groups:
            candidates = rows if header is None else table.get(value_of(header), ())
            for checks, later, route in candidates:
                for name, test, missing in checks:
                    value = value_of(name)
                    if not (missing if value is None else test(value)):
                        break
                else:
                    if not later:
                        return route
                    call = call or _Call(found, request, draw)
                    for condition in later:
                        if not condition(call):
                            break
                    else:
                        return route
        return None


def _reachable(conditions: Sequence[Conditions]) -> Sequence[Conditions]:
    """Drops what stands behind a route that takes every call."""
    for index, entry in enumerate(conditions):
        if entry.none:
            return conditions[: index + 1]
    return conditions


def _runs(conditions: Sequence[Conditions]) -> list[tuple[str | None, list[Conditions]]]:
    """Splits the routes, in order, into runs that share a header tested for an exact value, and the rest (None)."""
    runs: list[tuple[frozenset[str], list[Conditions]]] = []
    for entry in conditions:
        names = frozenset(test.name for test in entry.headers if test.exact is not None)
        if runs:
            shared, run = runs[-1]
            if (shared & names) or not (shared or names):
                run.append(entry)
                runs[-1] = (shared & names, run)
                continue
        runs.append((names, [entry]))
    return [(min(shared, default=None), run) for shared, run in runs]


def _sources(conditions: Sequence[Conditions], problems: list[str]) -> dict[tuple[tuple[str, ...], bool], FieldSource]:
    """One source for each (path, presence asked for), whatever number of routes tests it."""
    routes: dict[tuple[tuple[str, ...], bool], list[str]] = {}
    for entry in conditions:
        for match in entry.fields:
            routes.setdefault((match.path, isinstance(match.test, PresentMatch)), []).append(entry.route.route.name)
    return {
        (path, presence): FieldSource(path, presence=presence, routes=tuple(dict.fromkeys(names)), problems=problems)
        for (path, presence), names in routes.items()
    }


def _group(
    header: str | None, run: list[Conditions], sources: dict[tuple[tuple[str, ...], bool], FieldSource]
) -> _Group:
    if header is None:
        return None, {}, tuple(_row(entry, sources) for entry in run)
    table: dict[str | None, list[_Row]] = {}
    for entry in run:
        chosen = next(test for test in entry.headers if test.name == header and test.exact is not None)
        table.setdefault(chosen.exact, []).append(_row(entry, sources, without=chosen))
    return header, {value: tuple(rows) for value, rows in table.items()}, ()


def _row(
    entry: Conditions,
    sources: dict[tuple[tuple[str, ...], bool], FieldSource],
    without: HeaderTest | None = None,
) -> _Row:
    """Orders the conditions of a route from cheap to dear: plain headers, fraction, regular expressions, fields."""
    tests = [test for test in entry.headers if test is not without]
    tests.sort(key=lambda test: test.exact is None)  # stable: equality first
    later: list[_Later] = []
    if entry.per_million is not None:
        later.append(_fraction(entry.per_million))
    later.extend(_dear_header(test) for test in tests if test.dear)
    later.extend(_field(match, sources[match.path, isinstance(match.test, PresentMatch)]) for match in entry.fields)
    return tuple((test.name, test.test, test.missing) for test in tests if not test.dear), tuple(later), entry.route


def _fraction(per_million: int) -> _Later:
    share = per_million / _MILLION
    return lambda call: call.draw() < share


def _dear_header(test: HeaderTest) -> _Later:
    return lambda call: test.decide(call.headers.get(test.name))


def _field(match: FieldMatch, source: FieldSource) -> _Later:
    """The test of a request field: of a repeated one, any value will do (Envoy's list_match.one_of)."""
    invert = match.invert
    if isinstance(match.test, PresentMatch):
        wanted = match.test.present != invert

        def presence(call: _Call) -> bool:
            texts = call.texts(source)
            return texts is not None and bool(texts) == wanted

        return presence

    test = value_test(match.test)

    def value(call: _Call) -> bool:
        texts = call.seen.get(source)
        if texts is None:
            texts = call.texts(source)
            if texts is None:
                return False
        for text in texts:
            if test(text):
                return not invert
        return invert

    return value
