"""What the shim costs beside a bare Envoy with the same listeners and a fixed configuration: latency and memory.

A call goes in at the outbound listener, from there to the inbound one of the same Envoy, and to the backend behind it:
the way of a call between two applications with shims, with both shims in one.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from benchmarks.children import Child, worker
from benchmarks.envoy import Envoy, both_ways
from benchmarks.machine import resident, settle
from benchmarks.report import Check, Plot, Report, Table, number, ratio_check
from benchmarks.spread import ratios, spread
from meshsdk import testing
from tests.e2e.shims import free_ports

_SHIM, _BARE = "shim", "bare Envoy"
_LIMIT = 1.05
_MEGABYTES = 20.0
_CASES = ((1, 150), (16, 20))  # in flight, calls of each in a round
_ROUNDS = 120
_SERVICE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: orders}
spec:
  hosts: [orders]
  ports: [{number: 50051, name: grpc, protocol: GRPC}]
  resolution: STATIC
  workloadSelector: {labels: {app: orders}}
"""

_Rounds = dict[str, list[dict[str, float]]]


def run(*, quick: bool) -> Report:
    """Measures latency in turns, and memory at the end."""
    found: dict[str, _Rounds] = {}
    with worker("backend") as backend, worker("shim_calls") as calls, testing.control_plane(_SERVICE) as plane:
        port = backend.answer()["ports"][0]
        with _shim(plane, port) as (outbound, shim), _bare(port) as (fixed, bare):
            calls.ask(ports={_BARE: fixed, _SHIM: outbound})
            for in_flight, count in _CASES:
                rounds = 3 if quick else _ROUNDS
                found[f"x{in_flight}"] = calls.ask(in_flight=in_flight, calls=count, rounds=rounds, patience=600.0)
            memory = _memory(shim, bare)
    return _report(found, memory)


@contextmanager
def _shim(plane: testing.ControlPlane, backend: int) -> Iterator[tuple[int, int]]:
    """Runs a shim on both sides of the backend; gives its outbound port and its pid."""
    inbound, outbound = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="shim-") as folder:
        ways = [f"--inbound=127.0.0.1:{inbound}=127.0.0.1:{backend}", f"--outbound=127.0.0.1:{outbound}"]
        options = ["--app=orders", f"--folder={folder}/run", "--target=xds:///orders", "--concurrency=1", "--drain=1"]
        environment = {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(plane.bootstrap("orders"))}
        program = [sys.executable, "-c", "import sys; from meshsdk.cli import main; sys.exit(main())"]
        with Child([*program, "shim", *ways, *options], environment) as child:
            child.line()
            yield outbound, child.pid


@contextmanager
def _bare(backend: int) -> Iterator[tuple[int, int]]:
    inbound, outbound = free_ports(2)
    with Envoy(both_ways(backend, inbound, outbound), apart=True) as envoy:
        envoy.ports(2)
        yield outbound, envoy.pid


def _memory(shim: int, bare: int) -> dict[str, dict[str, float]]:
    """Returns bytes that are resident, and private to the process, of each."""
    envoy = next(one.pid for one in psutil.Process(shim).children() if one.name().startswith("envoy"))
    found = {}
    for name, pid in (("bare Envoy", bare), ("the shim's Envoy", envoy), ("the shim's supervisor", shim)):
        settle(pid, window=0.3)
        rss, own = resident(pid)
        found[name] = {"rss": rss, "own": own}
    return found


def _report(found: dict[str, _Rounds], memory: dict[str, dict[str, float]]) -> Report:
    rows = []
    checks: list[Check] = []
    for case, rounds in found.items():
        for figure in ("p50", "p99"):
            theirs, ours = ([one[figure] for one in rounds[name]] for name in (_BARE, _SHIM))
            ratio = ratios(ours, theirs)
            cells = (number(spread(one).median * 1e6, "us") for one in (theirs, ours))
            rows.append((f"unary {case}: {figure}", *cells, f"{ratio.median:.3f}x"))
            checks.append(ratio_check(f"{case}: {figure} / bare Envoy", ratio, _LIMIT))
    sizes = [(name, number(one["rss"] / 1e6, "MB"), number(one["own"] / 1e6, "MB")) for name, one in memory.items()]
    bare, envoy, supervisor = memory.values()
    for what, value in (
        ("resident: its Envoy above a bare one", envoy["rss"] - bare["rss"]),
        ("private: shim with supervisor above a bare Envoy", envoy["own"] + supervisor["own"] - bare["own"]),
        ("resident: shim with supervisor above a bare Envoy", envoy["rss"] + supervisor["rss"] - bare["rss"]),
    ):
        checks.append(Check(what, value / 1e6, _MEGABYTES, unit="MB"))
    tables = (
        Table("Calls through both listeners", ("case", _BARE, _SHIM, "ratio"), rows),
        Table("Memory", ("process", "resident (RSS)", "private (USS)"), sizes),
    )
    notes = (
        "The same Envoy binary with one worker thread, and one backend; rounds take turns. Ratios as in B1.",
        (
            "The supervisor is a Python process with grpcio in it: the code of both is resident in it and shared with "
            "every other such process of the machine, so its private memory is what one more shim takes."
        ),
    )
    plot = Plot("Shim: cost against a bare Envoy", "ratio (black: limit)", "", bars=checks)
    return Report("shim", "cost of the shim", tables, checks, notes, plot, {"rounds": found, "memory": memory})
