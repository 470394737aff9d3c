"""The store's port: what the plane asks of a store, and the rows it exchanges. Adapters: `memory`, `sqlite`.

A store keeps rows and decides nothing. Calls are never concurrent: the plane holds its lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from controlplane.model.identity import ResourceId
from meshsdk.errors import MeshError
from meshsdk.model.instance import Instance, Revision


class StoreError(MeshError):
    """The store cannot be opened, read or written. What was asked has not happened."""


@dataclass(frozen=True, slots=True)
class StoredResource:
    """An applied resource as it was written: its YAML document, the file it came from, the line it started on."""

    id: ResourceId
    text: str
    file: str
    first_line: int


@dataclass(frozen=True, slots=True)
class StoredLease:
    """An instance with its lease of `ttl` seconds. When it lapses is not kept: a restart gives it its full time."""

    id: str
    ttl: int
    instance: Instance


class Store(Protocol):
    """Keeps resources, leases and revisions. Every method may raise StoreError."""

    def resources(self) -> list[StoredResource]:
        """Returns all resources, in no particular order."""
        ...

    def change_resources(self, put: list[StoredResource], removed: list[ResourceId]) -> None:
        """Writes and removes resources, all or none. Removing what is not there is no error."""
        ...

    def leases(self) -> list[StoredLease]:
        """Returns all leases."""
        ...

    def put_lease(self, lease: StoredLease) -> None:
        """Writes a lease; it replaces whatever lease the instance's (app, id) had."""
        ...

    def remove_leases(self, lease_ids: list[str]) -> None:
        """Removes leases; unknown ones are no error."""
        ...

    def revisions(self) -> list[Revision]:
        """Returns all revisions, oldest first."""
        ...

    def put_revision(self, revision: Revision) -> None:
        """Writes a revision."""
        ...

    def remove_revisions(self, keys: list[tuple[str, str]]) -> None:
        """Removes revisions by (app, revision); unknown ones are no error."""
        ...

    def close(self) -> None:
        """Gives up files and locks. The store is not used afterwards."""
        ...
