"""UnitPolicy from YAML. Called by `documents`; references to hosts are checked by `policy_references`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from controlplane.config.fields import Field, Record
from controlplane.config.service import host
from controlplane.model.identity import ResourceId
from controlplane.model.names import FIELD_PATH, HEADER, UNIT
from controlplane.model.units import (
    Exit,
    Integers,
    KeyPlace,
    KeyRule,
    KeySource,
    UnitPolicy,
    UnitScope,
    UnitService,
)

_MOST_UNITS, _MOST_SOURCES, _MOST_TESTS = 64, 8, 1_000
_LARGEST = 10**18 - 1  # what header range matches take, whose end is a signed 64-bit number
_MODULI = tuple(10**power for power in range(1, 10))
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")  # RFC 7230; what W3C Baggage takes as a key
_TEXT = re.compile(r"[!-~]{1,256}")
_SCOPES = {scope.value: scope for scope in UnitScope}
_UNMAPPED = {"STAY": False, "REFUSE": True}


class _Units:
    """The units of one document, to look names up in."""

    def __init__(self, field: Field) -> None:
        items = field.items(1, _MOST_UNITS)
        self.names = tuple(item.matching(UNIT, "the name of a unit") for item in items)
        for index, item in enumerate(items):
            if self.names[index] in self.names[:index]:
                item.refuse(f"{self.names[index]} is listed twice")

    def known(self, field: Field) -> str:
        """Reads the name of one of the units."""
        name = field.text()
        if name not in self.names:
            field.refuse(f"unknown unit {name}; spec.units has {', '.join(self.names)}")
        return name


# -- services ---------------------------------------------------------------------------------------------------------


def _services(field: Field, units: _Units) -> dict[str, UnitService]:
    found: dict[str, UnitService] = {}
    for item in field.items(1, 1_000):
        record = item.record(("hosts", "scope", "central"))
        scope = record.require("scope").choice(_SCOPES)
        central = _central(record, scope, units)
        for place in record.require("hosts").items(1, 10_000):
            name = host(place)
            if name in found:
                place.refuse(f"{name} was given before")
            found[name] = UnitService(name, scope, central, place.origin)
    return found


def _central(record: Record, scope: UnitScope, units: _Units) -> str:
    if scope is not UnitScope.CLOSED:
        return units.known(record.require("central"))
    given = record.get("central")
    if given:
        given.refuse("a closed service has its data in every unit; only CENTRAL and COPIED ones have a central unit")
    return ""


# -- keys -------------------------------------------------------------------------------------------------------------


def _source(field: Field) -> KeySource:
    record = field.record([place.value for place in KeyPlace])
    chosen = record.one_of([place.value for place in KeyPlace])
    if chosen is None:
        field.refuse("expected one of header, field, baggage")
    place = KeyPlace(chosen.path.rpartition(".")[2])
    if place is KeyPlace.FIELD:
        return KeySource(place, chosen.matching(FIELD_PATH, "a path of proto field names such as user.id"))
    if place is KeyPlace.BAGGAGE:
        return KeySource(place, chosen.matching(_TOKEN, "the key of a baggage entry"))
    name = chosen.matching(HEADER, "the name of a metadata key").lower()
    if name.endswith("-bin"):
        chosen.refuse("the value of a -bin key is not text: xDS has no test for it")
    return KeySource(place, name)


def _texts(field: Field) -> tuple[str, ...]:
    return tuple(item.matching(_TEXT, "printable ASCII without blanks") for item in field.items(1, _MOST_TESTS))


def _integers(field: Field) -> Integers:
    record = field.record(("from", "to", "modulo"))
    modulo = record.read("modulo", lambda item: item.integer(10, _MODULI[-1]))
    if modulo is not None and modulo not in _MODULI:
        record.require("modulo").refuse(
            "expected 10, 100, 1000 ...: xDS has no test for a remainder but the last digits"
        )
    most = modulo - 1 if modulo else _LARGEST
    first = record.require("from").integer(0, most)
    return Integers(first, record.require("to").integer(first, most), modulo)


def _rule(field: Field, units: _Units) -> KeyRule:
    record = field.record(("unit", "exact", "prefix", "integers"))
    ranges = record.get("integers")
    rule = KeyRule(
        unit=units.known(record.require("unit")),
        exact=record.read("exact", _texts) or (),
        prefixes=record.read("prefix", _texts) or (),
        integers=tuple(_integers(item) for item in ranges.items(1, _MOST_TESTS)) if ranges else (),
        origin=field.origin,
    )
    if not (rule.exact or rule.prefixes or rule.integers):
        field.refuse("expected some of exact, prefix, integers")
    return rule


def _rules(field: Field, units: _Units) -> tuple[KeyRule, ...]:
    items = field.items(1, _MOST_TESTS)
    rules = tuple(_rule(item, units) for item in items)
    if sum(len(rule.exact) + len(rule.prefixes) + len(rule.integers) for rule in rules) > _MOST_TESTS:
        field.refuse(f"more than {_MOST_TESTS} keys, prefixes and ranges")
    for index, item in enumerate(items):
        for other in rules[:index]:
            twice = next(_shared(rules[index], other), "")
            if twice:
                item.refuse(f"{twice} is given to unit {other.unit} before, on line {other.origin.line}")
            for unreachable in _covered(rules[index], other):
                item.warn(f"{unreachable} has no effect: unit {other.unit} has it before, on line {other.origin.line}")
    return rules


def _covered(one: KeyRule, other: KeyRule) -> Iterator[str]:
    """Yields what of a rule the `other` before it takes whole, though it is written otherwise."""
    for key in one.exact:
        number = int(key) if re.fullmatch(r"[0-9]{1,18}", key) else None
        if key.startswith(other.prefixes) or (
            number is not None and any(_holds(each, number) for each in other.integers)
        ):
            yield f"the key {key}"
    for mine in one.integers:
        if any(_includes(theirs, mine) for theirs in other.integers):
            yield f"{mine.first} to {mine.last}" + (f" modulo {mine.modulo}" if mine.modulo else "")


def _holds(numbers: Integers, number: int) -> bool:
    return numbers.first <= (number % numbers.modulo if numbers.modulo else number) <= numbers.last


def _includes(outer: Integers, inner: Integers) -> bool:
    """Tells whether every number of `inner` is one of `outer`; moduli are powers of ten, so one divides the other."""
    if outer.modulo is None:  # a remainder is that of numbers without end, but for those beyond what a range takes
        return (outer.first, outer.last) == (0, _LARGEST) or (inner.modulo is None and _within(outer, inner))
    if outer.last - outer.first == outer.modulo - 1:
        return True
    if inner.modulo is not None and inner.modulo < outer.modulo:
        return False  # its numbers have any digits before the last
    first, last = inner.first % outer.modulo, inner.last % outer.modulo
    return inner.last - inner.first < outer.modulo and outer.first <= first <= last <= outer.last


def _within(outer: Integers, inner: Integers) -> bool:
    return outer.first <= inner.first and inner.last <= outer.last


def _shared(one: KeyRule, other: KeyRule) -> Iterator[str]:
    """Yields what both rules claim. A key given before a range that holds it is an exception, and meant."""
    yield from (f"the key {key}" for key in one.exact if key in other.exact)
    yield from (f"the prefix {prefix}" for prefix in one.prefixes if prefix.startswith(other.prefixes))
    for mine in one.integers:
        for theirs in other.integers:
            first, last = max(mine.first, theirs.first), min(mine.last, theirs.last)
            if mine.modulo == theirs.modulo and first <= last:
                yield f"{first} to {last}" + (f" modulo {mine.modulo}" if mine.modulo else "")


# -- exits and drains -------------------------------------------------------------------------------------------------


def _exit(field: Field, units: _Units, services: Mapping[str, UnitService]) -> Exit:
    record = field.record(("from", "to", "hosts"))
    source, target = units.known(record.require("from")), units.known(record.require("to"))
    if source == target:
        record.require("to").refuse(f"calls within {source} need no exit")
    hosts = record.get("hosts")
    names = []
    for item in hosts.items(1, 10_000) if hosts else ():
        name = host(item)
        if name not in services or services[name].scope is not UnitScope.CLOSED:
            item.refuse(f"{name} is not a closed service of this policy; only those need exits")
        names.append(name)
    return Exit(source, target, tuple(names), field.origin)


def _drained(field: Field, units: _Units) -> dict[str, str]:
    direct: dict[str, str] = {}
    for name, value in field.pairs(_MOST_UNITS):
        if name not in units.names:
            value.refuse(f"unknown unit {name}; spec.units has {', '.join(units.names)}")
        direct[name] = units.known(value)
    settled: dict[str, str] = {}
    for name, value in field.pairs(_MOST_UNITS):
        end, passed = direct[name], {name}
        while end in direct and end not in passed:
            passed.add(end)
            end = direct[end]
        if end in passed:
            value.refuse(f"{name} would be drained into itself")
        settled[name] = end
    return settled


def unit_policy(spec: Field, identity: ResourceId) -> UnitPolicy:
    """Reads a UnitPolicy's spec. Raises FieldRefused."""
    record = spec.record(("units", "services", "key", "exits", "drain"))
    units = _Units(record.require("units"))
    services = _services(record.require("services"), units)
    closed = any(service.scope is UnitScope.CLOSED for service in services.values())
    key = record.require("key") if closed else record.get("key")
    if key and not closed:
        key.warn("has no effect: no service of the policy is CLOSED")
    inner = key.record(("sources", "rules", "unmapped")) if key else None
    exits, drain = record.get("exits"), record.get("drain")
    rules = _rules(inner.require("rules"), units) if inner else ()
    found = UnitPolicy(
        id=identity,
        units=units.names,
        services=services,
        sources=tuple(map(_source, inner.require("sources").items(1, _MOST_SOURCES))) if inner else (),
        rules=rules,
        refuse_unmapped=bool(inner and inner.read("unmapped", lambda item: item.choice(_UNMAPPED))),
        exits=tuple(_exit(item, units, services) for item in exits.items(0, 10_000)) if exits else (),
        drained=_drained(drain, units) if drain else {},
        origin=spec.origin,
    )
    seen: list[Exit] = []
    for item, way in zip(exits.items() if exits else (), found.exits, strict=True):
        for other in seen:
            same = (way.source, way.target) == (other.source, other.target)
            if same and (not other.hosts or (way.hosts and set(way.hosts) <= set(other.hosts))):
                item.warn(f"has no effect: the exit on line {other.origin.line} is for the same calls")
                break
        seen.append(way)
        if way.target not in {rule.unit for rule in rules}:
            item.warn(f"has no effect: no rule gives a key to unit {way.target}")
    return found
