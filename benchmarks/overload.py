"""A server at twice its capacity for a minute: with adaptive concurrency, and without; on threads and on asyncio.

The server is tests/e2e/peers/limited_server.py, of known capacity; the load is an open loop: it begins its calls when
they are due, whatever became of those before. With and without run side by side.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.children import Child
from benchmarks.report import Check, Plot, Report, Table, number
from benchmarks.spread import quantile

_WORKERS, _SERVICE = 10, 0.05  # seconds of one of them for a call
_CAPACITY = _WORKERS / _SERVICE  # calls a second
_BEFORE, _DURING, _AFTER = 5, 60, 20  # seconds
_DEADLINE = 1.0
_GOODPUT, _RECOVERY = 90.0, 5.0  # per cent, seconds
_KINDS = {"sync": "grpc.server", "aio": "grpc.aio.server"}
_LIMITS = {"adaptive": "adaptive concurrency", "plain": "no limit"}

_Phases = list[dict[str, Any]]


def run(*, quick: bool) -> Report:
    """Loads the servers of a kind together."""
    seconds = 8 if quick else _DURING
    found: dict[tuple[str, str], _Phases] = {}
    for kind in _KINDS:
        with ThreadPoolExecutor(len(_LIMITS)) as pool:
            jobs = {limit: pool.submit(_loaded, kind, limit, seconds) for limit in _LIMITS}
            found |= {(kind, limit): job.result() for limit, job in jobs.items()}
    return _report(found, seconds)


def _loaded(kind: str, limit: str, seconds: int) -> _Phases:
    words = ["tests/e2e/peers/limited_server.py", kind, str(_WORKERS), str(_SERVICE), limit]
    with Child([sys.executable, *words]) as server:
        address = f"127.0.0.1:{int(server.line())}"
        rates = ((_CAPACITY / 2, _BEFORE), (_CAPACITY * 2, seconds), (_CAPACITY / 2, _AFTER))
        phases = [f"{rate}:{length}" for rate, length in rates]
        load = ["tests/e2e/parity/open_loop.py", address, "/drill.Slow/Work", str(_DEADLINE), *phases]
        with Child([sys.executable, *load]) as caller:
            told: _Phases = json.loads(caller.line(seconds + _BEFORE + _AFTER + 60.0))
    return told


def _report(found: dict[tuple[str, str], _Phases], seconds: int) -> Report:
    rows, checks = [], []
    for (kind, limit), (_, during, after) in found.items():
        goodput = 100.0 * during["ended"].get("OK", 0) / (_CAPACITY * seconds)
        each = [100.0 * second.get("OK", 0) / _CAPACITY for second in during["seconds"][:seconds]]
        refused = during["ended"].get("UNAVAILABLE", 0)
        late = during["offered"] - during["ended"].get("OK", 0) - refused
        cells = (f"{goodput:.1f} %", f"{quantile(each, 0.05):.0f} %", f"{refused:,}", f"{late:,}")
        name = f"{_KINDS[kind]}, {_LIMITS[limit]}"
        rows.append((name, f"{during['offered']:,}", *cells, number(after["failed_last"], "s")))
        if limit == "adaptive":
            checks.append(Check(f"{name}: goodput, of the capacity", goodput, _GOODPUT, at_most=False, unit="%"))
            checks.append(Check(f"{name}: last failure after the load", after["failed_last"], _RECOVERY, unit="s"))
    columns = ("", "offered", "goodput", "worst seconds (p5)", "refused", "too late", "last failure after")
    table = Table(f"Twice the capacity for {seconds} s", columns, rows)
    notes = (
        (
            f"{_WORKERS} workers of {_SERVICE * 1000:g} ms are {_CAPACITY:g} calls a second; {_CAPACITY * 2:g} are "
            f"begun, each with {_DEADLINE:g} s, after {_BEFORE} s and before {_AFTER} s at half the capacity. Goodput: "
            "what was answered within its deadline."
        ),
        "Last failure: when the last call began that was refused or late, in seconds since the load fell to the half.",
    )
    plot = Plot("Overload: goodput of the capacity", "%", "", bars=[check for check in checks if check.unit == "%"])
    data = {f"{kind} {limit}": phases for (kind, limit), phases in found.items()}
    return Report("overload", "twice the capacity", [table], checks, notes, plot, data)
