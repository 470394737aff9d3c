"""What revisions contain, stored once each, and which applications serve a gRPC service. Pure.

A revision stays while an instance has it. Of those that no instance has, the newest few of an application are kept:
an instance publishes what it serves before it registers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meshsdk.model.instance import Instance, Revision

_UNUSED_KEPT = 16  # per application


class RevisionTable:
    """Revisions by application. Guarded by the plane's lock."""

    def __init__(self) -> None:
        self._revisions: dict[str, dict[str, Revision]] = {}  # in order of publication

    def __len__(self) -> int:
        return sum(map(len, self._revisions.values()))

    def find(self, app: str, revision: str) -> Revision | None:
        """Returns the revision, or None."""
        return self._revisions.get(app, {}).get(revision)

    def publish(self, revision: Revision) -> bool:
        """Stores `revision`; returns False where an equal one was stored before."""
        group = self._revisions.setdefault(revision.app, {})
        if group.get(revision.revision) == revision:
            return False
        group[revision.revision] = revision
        return True

    def forget(self, app: str, revision: str) -> None:
        """Drops a revision; one that is not there is no error."""
        group = self._revisions.get(app, {})
        group.pop(revision, None)
        if not group:
            self._revisions.pop(app, None)

    def unused(self, app: str, instances: Iterable[Instance]) -> list[str]:
        """Returns what is neither in use by `instances` (those of `app`) nor new."""
        used = {instance.revision for instance in instances}
        unused = [name for name in self._revisions.get(app, {}) if name not in used]
        return unused[: max(0, len(unused) - _UNUSED_KEPT)]

    def prune(self, app: str, instances: Iterable[Instance]) -> list[tuple[str, str]]:
        """Drops what `unused` returns; returns the keys dropped."""
        dropped = self.unused(app, instances)
        for name in dropped:
            self.forget(app, name)
        return [(app, name) for name in dropped]

    def serving(self, service: str, instances: Mapping[str, Mapping[str, Instance]]) -> list[str]:
        """Returns the applications that serve the gRPC service (`pkg.Service`), by name, from revisions in use."""
        prefix = f"/{service}/"
        found = []
        for app, group in instances.items():
            revisions = self._revisions.get(app, {})
            used = {instance.revision for instance in group.values()}
            if any(
                method.name.startswith(prefix)
                for name in used
                if name in revisions
                for method in revisions[name].methods
            ):
                found.append(app)
        return sorted(found)
