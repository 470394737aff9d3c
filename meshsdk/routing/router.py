"""Routes calls: the routes of a virtual host, compiled when a snapshot arrives and put together per method (A28).

`RouteTable` is made by the channel façade for each published snapshot; `RouteTable.plan` gives what the calls of a
method run: one route without a question (`MethodPlan.unconditional`) or `MethodPlan.select`. Never picks an endpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from meshsdk.model.filters import NamedFilter
from meshsdk.model.matching import HeaderMatch, PresentMatch, RouteMatch
from meshsdk.model.resources import Route, VirtualHost
from meshsdk.routing.compiled_route import CompiledRoute
from meshsdk.routing.matchers import PATH_HEADER, HeaderTest, Test, constant_header, header_test, path_test, value_test
from meshsdk.routing.plan import Conditions, MethodPlan

_MAX_PLANS = 10_000  # methods remembered by one table: a program that makes up method names must not fill the memory
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class _Entry:
    """A route with the tests that its methods must pass. `conditions` is None where no call can match at all.

    `problem` says why in words, unless it was meant so (a fraction of 0).
    """

    paths: tuple[Test, ...]
    conditions: Conditions | None
    problem: str


class RouteTable:
    """The compiled routes of one virtual host. Read-only after init, save the cache of plans.

    `_plans`: any thread adds to it; two that race build equal plans and one of them stays.
    """

    __slots__ = ("_entries", "_plans")

    def __init__(self, virtual_host: VirtualHost, filters: Sequence[NamedFilter] = ()) -> None:
        """`filters`: of the listener, in order; what overrides them is taken from the virtual host and its routes.

        Raises ValueError naming the route whose regular expression is not acceptable (codecs refuse it before).
        """
        self._entries = tuple(_compiled(route, virtual_host, filters) for route in virtual_host.routes)
        self._plans: dict[str, MethodPlan] = {}

    @property
    def routes(self) -> Iterator[CompiledRoute]:
        """The routes that some call may take."""
        return (entry.conditions.route for entry in self._entries if entry.conditions is not None)

    def plan(self, method: str) -> MethodPlan:
        """Returns the plan for a full method name (`/pkg.Service/Method`); the same object for the same name."""
        plan = self._plans.get(method)
        return self._build(method) if plan is None else plan

    def _build(self, method: str) -> MethodPlan:
        matching = [entry for entry in self._entries if all(test(method) for test in entry.paths)]
        plan = MethodPlan(
            [entry.conditions for entry in matching if entry.conditions is not None],
            [entry.problem for entry in matching if entry.problem],
        )
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        return self._plans.setdefault(method, plan)


def _compiled(route: Route, virtual_host: VirtualHost, filters: Sequence[NamedFilter]) -> _Entry:
    try:
        return _entry(route, CompiledRoute(route, filters, (virtual_host.filters,)))
    except ValueError as error:
        raise ValueError(f"virtual host {virtual_host.name!r}, route {route.name!r}: {error}") from error


def _entry(route: Route, compiled: CompiledRoute) -> _Entry:
    match = route.match
    reasons: list[str] = []
    paths = [path_test(match.path)]
    tests: list[HeaderTest] = []
    for header in match.headers:
        test = header_test(header)
        if header.name == PATH_HEADER:
            paths.append(test.decide)
            continue
        constant, value = constant_header(header.name)
        if not constant:
            tests.append(test)
        elif not test.decide(value):
            reasons.append(_impossible(header, value))
    for field in match.fields:
        if not isinstance(field.test, PresentMatch):
            value_test(field.test)  # refused here, where the caller expects it, and not at a first call
    if reasons:
        return _Entry(tuple(paths), None, f"route {route.name!r} never matches: {'; '.join(reasons)}")
    per_million = _share(match)
    if per_million == 0:
        return _Entry(tuple(paths), None, "")
    return _Entry(tuple(paths), Conditions(compiled, tuple(tests), match.fields, per_million), "")


def _share(match: RouteMatch) -> int | None:
    """The route's share per million; None: all calls."""
    if match.fraction is None or match.fraction.per_million >= _MILLION:
        return None
    return max(match.fraction.per_million, 0)


def _impossible(header: HeaderMatch, value: str | None) -> str:
    if value is None:
        return f"header {header.name} is binary, and gRPC does not match on those (gRFC A28)"
    return f"header {header.name} of a gRPC call is always {value!r}"
