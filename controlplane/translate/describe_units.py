"""Units in words, for `meshctl routes`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from controlplane.model.configuration import Configuration
from controlplane.model.identity import Origin
from controlplane.model.units import Integers, KeyRule, UnitPolicy, UnitScope

_Line = tuple[str, str, Origin]  # which calls, where they go, and which line says so


def units_of(hosts: Iterable[str], configuration: Configuration) -> str:
    """Returns in which unit calls to these hosts are answered; "" where none is in units."""
    found: dict[str, None] = {}
    for host in hosts:
        policy = configuration.units.get(host)
        if policy:
            found[_scope(policy, host)] = None
    return "; ".join(found)


def _scope(policy: UnitPolicy, host: str) -> str:
    service = policy.services[host]
    central = policy.settled(service.central)
    if service.scope is UnitScope.CENTRAL:
        return central
    if service.scope is UnitScope.COPIED:
        return f"own, then {central}"
    return "by " + " or ".join(map(str, policy.sources))


def unit_rows(hosts: Iterable[str], configuration: Configuration) -> Iterator[_Line]:
    """Yields how keys, exits and drains of the closed services among `hosts` decide."""
    seen: set[str] = set()
    for host in dict.fromkeys(hosts):
        policy = configuration.units.get(host)
        if policy and policy.services[host].scope is UnitScope.CLOSED and str(policy.id) not in seen:
            seen.add(str(policy.id))
            yield from _keys(policy)
            yield from _ways(policy)


def _keys(policy: UnitPolicy) -> Iterator[_Line]:
    for rule in policy.rules:
        yield f"key {_rule(rule)}", f"unit {_settled(policy, rule.unit)}", rule.origin
    if policy.refuse_unmapped:
        yield "any other key", "refused", policy.origin
    yield "no key" if policy.refuse_unmapped else "no key, or any other", "the caller's own unit", policy.origin


def _settled(policy: UnitPolicy, unit: str) -> str:
    settled = policy.settled(unit)
    return unit if settled == unit else f"{settled} (drained from {unit})"


def _rule(rule: KeyRule) -> str:
    parts = [*rule.exact, *(f"{prefix}..." for prefix in rule.prefixes), *map(_numbers, rule.integers)]
    return ", ".join(parts)


def _numbers(numbers: Integers) -> str:
    return f"{numbers.first} to {numbers.last}" + (f" modulo {numbers.modulo}" if numbers.modulo else "")


def _ways(policy: UnitPolicy) -> Iterator[_Line]:
    for way in policy.exits:
        what = f" for {', '.join(way.hosts)}" if way.hosts else ""
        yield f"exit from unit {way.source} to {way.target}{what}", f"unit {_settled(policy, way.target)}", way.origin
    yield "a key of another unit, without an exit", "refused", policy.origin
