"""The store that forgets: for tests, the embedded control plane, and `meshctl serve` without `--store`."""

from __future__ import annotations

from controlplane.model.identity import ResourceId
from controlplane.store.port import StoredLease, StoredResource
from meshsdk.model.instance import Revision


class MemoryStore:
    """Keeps rows in dictionaries. Guarded by the plane's lock."""

    def __init__(self) -> None:
        self._resources: dict[ResourceId, StoredResource] = {}
        self._leases: dict[tuple[str, str], StoredLease] = {}
        self._revisions: dict[tuple[str, str], Revision] = {}

    def resources(self) -> list[StoredResource]:
        """See Store."""
        return list(self._resources.values())

    def change_resources(self, put: list[StoredResource], removed: list[ResourceId]) -> None:
        """See Store."""
        for identity in removed:
            self._resources.pop(identity, None)
        self._resources.update((resource.id, resource) for resource in put)

    def leases(self) -> list[StoredLease]:
        """See Store."""
        return list(self._leases.values())

    def put_lease(self, lease: StoredLease) -> None:
        """See Store."""
        self._leases[lease.instance.app, lease.instance.id] = lease

    def remove_leases(self, lease_ids: list[str]) -> None:
        """See Store."""
        gone = set(lease_ids)
        self._leases = {key: lease for key, lease in self._leases.items() if lease.id not in gone}

    def revisions(self) -> list[Revision]:
        """See Store."""
        return list(self._revisions.values())

    def put_revision(self, revision: Revision) -> None:
        """See Store."""
        self._revisions[revision.app, revision.revision] = revision

    def remove_revisions(self, keys: list[tuple[str, str]]) -> None:
        """See Store."""
        for key in keys:
            self._revisions.pop(key, None)

    def close(self) -> None:
        """See Store."""
