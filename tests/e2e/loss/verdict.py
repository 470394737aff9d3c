"""What became of every call of a run: from what its callers say (`Call`) and what the servers say (`Execution`). Pure.

Used by the scenarios of this folder and by `benchmarks.loss`. It knows no process, no file and no clock.
"""

from __future__ import annotations

import bisect
import collections
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.e2e.loss.records import LEFT, OK, Call, Execution

_SHOWN = 12  # calls named in words


@dataclass(frozen=True, slots=True)
class Verdict:
    """The account of a run.

    `failed`: calls that did not end OK, other than endless streams that their caller left. `doubled`: ids that were
    begun more than once and not declared idempotent; `repeated`: the same of those that were, which is allowed. `lost`:
    answered OK, but no server came to their end. `short`: OK, with another number of messages on the one side than on
    the other. `unknown`: executed, but no caller made them.
    """

    made: int
    failed: tuple[Call, ...]
    doubled: tuple[str, ...]
    repeated: tuple[str, ...]
    lost: tuple[str, ...]
    short: tuple[str, ...]
    unknown: tuple[str, ...]
    executed: frozenset[str]  # begun at least once

    @property
    def clean(self) -> bool:
        """Whether nothing failed, nothing was done twice that must not be, and both sides tell the same."""
        return not (self.failed or self.untrue)

    @property
    def untrue(self) -> tuple[str, ...]:
        """Everything that may not be even where calls may fail."""
        return (*self.doubled, *self.lost, *self.short, *self.unknown)

    def counts(self) -> dict[str, int]:
        """Returns the numbers, for tables."""
        names = ("failed", "doubled", "repeated", "lost", "short", "unknown")
        return {"made": self.made, **{name: len(getattr(self, name)) for name in names}}

    def __str__(self) -> str:
        parts = [", ".join(f"{name} {count}" for name, count in self.counts().items())]
        parts += [f"failed: {call.line().strip()}" for call in self.failed[:_SHOWN]]
        for name in ("doubled", "lost", "short", "unknown"):
            if ids := getattr(self, name):
                parts.append(f"{name}: {' '.join(ids[:_SHOWN])}")
        return "\n".join(parts)


def verdict(calls: Iterable[Call], ledgers: Iterable[Iterable[Execution]], idempotent: Collection[str] = ()) -> Verdict:
    """Compares both sides. `ledgers`: one of each server; `idempotent`: shapes that were declared so."""
    made = {call.id: call for call in calls}
    runs: dict[str, list[Execution]] = collections.defaultdict(list)
    for ledger in ledgers:
        for execution in ledger:
            runs[execution.id].append(execution)
    twice = [call for call, found in runs.items() if len(found) > 1 and call in made]
    fine = [call for call in made.values() if call.outcome == OK]
    return Verdict(
        made=len(made),
        failed=tuple(call for call in made.values() if call.outcome not in (OK, LEFT)),
        doubled=tuple(call for call in twice if made[call].shape not in idempotent),
        repeated=tuple(call for call in twice if made[call].shape in idempotent),
        lost=tuple(call.id for call in fine if not any(run.ended for run in runs.get(call.id, ()))),
        short=tuple(call.id for call in fine if _short(call, runs)),
        unknown=tuple(call for call in runs if call not in made),
        executed=frozenset(runs),
    )


def by_kill(failed: Iterable[Call], kills: Sequence[float]) -> dict[int, list[Call]]:
    """Returns the failed calls by the kill that they ended after, the last there was; -1: they ended before any.

    `kills`: when, in seconds of the monotonic clock, ascending.
    """
    found: dict[int, list[Call]] = collections.defaultdict(list)
    for call in failed:
        found[bisect.bisect_right(kills, call.ended) - 1].append(call)
    return dict(found)


def _short(call: Call, runs: Mapping[str, list[Execution]]) -> bool:
    ended = [run for run in runs.get(call.id, ()) if run.ended]
    return bool(ended) and not any((run.received, run.sent) == (call.sent, call.received) for run in ended)
