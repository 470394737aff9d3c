"""The port of a store that several control planes share: others change it, and it keeps the leases itself.

Called by the plane. What others change is queued by a thread of the store, which wakes the plane; the plane takes it
under its lock (`drain`). Calls that write wait for the store and are made without that lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from controlplane.model.identity import ResourceId
from controlplane.registries.leases import Change
from controlplane.registries.registrar import Registrar
from controlplane.store.port import StoredResource, StoreError
from meshsdk.model.instance import Instance


class StoreConflict(StoreError):
    """Another control plane changed the resources first: look at what it did (`drain`), and plan anew."""


@dataclass(frozen=True, slots=True)
class Drained:
    """What others changed: instances, and the applied resources where those changed."""

    instances: tuple[Change, ...] = ()
    put: tuple[StoredResource, ...] = ()
    removed: tuple[ResourceId, ...] = ()


@runtime_checkable
class SharedStore(Protocol):
    """A store with several control planes over it. Methods without a word on it are called under the plane's lock."""

    def start(self, wake: Callable[[], None]) -> None:
        """Begins to follow; `wake` is called on any thread when there is something to drain."""
        ...

    def resources(self) -> list[StoredResource]:
        """Returns all applied resources, as they were drained last."""
        ...

    @property
    def generation(self) -> int:
        """Grows with every change of a resource that was drained."""
        ...

    def change_resources(self, put: list[StoredResource], removed: list[ResourceId], generation: int) -> None:
        """Writes and removes resources, all or none, and waits until `drain` has it; without the plane's lock.

        Raises StoreConflict where others wrote after `generation`, StoreError.
        """
        ...

    def drain(self, now: float) -> Drained:
        """Takes over what was told since the last time; `now` in monotonic seconds."""
        ...

    def next_deadline(self) -> float | None:
        """Returns when `drain` should be called next though nothing is told; None for no such time."""
        ...

    @property
    def instances(self) -> Mapping[str, Mapping[str, Instance]]:
        """Application -> id -> instance; a live view."""
        ...

    @property
    def registrar(self) -> Registrar:
        """Registers, on any thread and without the plane's lock."""
        ...

    def counts(self) -> dict[str, int]:
        """Returns how many there are of each thing, for status."""
        ...

    def problem(self) -> str:
        """Returns why the store cannot be followed at present, or ""."""
        ...

    def facts(self) -> dict[str, object]:
        """Returns further facts for status."""
        ...

    def close(self) -> None:
        """Gives up connections; without the plane's lock."""
        ...
