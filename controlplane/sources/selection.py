"""Which state of each source is in force: the newest of all, or the last good one of those that do not fit. Pure.

Called by `configured` whenever a source changed. A source that is refused never takes another one down: as few sources
as possible stay on their last good state, and of those that could, the one of lower precedence does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from controlplane.config.documents import Documents
from controlplane.config.merge import Accepted, merge
from controlplane.config.problems import ConfigurationRefused, Problem

FILES, APPLIED = "files", "applied"  # names of the first two sources; the others are other control planes


@dataclass(frozen=True, slots=True)
class Source:
    """A source's newest state, and the one that is in force; the same object where the newest is."""

    name: str
    newest: Documents = Documents()
    good: Documents = Documents()

    @property
    def settled(self) -> bool:
        """Whether the newest state is in force."""
        return self.newest is self.good


@dataclass(frozen=True, slots=True)
class Settled:
    """What is in force. `problems`: why the newest state of some source is not; empty when all are."""

    sources: tuple[Source, ...]
    accepted: Accepted
    problems: tuple[Problem, ...]


def settle(sources: Sequence[Source], required: Collection[str] = ()) -> Settled:
    """Puts the sources in force: files, applied resources and other control planes, in this order.

    Args:
        sources: with their newest states.
        required: names of those whose newest state has to be in force.

    Raises:
        ConfigurationRefused: it cannot be so; the findings are about the newest states.
    """
    refusal: ConfigurationRefused | None = None
    for behind in _fallbacks(sources, required):
        states = [source.good if source.name in behind else source.newest for source in sources]
        try:
            accepted = merge(states[0], states[1], states[2:])
        except ConfigurationRefused as refused:
            refusal = refusal or refused
            continue
        after = tuple(replace(source, good=state) for source, state in zip(sources, states, strict=True))
        return Settled(after, accepted, refusal.problems if refusal else ())
    raise refusal or AssertionError("there is always the attempt without fallbacks")


def _fallbacks(sources: Sequence[Source], required: Collection[str]) -> Iterator[frozenset[str]]:
    """Yields the sets of sources to leave on their last good state, the smallest and lowest first."""
    open_ones = [source.name for source in reversed(sources) if not source.settled and source.name not in required]
    for size in range(len(open_ones) + 1):
        yield from map(frozenset, combinations(open_ones, size))
