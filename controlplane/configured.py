"""The configuration in force, and the only way to change it: from files, by apply, by delete, by other control planes.

Called by the plane under its lock. A change comes into force as a whole or not at all; what is refused leaves the last
good configuration as it was. Plans a change of the store and takes it over once it is made; the plane writes it in
between. Knows nothing of xDS.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from controlplane.config.documents import Documents, Entry, join, origin, parse
from controlplane.config.merge import Accepted
from controlplane.config.problems import ConfigurationRefused, Problem
from controlplane.config.references import conflicts
from controlplane.model.identity import Origin, ResourceId
from controlplane.sources.files import Files
from controlplane.sources.selection import APPLIED, FILES, Settled, Source, settle
from controlplane.store.port import StoredResource
from meshsdk.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did with one resource: `created`, `changed` or `unchanged`."""

    id: ResourceId
    outcome: str


@dataclass(frozen=True, slots=True)
class Planned:
    """A change of the applied resources that would come into force, or mend what is not: rows to write and remove."""

    put: tuple[StoredResource, ...] = ()
    removed: tuple[ResourceId, ...] = ()
    done: tuple[Applied, ...] = ()


class NoSuchResource(ConfigurationError):
    """Asked for, or asked to delete, a resource that is not there."""


class Configured:
    """All sources, and what they amount to. Guarded by the plane's lock.

    Args:
        directory: YAML files to follow, or None.
        stored: what was applied.
        others: names of other control planes whose configuration is taken over, the highest first.
    """

    def __init__(self, directory: Path | None, stored: Iterable[StoredResource], others: Sequence[str] = ()) -> None:
        self._files = Files(directory) if directory is not None else None
        self._applied = {row.id: _documents(row) for row in stored}
        self._sources = (Source(FILES), Source(APPLIED), *(Source(each, heard=False) for each in others))
        self._unreadable: tuple[Problem, ...] = ()  # why the directory cannot be read
        self._refused: tuple[Problem, ...] = ()
        self.accepted = Accepted()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Why the newest state of some source is not in force; empty when all are."""
        return self._unreadable + self._refused

    def own(self) -> list[Entry]:
        """Returns the resources in force that stand in the files or were applied."""
        own = {id(entry) for source in self._sources[:2] for entry in source.good.entries}
        return [entry for entry in self.accepted.entries if id(entry) in own]

    def begin(self) -> None:
        """Reads the files for the first time.

        Applied resources that no longer fit to the files are left out, and reported: without this a control plane
        whose files changed while it was down could not be started to mend it. So is what may refer to a control plane
        that has not been heard yet: it comes into force once that has told it.

        Raises:
            ConfigurationRefused: the files cannot be used.
            ConfigurationError: the directory cannot be read.
        """
        newest = self._files.begin() if self._files is not None else Documents()
        files, applied, *others = self._sources
        sources = (replace(files, newest=newest), replace(applied, newest=join(self._applied.values())), *others)
        self._take(settle(sources, required=(FILES,)))

    def look(self) -> bool:
        """Reads the files again if they changed; returns whether what is in force, or `problems`, changed."""
        if self._files is None:
            return False
        try:
            found = self._files.look()
        except ConfigurationError as error:
            before = self._unreadable
            self._unreadable = (Problem(Origin(str(self._files.directory), 0), str(error)),)
            return before != self._unreadable
        if found is None:
            return False
        self._unreadable = ()
        self._change(FILES, found)
        return True

    def told(self, other: str, documents: Documents) -> None:
        """Takes the newest state of another control plane."""
        self._change(other, documents)

    # -- applied resources ------------------------------------------------------------------------------------------

    def plan_apply(self, text: str, file: str) -> Planned:
        """Returns how the resources of `text` would be added or replaced. Raises ConfigurationRefused."""
        documents = parse(text, file)
        if not documents.entries and not documents.problems:
            raise ConfigurationRefused([Problem(Origin(file, 1), "holds no resource")])
        in_files = {entry.id: entry for entry in self._sources[0].newest.entries}
        owned = [
            Problem(origin(entry), f"{entry.id} is kept in {origin(in_files[entry.id])}; change it there")
            for entry in documents.entries
            if entry.id in in_files
        ]
        twice = conflicts(documents.entries)
        refused = (*documents.problems, *owned, *twice)
        if refused:
            raise ConfigurationRefused(refused)
        rows = tuple(StoredResource(entry.id, entry.text, entry.file, entry.first_line) for entry in documents.entries)
        done = tuple(Applied(entry.id, self._outcome(entry)) for entry in documents.entries)
        planned = Planned(put=rows, done=done)
        settle(self._with(self._after(planned)), required=(APPLIED,), known=self.accepted)
        return planned

    def plan_delete(self, identity: ResourceId) -> Planned:
        """Returns how an applied resource would be removed. Raises NoSuchResource, ConfigurationRefused."""
        if identity not in self._applied:
            foreign = [entry for source in self._sources[2:] for entry in source.good.entries]
            for entry in (*self._sources[0].newest.entries, *foreign):
                if entry.id == identity:
                    where = f"by {entry.file}" if entry in foreign else "in a file"
                    raise ConfigurationRefused([Problem(origin(entry), f"{identity} is kept {where}; remove it there")])
            raise NoSuchResource(f"there is no {identity}")
        planned = Planned(removed=(identity,))
        settle(self._with(self._after(planned)), required=(APPLIED,), known=self.accepted)
        return planned

    def change_applied(self, put: Iterable[StoredResource], removed: Iterable[ResourceId]) -> None:
        """Takes over what the store holds now."""
        self._applied = self._after(Planned(tuple(put), tuple(removed)))
        self._change(APPLIED, join(self._applied.values()))

    def warnings_about(self, file: str, registered: Collection[str]) -> list[Problem]:
        """Returns the warnings about resources that were applied from `file`."""
        return [warning for warning in self.accepted.warnings(registered) if warning.where.file == file]

    # -- inside -----------------------------------------------------------------------------------------------------

    def _after(self, planned: Planned) -> dict[ResourceId, Documents]:
        rest = {key: known for key, known in self._applied.items() if key not in planned.removed}
        return {**rest, **{row.id: _documents(row) for row in planned.put}}

    def _with(self, applied: Mapping[ResourceId, Documents]) -> tuple[Source, ...]:
        return self._newest(APPLIED, join(applied.values()))

    def _newest(self, name: str, documents: Documents) -> tuple[Source, ...]:
        told = [replace(each, newest=documents, heard=True) for each in self._sources if each.name == name]
        return tuple(told[0] if each.name == name else each for each in self._sources)

    def _change(self, name: str, documents: Documents) -> None:
        self._take(settle(self._newest(name, documents), known=self.accepted))

    def _take(self, settled: Settled) -> None:
        self._sources, self.accepted, self._refused = settled.sources, settled.accepted, settled.problems

    def _outcome(self, entry: Entry) -> str:
        known = self._applied.get(entry.id)
        if known is None:
            return "created"
        return "unchanged" if any(each.resource == entry.resource for each in known.entries) else "changed"


def _documents(row: StoredResource) -> Documents:
    return parse(row.text, row.file, row.first_line)
