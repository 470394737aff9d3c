"""Runtime layers (RTDS) as things to watch: settings by which the control plane steers this process. Pure.

Called by the session in place of `resolve` for targets made by `layer_target`. No channel can be made to one.
"""

from __future__ import annotations

from typing import Protocol

from meshsdk.model.resources import Kind, RuntimeLayer
from meshsdk.model.snapshot import Key, Resolution, Unresolvable
from meshsdk.xds_client.names import Target
from meshsdk.xds_client.store import Entry, EntryStatus


class Entries(Protocol):
    """What is seen of the store."""

    def get(self, key: Key) -> Entry | None:
        """Returns what is known about a key, None for one that nothing asked for yet."""


def layer_target(name: str) -> Target:
    """Returns the layer of this resource name as the session watches it."""
    return Target(f"runtime:{name}", name, "", kind=Kind.RUNTIME)


def resolve_layer(store: Entries, target: Target) -> Resolution:
    """Returns the layer in force, `Unresolvable` where there is none, nothing while the server's answer is awaited.

    A server that takes a layer back means it: unlike a route (A88), an old layer is not kept then. One that cannot be
    reached, or that sent a layer which was refused, has taken nothing back.
    """
    key = Key(Kind.RUNTIME, target.listener)
    wanted = frozenset({key})
    entry = store.get(key)
    if entry is None or (entry.resource is None and entry.status is EntryStatus.REQUESTED):
        return Resolution(None, wanted, wanted)
    absent = entry.status is EntryStatus.ABSENT
    missing = wanted if entry.status is EntryStatus.UNREACHABLE else frozenset[Key]()
    if isinstance(entry.resource, RuntimeLayer) and not absent:
        return Resolution(entry.resource, wanted, missing)
    problem = f"runtime layer {key.name!r}: {entry.problem or entry.status.value}"
    return Resolution(Unresolvable(target.text, problem, absent=absent), wanted, missing)
