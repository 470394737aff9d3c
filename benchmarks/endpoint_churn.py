"""B2: what one changed endpoint costs a client, by the size of the set that it is in.

All clients of one size are alive at once and take their changes in turns: a burst for one, a burst for the next.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from typing import Any

from benchmarks import clients
from benchmarks.clients import ENVOY_SOTW, MESH, NATIVE, NATIVE_LAZY, Client, World
from benchmarks.machine import cpu_seconds
from benchmarks.report import Check, Plot, Report, Table, number

_SIZES = (1_000, 10_000, 100_000)
_CHANGES = 200
_BURSTS = 5
_SECONDS = 2.0  # a burst of a slow client ends after this


def run(*, quick: bool) -> Report:
    """Measures every client at every size."""
    sizes = _SIZES[:2] if quick else _SIZES
    changes, bursts, seconds = (10, 2, 0.5) if quick else (_CHANGES, _BURSTS, _SECONDS)
    found: dict[int, dict[str, Any]] = {}
    with clients.world() as world:
        for size in sizes:
            found[size] = _at_size(world, size, changes // bursts, bursts, seconds)
    return _report(found, changes)


def _at_size(world: World, size: int, count: int, bursts: int, seconds: float) -> dict[str, Any]:
    """Returns per client: CPU seconds a change (one figure a burst), bytes a change, changes, idle CPU."""
    with ExitStack() as stack:
        running = []
        for number_, variant in enumerate(clients.ALL):
            node = f"churn-{size}-{number_}"
            world.publish(variant, node, size)
            running.append(stack.enter_context(world.client(variant, node)))
        idle = _idle(running)
        found: dict[str, Any] = {
            one.variant: {"cpu": [], "bytes": 0, "changes": 0, "idle": idle[one.variant]} for one in running
        }
        for one in running:
            world.plane.ask(do="change", node=one.node, pid=one.pid, count=2, seconds=0)  # warms up
        for burst in range(bursts):
            for one in running[burst % len(running) :] + running[: burst % len(running)]:
                answer = world.plane.ask(do="change", node=one.node, pid=one.pid, count=count, seconds=seconds)
                mine = found[one.variant]
                mine["cpu"].append(answer["cpu"] / answer["changes"])
                mine["bytes"] += answer["bytes"]
                mine["changes"] += answer["changes"]
    for mine in found.values():
        mine["bytes"] /= mine["changes"]
    return found


def _idle(running: list[Client], seconds: float = 2.0) -> dict[str, float]:
    """Returns the CPU that each client uses while nothing happens, as a share of one core."""
    before = {one.variant: cpu_seconds(one.pid) for one in running}
    time.sleep(seconds)
    return {one.variant: (cpu_seconds(one.pid) - before[one.variant]) / seconds for one in running}


def _report(found: dict[int, dict[str, Any]], changes: int) -> Report:
    cpu = {
        size: {name: statistics.median(mine["cpu"]) for name, mine in variants.items()}
        for size, variants in found.items()
    }
    rows = [
        (
            f"{size:,}: {name}",
            number(cpu[size][name] * 1000, "ms"),
            f"{min(mine['cpu']) * 1000:.3g}..{max(mine['cpu']) * 1000:.3g}",
            f"{cpu[size][NATIVE] / cpu[size][name]:,.1f}x",
            f"{cpu[size][ENVOY_SOTW] / cpu[size][name]:,.1f}x",
            number(mine["bytes"], "B"),
            str(mine["changes"]),
            f"{mine['idle'] * 100:.2f} %",
        )
        for size, variants in found.items()
        for name, mine in variants.items()
    ]
    columns = ("endpoints: client", "CPU a change", "bursts", "native/this", "Envoy SotW/this", "wire a change")
    table = Table("One endpoint of the set is exchanged", (*columns, "changes", "idle CPU"), rows)
    checks = [check for name in MESH for check in _checks(name, cpu, found)]
    series = {name: [(float(size), cpu[size][name] * 1000) for size in found] for name in clients.ALL}
    notes = (
        (
            f"Up to {changes} changes in bursts taken in turns; a burst of a slow client ends after {_SECONDS:g} s, so "
            "it has fewer (column `changes`). CPU of the client process alone, all threads; median of bursts. The "
            "limits compare with the cheapest native client."
        ),
        clients.LAZY_NOTE,
        (
            "Wire: bytes of the messages (xDS, or the registry's), without HTTP/2 framing. Delta xDS too resends the "
            "ClusterLoadAssignment whole: it is one resource. LEDS and the registry send the endpoint."
        ),
    )
    plot = Plot("B2: CPU of one changed endpoint", "endpoints in the set", "ms of CPU a change", series)
    return Report("B2", "endpoint churn", (table,), checks, notes, plot, {str(k): v for k, v in found.items()})


def _checks(name: str, cpu: dict[int, dict[str, float]], found: dict[int, dict[str, Any]]) -> list[Check]:
    smallest, largest = min(cpu), max(cpu)
    middle = sorted(cpu)[1]
    return [
        Check(f"{name}: CPU at {largest:,} against {smallest:,}", cpu[largest][name] / cpu[smallest][name], 1.5),
        Check(
            f"{name}: CPU of native against ours at {middle:,}",
            min(cpu[middle][NATIVE], cpu[middle][NATIVE_LAZY]) / cpu[middle][name],
            1000,
            at_most=False,
        ),
        Check(
            f"{name}: CPU of Envoy (SotW) against ours at {middle:,}",
            cpu[middle][ENVOY_SOTW] / cpu[middle][name],
            100,
            at_most=False,
        ),
        Check(f"{name}: wire at {middle:,}", found[middle][name]["bytes"], 1000, unit="B"),
    ]
