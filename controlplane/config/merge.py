"""Joins what the sources say, and decides whether the whole can come into force. Pure.

Sources are the files, what was applied, and other control planes. Precedence: of two resources of one identity that of
the higher source counts, and the other is reported as hidden: files are reviewed and versioned, so an old `apply` must
not silently override them. Files and applied resources are one operator's, so a host that both claim is refused; what
another control plane says of a host that is claimed here is hidden as well, since it cannot be mended here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from controlplane.config.documents import Documents, Entry, origin
from controlplane.config.problems import ConfigurationRefused, Problem
from controlplane.config.references import claims, conflicts, dangling
from controlplane.model.configuration import Configuration


@dataclass(frozen=True, slots=True)
class Accepted:
    """A configuration that can be in force: its resources, the index over them, and what has no effect in it."""

    entries: tuple[Entry, ...] = ()
    configuration: Configuration = Configuration()
    without_effect: tuple[Problem, ...] = ()

    def warnings(self, registered: Collection[str] = ()) -> tuple[Problem, ...]:
        """Returns what has no effect, and what waits for an application that is not among the `registered`."""
        return self.without_effect + dangling(self.entries, self.configuration, registered)[1]


def merge(files: Documents, applied: Documents | None = None, others: Sequence[Documents] = ()) -> Accepted:
    """Returns all resources together; `others` are those of other control planes, the highest first.

    Raises:
        ConfigurationRefused: with every finding. Problems within a document are reported alone, since what they hide
            makes references to it look dangling.
    """
    own = (files, applied or Documents())
    every = (*own, *others)
    found = tuple(problem for documents in every for problem in documents.problems)
    if found:
        raise ConfigurationRefused(found)
    entries, hidden = _by_identity(own)
    for documents in others:
        kept, out = _beside(entries, documents)
        entries += kept
        hidden += out
    problems = tuple(conflicts(entries))
    configuration = Configuration.of(entry.resource for entry in entries)
    wrong, _ = dangling(entries, configuration)
    if problems or wrong:
        raise ConfigurationRefused(problems + wrong)
    warnings = tuple(warning for documents in every for warning in documents.warnings)
    return Accepted(entries, configuration, warnings + hidden)


def _by_identity(own: Iterable[Documents]) -> tuple[tuple[Entry, ...], tuple[Problem, ...]]:
    files, applied = own
    in_files = {entry.id: entry for entry in files.entries}
    kept = tuple(entry for entry in applied.entries if entry.id not in in_files)
    hidden = tuple(
        Problem(origin(in_files[entry.id]), f"{entry.id} hides the one that was applied; delete it or change the file")
        for entry in applied.entries
        if entry.id in in_files
    )
    return files.entries + kept, hidden


def _beside(higher: Iterable[Entry], documents: Documents) -> tuple[tuple[Entry, ...], tuple[Problem, ...]]:
    """Returns the resources of another control plane that stand beside the `higher` ones, and those that are hidden."""
    ids: dict[object, Entry] = {}
    for entry in higher:
        for key in (entry.id, *((type(entry.resource), host) for host in claims(entry))):
            ids[key] = entry
    kept: list[Entry] = []
    hidden: list[Problem] = []
    for entry in documents.entries:
        keys = (entry.id, *((type(entry.resource), host) for host in claims(entry)))
        holder = next((ids[key] for key in keys if key in ids), None)
        if holder is None:
            kept.append(entry)
            continue
        what = "hides" if holder.id == entry.id else f"has a host of {entry.id} and hides it:"
        hidden.append(Problem(origin(holder), f"{holder.id} {what} the one in {entry.file}"))
    return tuple(kept), tuple(hidden)
