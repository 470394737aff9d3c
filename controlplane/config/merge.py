"""Joins what files say with what was applied, and decides whether the whole can come into force. Pure.

Precedence: a file wins over an applied resource of the same identity, which is then reported as shadowed: files are
reviewed and versioned, so an old `apply` must not silently override them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from controlplane.config.documents import Documents, Entry, origin
from controlplane.config.problems import ConfigurationRefused, Problem
from controlplane.config.references import conflicts, dangling
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


def merge(files: Documents, applied: Documents | None = None) -> Accepted:
    """Returns all resources together.

    Raises:
        ConfigurationRefused: with every finding. Problems within a document are reported alone, since what they hide
            makes references to it look dangling.
    """
    applied = applied or Documents()
    found = files.problems + applied.problems
    if found:
        raise ConfigurationRefused(found)
    in_files = {entry.id: entry for entry in files.entries}
    kept = tuple(entry for entry in applied.entries if entry.id not in in_files)
    entries = files.entries + kept
    problems = tuple(conflicts(entries))
    configuration = Configuration.of(entry.resource for entry in entries)
    wrong, _ = dangling(entries, configuration)
    if problems or wrong:
        raise ConfigurationRefused(problems + wrong)
    shadowed = tuple(
        Problem(origin(in_files[entry.id]), f"{entry.id} hides the one that was applied; delete it or change the file")
        for entry in applied.entries
        if entry.id in in_files
    )
    return Accepted(entries, configuration, files.warnings + applied.warnings + shadowed)
