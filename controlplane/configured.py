"""The configuration in force, and the only way to change it: from files, by apply, by delete.

Called by the plane under its lock. A change comes into force as a whole or not at all; what is refused leaves the last
good configuration as it was. Knows nothing of xDS.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from controlplane.config.directory import Fingerprint, fingerprint, load
from controlplane.config.documents import Documents, Entry, origin, parse
from controlplane.config.merge import Accepted, merge
from controlplane.config.problems import ConfigurationRefused, Problem
from controlplane.config.references import conflicts
from controlplane.model.identity import Origin, ResourceId
from controlplane.store.port import Store, StoredResource
from meshsdk.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did with one resource: `created`, `changed` or `unchanged`."""

    id: ResourceId
    outcome: str


class NoSuchResource(ConfigurationError):
    """Asked for, or asked to delete, a resource that is not there."""


class Configured:
    """Files, applied resources, and what both together amount to. Guarded by the plane's lock.

    `problems`: why the newest state of the files, or what was applied, is not in force; empty when all of it is.
    """

    def __init__(self, directory: Path | None, store: Store) -> None:
        self._directory = directory
        self._store = store
        self._seen: Fingerprint | None = None  # of the files that were read last
        self._settling: Fingerprint | None = None  # seen once since: read when it is seen again
        self._newest = Documents()  # the files as they were read last
        self._good = Documents()  # the files as they are in force
        self._aside = False  # the applied resources do not fit to the files, and are not in force
        self._applied: dict[ResourceId, Documents] = {}
        for stored in store.resources():
            self._applied[stored.id] = parse(stored.text, stored.file, stored.first_line)
        self.accepted = Accepted()
        self.problems: tuple[Problem, ...] = ()

    def begin(self) -> None:
        """Reads the files for the first time.

        Applied resources that no longer fit to the files are set aside, and reported: without this a control plane
        whose files changed while it was down could not be started to mend it.

        Raises:
            ConfigurationRefused: the files cannot be used.
            ConfigurationError: the directory cannot be read.
        """
        if self._directory is not None:
            self._seen = fingerprint(self._directory)
            self._newest = self._good = load(self._directory)
        try:
            self.accepted = merge(self._good, _joined(self._applied.values()))
        except ConfigurationRefused as refused:
            self.accepted = merge(self._good)
            self._aside, self.problems = True, refused.problems

    def look(self) -> bool:
        """Reads the files again if they changed; returns whether what is in force, or `problems`, changed.

        Files are read once two looks in a row see them alike: an editor may empty a file before it writes it.
        """
        if self._directory is None:
            return False
        try:
            seen = fingerprint(self._directory)
            settled, self._settling = seen == self._settling, seen
            if seen == self._seen or not settled:
                return False
            self._newest = load(self._directory)
        except ConfigurationError as error:
            problems = (Problem(Origin(str(self._directory), 0), str(error)),)
            changed = problems != self.problems
            self._seen, self._settling, self.problems = None, None, problems
            return changed
        self._seen = seen
        try:
            self._settle(self._applied)
        except ConfigurationRefused as refused:
            self.problems = refused.problems
        return True

    def apply(self, text: str, file: str, registered: Collection[str]) -> tuple[list[Applied], list[Problem]]:
        """Adds or replaces the resources of `text`; returns what was done and the warnings about them.

        Raises ConfigurationRefused, StoreError; nothing has changed then.
        """
        documents = parse(text, file)
        if not documents.entries and not documents.problems:
            raise ConfigurationRefused([Problem(Origin(file, 1), "holds no resource")])
        in_files = {entry.id: entry for entry in self._newest.entries}
        owned = [
            Problem(origin(entry), f"{entry.id} is kept in {origin(in_files[entry.id])}; change it there")
            for entry in documents.entries
            if entry.id in in_files
        ]
        twice = conflicts(documents.entries)
        refused = (*documents.problems, *owned, *twice)
        if refused:
            raise ConfigurationRefused(refused)
        put = {entry.id: parse(entry.text, entry.file, entry.first_line) for entry in documents.entries}
        done = [Applied(entry.id, self._outcome(entry)) for entry in documents.entries]
        rows = [StoredResource(entry.id, entry.text, entry.file, entry.first_line) for entry in documents.entries]
        self._settle({**self._applied, **put}, rows=rows)
        return done, [warning for warning in self.accepted.warnings(registered) if warning.where.file == file]

    def delete(self, identity: ResourceId) -> None:
        """Removes an applied resource. Raises NoSuchResource, ConfigurationRefused, StoreError."""
        if identity not in self._applied:
            for entry in self._newest.entries:
                if entry.id == identity:
                    raise ConfigurationRefused(
                        [Problem(origin(entry), f"{identity} is kept in a file; remove it there")]
                    )
            raise NoSuchResource(f"there is no {identity}")
        rest = {key: known for key, known in self._applied.items() if key != identity}
        try:
            self._settle(rest, removed=[identity])
        except ConfigurationRefused:
            if not self._aside:
                raise
            # None of the applied resources is in force: deleting one after another is how that is mended.
            self._store.change_resources([], [identity])
            self._applied = rest

    def _settle(
        self,
        applied: dict[ResourceId, Documents],
        *,
        rows: Iterable[StoredResource] = (),
        removed: Iterable[ResourceId] = (),
    ) -> None:
        """Puts the newest files with `applied` in force, or else the last good files with `applied`.

        Raises ConfigurationRefused where neither will do, StoreError where it could not be kept; nothing has changed.
        """
        together = _joined(applied.values())
        files = self._newest
        problems: tuple[Problem, ...] = ()
        try:
            accepted = merge(files, together)
        except ConfigurationRefused as refused:
            if self._newest is self._good:
                raise
            files, problems = self._good, refused.problems
            accepted = merge(files, together)
        self._store.change_resources(list(rows), list(removed))
        self._applied, self._good, self._aside = applied, files, False
        self.accepted, self.problems = accepted, problems

    def _outcome(self, entry: Entry) -> str:
        known = self._applied.get(entry.id)
        if known is None:
            return "created"
        return "unchanged" if any(each.resource == entry.resource for each in known.entries) else "changed"


def _joined(documents: Iterable[Documents]) -> Documents:
    every = list(documents)
    return Documents(
        tuple(entry for each in every for entry in each.entries),
        tuple(problem for each in every for problem in each.problems),
        tuple(warning for each in every for warning in each.warnings),
    )
