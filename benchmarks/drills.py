"""Fault drills: one of five servers slow, failing, black-holed or flapping; what callers see of it, way by way.

The servers, the faults and the callers are those of tests/e2e/parity. All ways call at the same time, so that the
faults are the same for all of them; each round starts everything anew. Needs root, for the network namespaces.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.report import Check, Plot, Report, Table, number, ratio_check
from benchmarks.spread import quantile, ratios, spread
from tests.e2e.parity.drill_stage import DEADLINE, FAULTS, OURS, THREADS, WAYS, Called, drilled

_RATE = 60.0  # calls a second of each way
_SECONDS, _ROUNDS = 15.0, 3
_PEERS = tuple(way for way in WAYS if way not in (OURS, THREADS))
_SAME = 1.1  # what chance makes of two p99s where nothing is at fault

_Rounds = list[dict[str, list[Called]]]


def run(*, quick: bool) -> Report:
    """Runs every fault, in turns."""
    if os.geteuid() != 0:
        told = "Not run: only root may make the network namespaces that packets are dropped in."
        return Report(
            "drills",
            "fault drills",
            [],
            [],
            [told],
            Plot("Fault drills", "", "", bars=[Check("not run", 0.0, 0.0)]),
            {},
        )
    found: dict[str, _Rounds] = {fault: [] for fault in FAULTS}
    for _ in range(1 if quick else _ROUNDS):
        for fault, rounds in found.items():
            with tempfile.TemporaryDirectory(prefix="meshsdk-bench-") as folder, drilled(Path(folder), fault) as drill:
                rounds.append(drill.call(_RATE, 3.0 if quick else _SECONDS))
    return _report(found)


def _success(calls: list[Called]) -> float:
    return 100.0 * sum(call.status == "OK" for call in calls) / len(calls)


def _p99(calls: list[Called]) -> float:
    return quantile([call.seconds for call in calls], 0.99)


def _summary(calls: list[Called]) -> dict[str, object]:
    took = [call.seconds for call in calls]
    quantiles = {f"p{share}": quantile(took, share / 100) for share in (50, 95, 99, 100)}
    return {"ended": Counter(call.status for call in calls), **quantiles}


def _all(rounds: _Rounds, way: str) -> list[Called]:
    return [call for one in rounds for call in one[way]]


def _checks(fault: str, rounds: _Rounds) -> list[Check]:
    """Ours beside the best of the peers, by success first: who fails a call sooner has not answered it better."""
    checks = []
    best = max(_success(_all(rounds, peer)) for peer in _PEERS)
    worthy = [peer for peer in _PEERS if _success(_all(rounds, peer)) >= best]
    quickest = min(worthy, key=lambda peer: _p99(_all(rounds, peer)))
    for way in (OURS, THREADS):
        ahead = _success(_all(rounds, way)) - best
        checks.append(Check(f"{fault}: success of {way}, above the best peer's", ahead, 0.0, at_most=False, unit="%"))
        ratio = ratios([_p99(one[way]) for one in rounds], [_p99(one[quickest]) for one in rounds])
        checks.append(ratio_check(f"{fault}: p99 of {way} / {quickest}", ratio, _SAME))
    return checks


def _report(found: dict[str, _Rounds]) -> Report:
    rows, checks = [], []
    for fault, rounds in found.items():
        cells = []
        for way in WAYS:
            p99 = spread([_p99(one[way]) for one in rounds]).median
            cells.append(f"{_success(_all(rounds, way)):.2f} %  {number(p99 * 1000, 'ms')}")
        rows.append((fault, *cells))
        checks += _checks(fault, rounds)
    notes = (
        (
            f"Each way begins {_RATE:g} calls a second whatever becomes of those before, each with {DEADLINE:g} s; a "
            "server takes 5 ms for a call. Success is of all calls, p99 the middle of the rounds', failed calls too."
        ),
        (
            "One YAML: LEAST_REQUEST, ejection after five failures in a row or 30 % of an interval, hedging after "
            "50 ms, three attempts. Native xds:/// has retries and ejection by percentage of that, plain grpcio is "
            "given round_robin and the same retries in its service config."
        ),
        f"The peer in a row of p99 is the quickest of those that fail fewest calls. Within {_SAME:g}x is the same.",
    )
    data = {fault: {way: [_summary(one[way]) for one in rounds] for way in WAYS} for fault, rounds in found.items()}
    plot = Plot(
        "Fault drills: p99 against the best peer", "ratio (black: limit)", "", bars=[c for c in checks if c.unit == "x"]
    )
    columns = ("one of five is", *WAYS)
    return Report(
        "drills",
        "fault drills",
        [Table("Success rate and p99 at the caller", columns, rows)],
        checks,
        notes,
        plot,
        data,
    )
