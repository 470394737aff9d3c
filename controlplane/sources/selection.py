"""Which state of each source is in force: the newest of all, or the last good one of files that do not fit. Pure.

Called by `configured` whenever a source changed. Precedence is that of `config.merge`: a lower source never keeps a
higher one from coming into force, whatever was heard first. New files that bring something that does not fit are
refused as a whole, and the last good ones stay; anything else that does not fit is left out by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from controlplane.config.documents import Documents
from controlplane.config.merge import Accepted, combine
from controlplane.config.problems import ConfigurationRefused, Problem
from controlplane.config.references import conflicts

FILES, APPLIED = "files", "applied"  # names of the first two sources; the others are other control planes


@dataclass(frozen=True, slots=True)
class Source:
    """A source's newest state, and the one that is in force; the same object where the newest is.

    `heard`: it has told its state. Until every one has, what does not fit may refer to what is still to come.
    """

    name: str
    newest: Documents = Documents()
    good: Documents = Documents()
    heard: bool = True

    @property
    def settled(self) -> bool:
        """Whether the newest state is in force."""
        return self.newest is self.good


@dataclass(frozen=True, slots=True)
class Settled:
    """What is in force. `problems`: what of the files and the applied resources is not, and why; empty when all is."""

    sources: tuple[Source, ...]
    accepted: Accepted
    problems: tuple[Problem, ...]


def settle(sources: Sequence[Source], required: Collection[str] = (), known: Accepted | None = None) -> Settled:
    """Puts the sources in force: files, applied resources and other control planes, in this order.

    Args:
        sources: with their newest states.
        required: FILES: the newest files have to be in force. APPLIED: the change has to leave nothing out anew, of
            the files or of what was applied.
        known: what was in force; what that had left out is no reason to refuse a change.

    Raises:
        ConfigurationRefused: it cannot be so; the findings are about the newest states.
    """
    files, applied, *others = sources
    contrary = {source.name: tuple(conflicts(source.newest.entries)) for source in others}
    # A state that contradicts itself is none to choose from; that is so whatever the other sources say.
    lower = [applied, *(replace(each, newest=each.good) if contrary[each.name] else each for each in others)]
    before = known or Accepted()
    waiting = [source.name for source in lower if not source.heard]
    accepted = combine([source.newest for source in (files, *lower)])
    refusal = _refusal(files, accepted, before, may_wait=bool(waiting))
    if refusal:
        if FILES in required:
            raise ConfigurationRefused(refusal)
        accepted = combine([files.good, *(source.newest for source in lower)])
    if APPLIED in required:
        own = (*lower[0].newest.problems, *accepted.unfit_files, *accepted.unfit_applied)
        anew = [problem for problem in own if problem not in (*before.unfit_files, *before.unfit_applied)]
        if anew:
            raise ConfigurationRefused(anew)
    left_out = (*lower[0].newest.problems, *accepted.unfit_files, *accepted.unfit_applied)
    why = f"; it waits for {', '.join(waiting)}, which has not told its configuration yet" if waiting else ""
    contradictions = (problem for found in contrary.values() for problem in found)
    problems = (*refusal, *contradictions, *(replace(each, what=f"{each.what}{why}") for each in left_out))
    state = files.good if refusal else files.newest
    newest = (replace(files, good=state), *(replace(each, good=each.newest) for each in lower))
    after = tuple(replace(each, newest=told.newest) for each, told in zip(newest, sources, strict=True))
    return Settled(after, accepted, tuple(dict.fromkeys(problems)))


def _refusal(files: Source, accepted: Accepted, before: Accepted, *, may_wait: bool) -> tuple[Problem, ...]:
    """Returns why the newest files cannot be in force; nothing where they were accepted before."""
    if files.settled:
        return ()
    faults = files.newest.problems or accepted.conflicts
    if faults or may_wait:
        return faults
    return tuple(problem for problem in accepted.unfit_files if problem not in before.unfit_files)
