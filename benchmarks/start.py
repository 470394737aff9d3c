"""B7: what a fresh process pays before its first answer: the import, and the first call.

Every figure is of a process of its own; variants take turns, a round is one of each.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.children import ROOT, Child, worker
from benchmarks.clients import bootstrap
from benchmarks.report import Check, Plot, Report, Table, number, ratio_check
from benchmarks.spread import ratios

_IMPORT = "import time; began = time.perf_counter(); import {0}; print(time.perf_counter() - began)"
_IMPORTS = ("grpc", "meshsdk")
_NATIVE, _MESH, _CACHED = "native xds:///", "meshsdk", "meshsdk, from disk, control plane dead"
_KEEP = "3"  # seconds that a process stays up to save its configuration


def run(*, quick: bool) -> Report:
    """Measures imports, then first calls."""
    imports = _imports(3 if quick else 40)
    calls = _calls(3 if quick else 25)
    return _report(imports, calls)


def _imports(rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in _IMPORTS}
    for number_ in range(rounds + 1):
        for name in _IMPORTS if number_ % 2 else reversed(_IMPORTS):
            command = [sys.executable, "-c", _IMPORT.format(name)]
            answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
            if number_:  # the first round fills the page cache and writes .pyc files
                found[name].append(float(answer))
    return found


def _calls(rounds: int) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in (_NATIVE, _MESH, _CACHED)}
    with (
        tempfile.TemporaryDirectory(prefix="meshsdk-bench-") as cache,
        worker("control_plane") as plane,
        worker("control_plane") as doomed,
        worker("backend") as backend,
    ):
        port, dead = plane.answer()["port"], doomed.answer()["port"]
        addresses = [("127.0.0.1", one) for one in backend.answer()["ports"]]
        variants = {
            _NATIVE: ("native", bootstrap(port, "native")),
            _MESH: ("mesh", bootstrap(port, "mesh")),
            _CACHED: ("mesh", bootstrap(dead, "cached", cache_dir=cache)),
        }
        _publish(plane, "native", addresses, "round_robin")
        _publish(plane, "mesh", addresses, "least_request")
        _publish(doomed, "cached", addresses, "least_request")
        _call(*variants[_CACHED], _KEEP)
        doomed.stop()
        for number_ in range(rounds + 1):
            for name in sorted(variants, reverse=bool(number_ % 2)):
                one = _call(*variants[name])
                if number_:
                    found[name].append(one)
    return found


def _publish(plane: Child, node: str, addresses: list[tuple[str, int]], policy: str) -> None:
    resources: dict[str, Any] = {"proxy": False, "policy": policy, "addresses": addresses, "full": True}
    plane.ask(do="publish", node=node, resources=resources)


def _call(kind: str, config: dict[str, Any], *keep: str) -> dict[str, float]:
    with worker("first_call", kind, *keep, env={"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(config)}) as child:
        answer: dict[str, float] = child.answer()
    return {**answer, "total": answer["import"] + answer["call"]}


def _report(imports: dict[str, list[float]], calls: dict[str, list[dict[str, float]]]) -> Report:
    rows = [(f"import {name}", *_milliseconds(values)) for name, values in imports.items()]
    for name, answers in calls.items():
        for part, words in (("total", "import and first call"), ("call", "first call alone")):
            rows.append((f"{words}: {name}", *_milliseconds([one[part] for one in answers])))
    checks = [ratio_check("import meshsdk / import grpc", ratios(imports["meshsdk"], imports["grpc"]), 1.5)]
    for name in (_MESH, _CACHED):
        checks.append(_against_native(name, "total", "import and first call", calls))
        checks.append(_against_native(name, "call", "first call alone", calls))
    notes = (
        (
            f"{len(calls[_MESH])} rounds of fresh processes; the interpreter's own start is not in it. All import a "
            "service's generated stubs, so protobuf's runtime is in each. Control plane and backend are warm; 20 "
            "routes, two endpoints; ours has least_request, native round_robin."
        ),
        (
            "From disk: the copy that an earlier process saved; nothing listens where the bootstrap points. Native has "
            "no such copy and fails there, so both compare with native and a live control plane."
        ),
    )
    plot = Plot("B7: start", "ratio (black: limit)", "", bars=checks)
    table = Table("From a fresh interpreter", ("what", "median", "quartiles"), rows)
    return Report("B7", "start", (table,), checks, notes, plot, {"imports": imports, "calls": calls})


def _milliseconds(values: list[float]) -> tuple[str, str]:
    quarters = statistics.quantiles(values, n=4)
    return number(statistics.median(values) * 1000, "ms"), f"{quarters[0] * 1000:.4g}..{quarters[2] * 1000:.4g}"


def _against_native(name: str, part: str, words: str, calls: dict[str, list[dict[str, float]]]) -> Check:
    found = ratios([one[part] for one in calls[name]], [one[part] for one in calls[_NATIVE]])
    return ratio_check(f"{words}: {name} / native", found, 1.2)
