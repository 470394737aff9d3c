"""The policies in force for the calls of one way, each with where it comes from. Called by `explain`; decides nothing.

Route over virtual host over cluster over decorator (what the servers' `@meshsdk.rpc` says) over default.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass

from meshsdk.model.policy import RpcDefaults
from meshsdk.model.resources import Forward, Route
from meshsdk.model.snapshot import ResolvedCluster, Snapshot
from meshsdk.routing.in_force import Destination

_NO_DEFAULTS = RpcDefaults()


@dataclass(frozen=True, slots=True)
class Policy:
    """`value` in words; `origin`: the level that decided."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Effective:
    """Where policies are looked up."""

    snapshot: Snapshot
    route: Route
    cluster: ResolvedCluster
    method: str

    @property
    def forward(self) -> Forward | None:
        """The route's action, None where it fails its calls."""
        return self.route.action if isinstance(self.route.action, Forward) else None

    @property
    def decorated(self) -> RpcDefaults:
        """What the servers say of the method."""
        return self.cluster.methods.get(self.method, _NO_DEFAULTS)


def policies(facts: Effective) -> list[Policy]:
    """Returns what holds, the route's policies first."""
    return [*_of_route(facts), *_of_cluster(facts)]


def filters(facts: Effective, destination: Destination) -> list[dict[str, str]]:
    """Returns the HTTP filters in force, in their order, each with the level whose configuration it has."""
    levels = (
        ("route", facts.route.filters),
        ("virtual host", facts.snapshot.virtual_host.filters),
    )
    weighted = facts.forward.clusters if facts.forward is not None else ()
    own = next((one.filters for one in weighted if one.name == destination.cluster), {})
    found = []
    for one in destination.filters:
        named = (("cluster of the route", own), *levels)
        origin = next((level for level, overrides in named if one.name in overrides), "listener")
        found.append({"name": one.name, "value": words(one.config), "origin": origin})
    return found


def _of_route(facts: Effective) -> Iterator[Policy]:
    forward, decorated = facts.forward, facts.decorated
    if forward is None:
        return
    yield _timeout(facts, forward, decorated)
    if forward.retry is not None:
        yield Policy("retry", words(forward.retry), _level(forward, "retry"))
    elif decorated.retry is not None:
        yield Policy("retry", words(decorated.retry), "decorator")
    else:
        yield Policy("retry", "none; a call that never left the process moves to another endpoint", "default")
    for name, value in (
        ("hedging", forward.hedging),
        ("mirrors", forward.mirrors),
        ("rate limits", forward.rate_limits),
    ):
        if value:
            yield Policy(name, words(value), _level(forward, name.replace(" ", "_")))
    for name, edits in (("request headers", forward.request_edits), ("response headers", forward.response_edits)):
        if edits:
            yield Policy(name, words(edits), "route, virtual host and route configuration")
    yield Policy("priority", "HIGH" if forward.high_priority else "DEFAULT", "route")
    if decorated.idempotent:
        yield Policy("idempotent", "yes", "decorator")


def _timeout(facts: Effective, forward: Forward, decorated: RpcDefaults) -> Policy:
    limit, origin = forward.max_duration, "route"
    if limit is None:
        limit, origin = facts.snapshot.listener.max_duration, "listener"
    if limit:
        return Policy("timeout", f"{limit:g} s, or the caller's where that is shorter", origin)
    if decorated.timeout is not None:
        return Policy("timeout", f"{decorated.timeout:g} s for a call without one of its own", "decorator")
    return Policy("timeout", "the caller's", origin if limit is not None else "default")


def _of_cluster(facts: Effective) -> Iterator[Policy]:
    cluster = facts.cluster.cluster
    yield Policy("load balancing", words(cluster.lb), "cluster")
    for leaf in facts.cluster.leaves:
        name = "" if leaf.cluster.name == cluster.name else f" of {leaf.cluster.name}"
        if leaf.cluster.outlier is not None:
            yield Policy(f"outlier detection{name}", words(leaf.cluster.outlier), "cluster")
        if leaf.cluster.breakers is not None:
            yield Policy(f"circuit breakers{name}", words(leaf.cluster.breakers), "cluster")
        if leaf.cluster.high_breakers is not None:
            yield Policy(f"circuit breakers, HIGH{name}", words(leaf.cluster.high_breakers), "cluster")


def _level(forward: Forward, name: str) -> str:
    return "virtual host" if name in forward.inherited else "route"


def words(value: object) -> str:
    """Returns a policy as text: the fields that differ from their defaults, by name."""
    if is_dataclass(value) and not isinstance(value, type):
        said = ((one.name, getattr(value, one.name), one.default) for one in fields(value))
        shown = ", ".join(
            f"{name} {words(given)}" for name, given, default in said if given != default or name == "policy"
        )
        return f"{type(value).__name__}({shown})" if shown else type(value).__name__
    if isinstance(value, frozenset):
        return "|".join(sorted(map(words, value)))
    if isinstance(value, tuple):
        return "[" + "; ".join(map(words, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
