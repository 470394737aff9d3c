"""What UnitPolicy says: which units there are, which services are closed to them, and whose call belongs where.

A unit is a slice of the whole application, deployed with its own data (Alibaba's unit, Ant's RZone, GZone and CZone).
Values and look-ups only; `translate.units` makes routes of it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.model.identity import Origin, ResourceId


class UnitScope(enum.Enum):
    """How a service lies in the units."""

    CLOSED = "CLOSED"  # every unit has its own share of the data: a call goes where its key belongs (RZone)
    CENTRAL = "CENTRAL"  # one unit has it all (GZone)
    COPIED = "COPIED"  # every unit reads a copy of its own, and the central unit's where it has none (CZone)


class KeyPlace(enum.Enum):
    """Where a call carries its key."""

    HEADER = "header"
    FIELD = "field"  # of the request, by its path of proto field names
    BAGGAGE = "baggage"  # an entry of the header `baggage` (W3C Baggage)


@dataclass(frozen=True, slots=True)
class KeySource:
    """One place to look for the key; `name` is the header, the dotted field path, or the baggage entry."""

    place: KeyPlace
    name: str

    def __str__(self) -> str:
        """Returns `header x-user-id`."""
        return f"{self.place.value} {self.name}"


@dataclass(frozen=True, slots=True)
class Integers:
    """Keys that are whole numbers from `first` to `last`, both included; with `modulo` (10, 100, ...), the remainder.

    Numbers are written in decimal, without a sign; leading zeros do not count.
    """

    first: int
    last: int
    modulo: int | None = None


@dataclass(frozen=True, slots=True)
class KeyRule:
    """Keys that belong to `unit`: any of these."""

    unit: str
    exact: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    integers: tuple[Integers, ...] = ()
    origin: Origin = field(default=Origin("", 0), compare=False)


@dataclass(frozen=True, slots=True)
class UnitService:
    """One host under the policy. `central`: the unit that has it all; "" for a closed service."""

    host: str
    scope: UnitScope
    central: str = ""
    origin: Origin = field(default=Origin("", 0), compare=False)


@dataclass(frozen=True, slots=True)
class Exit:
    """Lets callers in unit `source` call unit `target`. No `hosts`: for every closed service of the policy."""

    source: str
    target: str
    hosts: tuple[str, ...] = ()
    origin: Origin = field(default=Origin("", 0), compare=False)

    def serves(self, host: str) -> bool:
        """Tells whether the exit is for this service."""
        return not self.hosts or host in self.hosts


@dataclass(frozen=True, slots=True)
class UnitPolicy:
    """`meshsdk.io/v1alpha1` UnitPolicy.

    `rules` are tried in order, each on every one of `sources` in turn; the first source with a rule for its key
    decides. `refuse_unmapped`: a key that no rule has is refused; else such a call stays in its caller's unit.
    `drained`: unit -> the unit that takes its calls, already followed to the end of a chain.
    """

    id: ResourceId
    units: tuple[str, ...]
    services: Mapping[str, UnitService]
    sources: tuple[KeySource, ...] = ()
    rules: tuple[KeyRule, ...] = ()
    refuse_unmapped: bool = False
    exits: tuple[Exit, ...] = ()
    drained: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = field(default=Origin("", 0), compare=False)

    def settled(self, unit: str) -> str:
        """Returns the unit that takes the calls of `unit`: itself, unless it is drained."""
        return self.drained.get(unit, unit)

    def active(self) -> tuple[str, ...]:
        """Returns the units that take calls."""
        return tuple(unit for unit in self.units if unit not in self.drained)

    def home(self, unit: str) -> str:
        """Returns the unit that callers of `unit` count as: "" for a caller outside the units of this policy."""
        return self.settled(unit) if unit in self.units else ""

    def taken_by(self, host: str, home: str, unit: str) -> str | None:
        """Returns the unit that takes calls to `host` whose key belongs to `unit`; None where they may not go there.

        `home`: the caller's, as `home` has it. Outside of all units ("") every unit may be called. A unit that took
        over another's calls has its exits too.
        """
        target = self.settled(unit)
        if home in {"", target}:
            return target
        leaves = any(way.target == unit and way.serves(host) and self.settled(way.source) == home for way in self.exits)
        return target if leaves else None
