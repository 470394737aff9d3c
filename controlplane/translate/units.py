"""Unit policy to routes and clusters: where a call may go, given its destination, its key and its caller's unit. Pure.

Routing rules choose host and subset; then this constrains the destination to a unit. So every rule becomes one route
for each test on the key, in the policy's order, and one for calls without a key. Used by `routes` and `clusters`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from controlplane.model.configuration import Configuration
from controlplane.model.traffic import Destination
from controlplane.model.units import KeyPlace, UnitPolicy, UnitScope
from controlplane.translate.cluster_sources import called
from controlplane.translate.key_tests import KeyTest, present, rule_tests
from controlplane.translate.names import cluster_name, stand_in
from controlplane.translate.view import View

Shares = tuple[tuple[str, int], ...]  # (cluster, weight)


@dataclass(frozen=True, slots=True)
class Branch:
    """Where the calls of a rule go that meet `test` (None: all). `refusal`: why they are refused, else ""."""

    test: KeyTest | None
    shares: Shares
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class UnitPart:
    """A unit in which a host has clusters: `name` is the last part of their names, "" for all units together.

    `leaves`: the parts that an aggregate is made of, first one first.
    """

    name: str
    leaves: tuple[str, ...] = ()


def branches(destinations: Sequence[Destination], configuration: Configuration, view: View) -> list[Branch]:
    """Returns the ways that calls of one rule go, in the order in which they are tried; the last is for all calls."""
    last = Branch(None, tuple((own_cluster(each, configuration, view), each.weight) for each in destinations))
    policy = _keyed(destinations, configuration)
    if policy is None:
        return [last]
    found: list[Branch] = []
    sources = [source for source in policy.sources if view.request_fields or source.place is not KeyPlace.FIELD]
    for source in sources:
        for rule in policy.rules:
            way = _way(rule.unit, destinations, configuration, view)
            found.extend(Branch(test, way.shares, way.refusal) for test in rule_tests(source, rule))
    if policy.refuse_unmapped:
        words = f"{policy.id} has no rule for the key of this call"
        found.extend(Branch(present(source), (), words) for source in sources)
    while found and (found[-1].shares, found[-1].refusal) == (last.shares, ""):
        found.pop()  # the last route says the same
    return [*found, last]


def own_cluster(destination: Destination, configuration: Configuration, view: View) -> str:
    """Returns the cluster for calls without a key: that of the caller's own unit, as far as the host is in units."""
    policy = configuration.units.get(destination.host)
    part = _own_part(destination.host, policy, policy.home(view.unit)) if policy else UnitPart("")
    return _cluster(destination, part, configuration, view)


def _cluster(destination: Destination, part: UnitPart, configuration: Configuration, view: View) -> str:
    name = cluster_name(destination.host, destination.subset, part.name)
    return name if part.leaves else called(name, destination.host, part.name, configuration, view)


def unit_parts(host: str, configuration: Configuration, view: View) -> list[UnitPart]:
    """Returns the units in which this view has clusters of a host, leaves before what is made of them.

    What the view had before units were drained stays: a client takes its new routes, and only then asks for the
    clusters they name; until it has those too, its calls go to the old ones.
    """
    policy = configuration.units.get(host)
    if policy is None:
        return [UnitPart("")]
    found = list(_parts(host, policy, view))
    if policy.drained:
        found += _parts(host, replace(policy, drained={}), view)
    return list(dict.fromkeys(found))


def _parts(host: str, policy: UnitPolicy, view: View) -> Iterator[UnitPart]:
    home = policy.home(view.unit)
    own = _own_part(host, policy, home)
    yield from map(UnitPart, own.leaves)
    yield own
    if policy.services[host].scope is UnitScope.CLOSED:
        taken = (policy.taken_by(host, home, rule.unit) for rule in policy.rules)
        yield from (UnitPart(unit) for unit in sorted({unit for unit in taken if unit}) if unit != own.name)


def _own_part(host: str, policy: UnitPolicy, home: str) -> UnitPart:
    service = policy.services[host]
    central = policy.settled(service.central)
    if service.scope is UnitScope.CENTRAL:
        return UnitPart(central)
    if service.scope is UnitScope.COPIED and home not in {"", central}:
        return UnitPart(stand_in(home, central), (home, central))
    return UnitPart(home)


def _keyed(destinations: Sequence[Destination], configuration: Configuration) -> UnitPolicy | None:
    """Returns the policy whose key decides; `config` refuses rules with destinations of two."""
    for each in destinations:
        policy = configuration.units.get(each.host)
        if policy and policy.services[each.host].scope is UnitScope.CLOSED:
            return policy
    return None


def _way(unit: str, destinations: Sequence[Destination], configuration: Configuration, view: View) -> Branch:
    """Returns where calls go whose key belongs to `unit`. If one of the destinations may not be called, none is."""
    shares: list[tuple[str, int]] = []
    for each in destinations:
        policy = configuration.units.get(each.host)
        if policy is None or policy.services[each.host].scope is not UnitScope.CLOSED:
            shares.append((own_cluster(each, configuration, view), each.weight))
            continue
        target = policy.taken_by(each.host, policy.home(view.unit), unit)
        if target is None:
            words = f"the key belongs to unit {unit}; {policy.id} has no exit from {view.unit} to it for {each.host}"
            return Branch(None, (), words)
        shares.append((_cluster(each, UnitPart(target), configuration, view), each.weight))
    return Branch(None, tuple(shares))
