"""B4: a thousand subscribed clients, 50 endpoint changes a second: how soon each client has each change, at what cost.

The control plane is `meshctl serve` as users run it; changes come in by registration; clients are raw HTTP/2 streams
that ACK. Everything shares one machine.
"""

from __future__ import annotations

import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import grpc

from benchmarks.children import Child, worker
from benchmarks.machine import cpu_seconds, resident, settle
from benchmarks.report import Check, Plot, Report, Table, number
from benchmarks.spread import quantile
from meshsdk.discovery.controlplane import ControlPlaneRegistry
from meshsdk.model.instance import Instance

_APP = "orders"
_RATE = 50.0  # changes a second
_TTL = 600.0  # seconds; nothing lapses in a run
_MODES = {"sotw": "SotW", "delta": "delta, EDS", "leds": "delta, LEDS"}
_DEFAULTS = (20, 500)  # ms: quiet, at most
_COLUMNS = (
    *("mode, debounce", "p50", "p99", "most", "CPU a message", "messages"),
    *("wire a change and client", "server CPU", "memory a client"),
)


@dataclass(frozen=True, slots=True)
class _Size:
    clients: int
    endpoints: int
    seconds: float


_FULL = _Size(1_000, 1_000, 10.0)
_QUICK = _Size(50, 50, 1.0)


def run(*, quick: bool) -> Report:
    """Measures each mode with the default debounce and with a short one."""
    size = _QUICK if quick else _FULL
    found = {
        f"{words}, {quiet}/{most} ms": _measure(size, mode, quiet, most)
        for quiet, most in (_DEFAULTS, (5, 100))
        for mode, words in _MODES.items()
    }
    return _report(found, size)


@contextmanager
def _serve(quiet: int, most: int) -> Iterator[tuple[Child, str]]:
    """Runs `meshctl serve` without configuration; yields it and its xDS address."""
    with tempfile.TemporaryDirectory(prefix="meshsdk-bench-") as folder:
        serve = ["serve", "--config", folder, "--xds", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        command = [sys.executable, "-m", "controlplane.cli", *serve, "--debounce", f"{quiet},{most}"]
        with Child(command) as child:
            line = child.line()
            address = re.search(r"127\.0\.0\.1:\d+", line)
            assert address is not None, line
            yield child, address[0]


def _measure(size: _Size, mode: str, quiet: int, most: int) -> dict[str, Any]:
    with _serve(quiet, most) as (server, address), worker("streams") as clients:
        registry = ControlPlaneRegistry(grpc.insecure_channel(address), address)
        try:
            instances = [
                Instance(_APP, f"i-{one}", f"10.{one >> 16}.{one >> 8 & 255}.{one & 255}:50051")
                for one in range(size.endpoints)
            ]
            for instance in instances:
                registry.register(instance, _TTL)
            return _churned(server, clients, registry, instances, address, size, mode)
        finally:
            registry.close()


def _churned(
    server: Child,
    clients: Child,
    registry: ControlPlaneRegistry,
    instances: list[Instance],
    address: str,
    size: _Size,
    mode: str,
) -> dict[str, Any]:
    settle(server.pid, window=0.2)
    before, _ = resident(server.pid)
    clients.ask(do="open", address=address, count=size.clients, service=_APP, mode=mode)
    clients.ask(do="await", change=1)
    settle(server.pid, window=0.2)
    after, _ = resident(server.pid)
    _change(registry, instances, 2, 1.0, clients)  # warms up
    first = 2 + int(_RATE)
    start = clients.ask(do="received")
    cpu = cpu_seconds(server.pid)
    began = time.monotonic()
    sent = _change(registry, instances, first, size.seconds, clients)
    used = cpu_seconds(server.pid) - cpu
    took = time.monotonic() - began
    found = clients.ask(do="arrivals", sent=sent)
    messages = found["messages"] - start["messages"]
    return {
        "p50": quantile(found["took"], 0.5),
        "p99": quantile(found["took"], 0.99),
        "most": found["took"][-1],
        "messages": messages,
        "cpu": used / messages,
        "share": used / took,
        "bytes": (found["bytes"] - start["bytes"]) / len(sent) / size.clients,
        "memory": (after - before) / size.clients,
    }


def _change(
    registry: ControlPlaneRegistry, instances: list[Instance], first: int, seconds: float, clients: Child
) -> dict[int, float]:
    """Changes the weights of instances in turn, `_RATE` a second; returns when each change was made, once all are seen.

    The weight is the change's number, so that a client can tell what it has.
    """
    sent: dict[int, float] = {}
    pace = threading.Event()
    next_at = time.monotonic()
    for change in range(first, first + int(seconds * _RATE)):
        pace.wait(max(0.0, next_at - time.monotonic()))
        next_at += 1 / _RATE
        place = change % len(instances)
        sent[change] = time.monotonic()
        registry.register(replace(instances[place], weight=change), _TTL)
    clients.ask(do="await", change=max(sent))
    return sent


def _report(found: dict[str, dict[str, Any]], size: _Size) -> Report:
    rows = [
        (
            name,
            number(mine["p50"] * 1000, "ms"),
            number(mine["p99"] * 1000, "ms"),
            number(mine["most"] * 1000, "ms"),
            number(mine["cpu"] * 1e6, "us"),
            number(mine["messages"]),
            number(mine["bytes"], "B"),
            f"{mine['share'] * 100:.0f} %",
            number(mine["memory"] / 1000, "kB"),
        )
        for name, mine in found.items()
    ]
    checks = [
        check
        for name, mine in found.items()
        for check in (
            Check(f"{name}: p99 convergence", mine["p99"] * 1000, 200, unit="ms"),
            Check(f"{name}: server CPU a message", mine["cpu"] * 1e6, 60, unit="us"),
            Check(f"{name}: memory a client", mine["memory"] / 1000, 100, unit="kB"),
        )
    ]
    notes = (
        (
            f"{size.clients:,} clients, each a connection with one aggregated stream, all subscribed to one service of "
            f"{size.endpoints:,} endpoints, of which {_RATE:g} a second change for {size.seconds:g} s. Convergence: "
            "from the registration call to the client's reading of the change; every change at every client counts."
        ),
        (
            "CPU a message: all CPU of `meshctl serve` in that time, registrations and ACKs included, by messages "
            "delivered. Server CPU: share of one core. Debounce q/m: sends after q quiet ms, after m at the latest."
        ),
        "Stock control planes: no figure of the same run; the table of mission.md has none for Python.",
    )
    bars = [check for check in checks if check.unit == "ms"]
    plot = Plot("B4: p99 convergence", "ms", "", bars=bars)
    return Report(
        "B4", "control plane", (Table("Churn under subscribed clients", _COLUMNS, rows),), checks, notes, plot, found
    )
