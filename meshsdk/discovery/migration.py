"""Which side of a registry a consumer of a service uses: the interface's own entries, or its applications'. Pure.

Dubbo 3 moves an estate from interface-level to application-level discovery with three modes, switched live for each
consumer. This file owns the decision; `consumer` asks it after every change. What holds in each mode:

    FORCE_INTERFACE     the interface's entries
    APPLICATION_FIRST   the applications' while one of their instances can be called, else the interface's
    FORCE_APPLICATION   the applications'

There is no empty moment: the side in use stays until the other has been listed and has an instance that can be called.
Only with nothing to lose (none on the side in use) does a mode get its side although that is empty as well.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from meshsdk.model.migration import Migration


class Side(enum.Enum):
    """Where instances are registered."""

    INTERFACE = "interface"  # under the name of the service
    APPLICATION = "application"  # under the names of the applications that serve it

    @property
    def other(self) -> Side:
        """The other one."""
        return Side.APPLICATION if self is Side.INTERFACE else Side.INTERFACE


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a side. `listed`: the registry has told all of it; `usable`: instances that can be called."""

    listed: bool = False
    usable: int = 0

    @property
    def ready(self) -> bool:
        """Calls can go there, and it is all there."""
        return self.listed and self.usable > 0


def preferred(mode: Migration) -> Side:
    """Returns the side that a mode wants."""
    return Side.INTERFACE if mode is Migration.FORCE_INTERFACE else Side.APPLICATION


def decide(
    mode: Migration, application: Standing, interface: Standing, current: Side | None, *, patient: bool
) -> Side | None:
    """Returns the side to use now; None: none yet, wait. `current` is what was returned last.

    `patient`: a consumer that has just begun gives a silent side time to be listed before it does without it.
    """
    want = preferred(mode)
    standings = {Side.APPLICATION: application, Side.INTERFACE: interface}
    if standings[want].ready:
        return want
    if current is not None:
        return _stay_or_leave(mode, want, standings, current)
    if mode is not Migration.APPLICATION_FIRST:
        return want if standings[want].listed else None
    if interface.ready and (application.listed or not patient):
        return Side.INTERFACE
    if application.listed and (interface.listed or not patient):
        return want  # both are empty, or one is and the other stays silent
    return None


def _stay_or_leave(mode: Migration, want: Side, standings: dict[Side, Standing], current: Side) -> Side:
    """The wanted side cannot take calls now."""
    if mode is Migration.APPLICATION_FIRST:
        if standings[current].usable:
            return current
        return current.other if standings[current.other].ready else current
    if current is want or standings[current].usable:
        return current
    return want if standings[want].listed else current


def watched(mode: Migration, current: Side | None) -> frozenset[Side]:
    """Returns the sides to watch: both for as long as a move is possible or under way."""
    want = preferred(mode)
    if mode is Migration.APPLICATION_FIRST or (current is not None and current is not want):
        return frozenset(Side)
    return frozenset({want})
