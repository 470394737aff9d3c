"""B6: calls that are lost, and calls executed twice, while what they pass is replaced, under 64 callers of all shapes.

Each way to do it has servers, callers and a registry of its own; they take turns, and the callers of the others stand
still meanwhile. The programs and the account are those of tests/e2e/loss: every call has an id, every server writes
down what it executes, and both sides are compared at the end.
"""

from __future__ import annotations

from benchmarks import loss_restarts, loss_switches, loss_upgrades
from benchmarks.loss_outcome import COLUMNS, Outcome
from benchmarks.report import Check, Plot, Report, Table

_NOTES = (*loss_restarts.NOTES, *loss_switches.NOTES, *loss_upgrades.NOTES)


def run(*, quick: bool) -> Report:
    """Runs the parts one after the other, the ways of each in turn."""
    callers = 16 if quick else 64
    found = {
        "Rolling restarts": loss_restarts.run(*((1, 2) if quick else (4, 5)), callers),
        "Interception switches": loss_switches.run(2 if quick else 20, callers),
        "Upgrades of a proxy": loss_upgrades.run(*((1, 2) if quick else (2, 5)), callers),
    }
    return _report(found, callers)


def _report(found: dict[str, list[Outcome]], callers: int) -> Report:
    outcomes = [outcome for part in found.values() for outcome in part]
    checks = [
        Check(f"{what}: {outcome.name}", outcome.verdict.counts()[what], 0, unit="calls")
        for outcome in outcomes
        if outcome.promised
        for what in ("failed", "doubled")
    ]
    data = {
        outcome.name: {
            "times": outcome.steps,
            **outcome.verdict.counts(),
            "failures": [call.line().strip() for call in outcome.verdict.failed[:1000]],
        }
        for outcome in outcomes
    }
    notes = (
        (
            f"{callers} callers, half on threads and half on asyncio: unary calls and streams of all shapes, a pause "
            "of 20 ms (every third: 80 ms) between two."
        ),
        *_NOTES,
        "Untrue: answered OK without having been executed to the end, or with messages missing, or executed uncalled.",
    )
    bars = [Check(outcome.name, outcome.verdict.counts()["failed"], 0, unit="calls") for outcome in outcomes]
    plot = Plot("B6: failed calls", "calls", "", bars=bars)
    tables = [Table(title, COLUMNS, [outcome.cells() for outcome in part]) for title, part in found.items()]
    return Report("B6", "loss", tables, checks, notes, plot, data)
