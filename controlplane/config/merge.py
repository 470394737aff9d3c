"""Joins what the sources say, and decides what of it can come into force. Pure.

Sources are the files, what was applied, and other control planes, in this order of precedence: files are reviewed and
versioned, so an old `apply` must not silently override them, and what others say cannot be mended here. Of two
resources of one identity, or for one host, that of the higher source counts, and the other is hidden. A resource that
does not fit to the higher ones (a dangling reference) is left out by itself. Both are told, and the result depends on
what the sources say alone, never on the order in which they said it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from controlplane.config.documents import Documents, Entry, origin
from controlplane.config.problems import ConfigurationRefused, Problem
from controlplane.config.references import claims, conflicts, dangling, named
from controlplane.model.configuration import Configuration, Resource
from controlplane.model.identity import Origin

_APPLIED = 1  # the layer of what was applied; below it are other control planes


@dataclass(frozen=True, slots=True)
class Accepted:
    """A configuration that can be in force: its resources, the index over them, and what has no effect in it.

    `unfit_files`, `unfit_applied`: why some of the operator's own resources are left out. `conflicts`: resources of
    the files that contradict each other; the first of them counts.
    """

    entries: tuple[Entry, ...] = ()
    configuration: Configuration = Configuration()
    without_effect: tuple[Problem, ...] = ()
    unfit_files: tuple[Problem, ...] = ()
    unfit_applied: tuple[Problem, ...] = ()
    conflicts: tuple[Problem, ...] = ()

    def warnings(self, registered: Collection[str] = ()) -> tuple[Problem, ...]:
        """Returns what has no effect, and what waits for an application that is not among the `registered`."""
        return self.without_effect + dangling(self.entries, self.configuration, registered)[1]


def merge(documents: Documents) -> Accepted:
    """Returns the resources of one source, by themselves.

    Raises:
        ConfigurationRefused: with every finding. Problems within a document are reported alone, since what they hide
            makes references to it look dangling.
    """
    if documents.problems:
        raise ConfigurationRefused(documents.problems)
    configuration = Configuration.of(entry.resource for entry in documents.entries)
    found = (*conflicts(documents.entries), *dangling(documents.entries, configuration)[0])
    if found:
        raise ConfigurationRefused(found)
    return Accepted(documents.entries, configuration, documents.warnings)


def combine(layers: Sequence[Documents]) -> Accepted:
    """Returns what of all sources fits together: of the files, of what was applied, then of each other control plane.

    Never raises for what they say; problems within documents are the caller's to judge.
    """
    layered = _Layered(layers)
    while layered.leave_out():
        pass
    warnings = tuple(warning for documents in layers for warning in documents.warnings)
    lower = tuple(problem for level, problem in layered.unfit if level > _APPLIED)
    return Accepted(
        tuple(layered.entries),
        layered.configuration,
        (*warnings, *layered.hidden, *lower),
        tuple(problem for level, problem in layered.unfit if level == 0),
        (
            *(problem for level, problem in layered.unfit if level == _APPLIED),
            *layered.contested,
        ),
        tuple(conflicts(layers[0].entries)) if layers else (),
    )


@dataclass(slots=True)
class _Layered:
    """The resources of all layers, less those that are left out so far. Lives for one call of `combine`."""

    layers: Sequence[Documents]
    out: set[int] = field(default_factory=set)  # ids of the entries that are left out
    unfit: list[tuple[int, Problem]] = field(default_factory=list)  # with their layers
    entries: list[Entry] = field(default_factory=list)
    level: dict[int, int] = field(default_factory=dict)  # of each of `entries`, by its id()
    hidden: list[Problem] = field(default_factory=list)
    contested: list[Problem] = field(default_factory=list)  # applied resources for hosts that others have
    configuration: Configuration = Configuration()

    def leave_out(self) -> bool:
        """Leaves out what does not fit, of the highest source that has such; returns whether there was any."""
        self._stack()
        wrong = [entry for entry in self.entries if dangling([entry], self.configuration)[0]]
        top = min((self.level[id(entry)] for entry in wrong), default=None)
        if top is None:
            return False
        above = [each.resource for each in self.entries if self.level[id(each)] <= top]
        higher = Configuration.of(above)  # once: many may wait at the start
        for entry in wrong:
            if self.level[id(entry)] == top:
                self._judge(entry, [] if _unfit(entry, higher) else list(self._culprits(entry, above)))
        return True

    def _stack(self) -> None:
        """Finds the resources that no higher one hides. One that is left out hides nothing."""
        self.entries, self.level, self.hidden, self.contested = [], {}, [], []
        holders: dict[object, Entry] = {}
        for level, documents in enumerate(self.layers):
            for entry in documents.entries:
                if id(entry) in self.out:
                    continue
                holder = next((holders[key] for key in _keys(entry) if key in holders), None)
                if holder is not None:
                    self._hide(entry, level, holder)
                    continue
                holders.update(dict.fromkeys(_keys(entry), entry))
                self.entries.append(entry)
                self.level[id(entry)] = level
        self.configuration = Configuration.of(entry.resource for entry in self.entries)

    def _hide(self, entry: Entry, level: int, holder: Entry) -> None:
        same = holder.id == entry.id
        if level == _APPLIED and not same:
            self.contested.extend(conflicts((holder, entry)))
        elif level == _APPLIED:
            what = f"{entry.id} hides the one that was applied; delete it or change the file"
            self.hidden.append(Problem(origin(holder), what))
        elif level > _APPLIED:
            what = "hides" if same else f"has a host of {entry.id} and hides it:"
            self.hidden.append(Problem(origin(holder), f"{holder.id} {what} the one in {entry.file}"))

    def _judge(self, entry: Entry, culprits: Sequence[Entry]) -> None:
        """Leaves the resource out, or the lower ones where it would fit without them."""
        for each in culprits:
            what = f"{each.id} is left out: {entry.id} in {origin(entry)} does not fit to it, and goes first"
            self._drop(each, Problem(origin(each), what))
        if culprits:
            return
        for problem in dangling([entry], self.configuration)[0]:
            told = problem
            if self.level[id(entry)] > _APPLIED:
                place = Origin(entry.file, problem.where.line, problem.where.path)
                told = Problem(place, f"{entry.id} is left out: {problem.what}")
            self._drop(entry, told)

    def _culprits(self, entry: Entry, above: Sequence[Resource]) -> Iterator[Entry]:
        """Yields the lower resources for hosts it names, each of which alone makes it unfit."""
        level, hosts = self.level[id(entry)], named(entry)
        for each in self.entries:
            lower = self.level[id(each)] > level and not hosts.isdisjoint(claims(each))
            if lower and _unfit(entry, Configuration.of((*above, each.resource))):
                yield each

    def _drop(self, entry: Entry, problem: Problem) -> None:
        self.out.add(id(entry))
        self.unfit.append((self.level[id(entry)], problem))


def _unfit(entry: Entry, configuration: Configuration) -> bool:
    return bool(dangling([entry], configuration)[0])


def _keys(entry: Entry) -> tuple[object, ...]:
    return (entry.id, *((type(entry.resource), host) for host in claims(entry)))
