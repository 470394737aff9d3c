"""Whether two TrafficSwitches, or two ShimSets, decide the same thing for the same nodes. Called by `references`. Pure.

Of two that do, the one that stands first is in force, and the other is refused: a file before what was applied.
"""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.config.problems import Problem
from controlplane.model.configuration import Configuration, Resource
from controlplane.model.shims import ShimSet
from controlplane.model.switching import TrafficSwitch


def contradictions(resource: Resource, configuration: Configuration) -> Iterator[Problem]:
    """Yields what stands against a resource among those before it."""
    if isinstance(resource, TrafficSwitch):
        yield from _of_switch(resource, configuration)
    elif isinstance(resource, ShimSet):
        yield from _of_shim_set(resource, configuration)


def _of_switch(switch: TrafficSwitch, configuration: Configuration) -> Iterator[Problem]:
    for other in configuration.switches:
        if other.id == switch.id:
            return
        if switch.meets(other):
            what = (
                f"{switch.id} and {other.id} (in {other.origin}) may both be for one node, and neither is more specific"
            )
            yield Problem(switch.origin, f"conflict: {what}; merge them, or name instances or more labels in one")
            return


def _of_shim_set(shim_set: ShimSet, configuration: Configuration) -> Iterator[Problem]:
    for other in configuration.shim_sets:
        if other.id == shim_set.id:
            return
        if other.selector == shim_set.selector:
            what = f"{shim_set.id} and {other.id} (in {other.origin}) are for the same shims"
            yield Problem(shim_set.origin, f"conflict: {what}; merge them into one")
            return
