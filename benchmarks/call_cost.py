"""B1: what a call costs through the mesh, beside a plain channel, native `xds:///` and Envoy.

One process holds a channel of each kind and calls over them in short rounds that take turns, all to the same backend.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.children import Child, worker
from benchmarks.clients import bootstrap
from benchmarks.envoy import Envoy, client_side, server_side
from benchmarks.report import Check, Plot, Report, Table, number, ratio_check
from benchmarks.spread import ratios, spread

_PLAIN, _NATIVE, _MESH, _ENVOY, _ENVOYS = "plain", "native", "mesh", "envoy", "envoy x2"
_WORDS = {
    _PLAIN: "plain grpcio channel",
    _NATIVE: "native xds:///",
    _MESH: "meshsdk",
    _ENVOY: "client-side Envoy",
    _ENVOYS: "Envoy on both sides",
}


@dataclass(frozen=True, slots=True)
class _Case:
    """One way of calling. `calls`: of each variant (and each of `in_flight`) in a round."""

    api: str
    shape: str
    in_flight: int
    calls: int
    rounds: int

    def __str__(self) -> str:
        what = "1,000-message stream" if self.shape == "stream" else f"unary x{self.in_flight}"
        return f"{self.api} {what}"


_CASES = (
    _Case("sync", "unary", 1, 60, 160),
    _Case("sync", "unary", 64, 5, 50),
    _Case("sync", "stream", 1, 1, 60),
    _Case("asyncio", "unary", 1, 60, 160),
    _Case("asyncio", "unary", 64, 5, 50),
    _Case("asyncio", "stream", 1, 1, 60),
)

_Found = dict[_Case, dict[str, list[dict[str, float]]]]


def run(*, quick: bool) -> Report:
    """Measures every case."""
    found: _Found = {}
    with _channels() as (control_plane, targets):
        for api, module in (("sync", "sync_calls"), ("asyncio", "aio_calls")):
            env = {
                "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap(control_plane, "native")),
                "MESH_BOOTSTRAP": json.dumps(bootstrap(control_plane, "mesh")),
                "MESHSDK_METRICS_PORT": "0",  # metrics are on, at a Prometheus endpoint on any port
            }
            with worker(module, env=env) as calls:
                calls.ask(channels=targets)
                for case in _CASES:
                    if case.api == api:
                        found[case] = _measure(calls, case, quick=quick)
    return _report(found)


def _measure(calls: Child, case: _Case, *, quick: bool) -> dict[str, list[dict[str, float]]]:
    rounds = max(case.rounds // 20, 3) if quick else case.rounds
    return calls.ask(shape=case.shape, in_flight=case.in_flight, calls=case.calls, rounds=rounds, patience=300.0)


@contextmanager
def _channels() -> Iterator[tuple[int, dict[str, str]]]:
    """Runs backend, control plane and Envoys; gives the control plane's port and the target of each variant."""
    with worker("backend") as backend, worker("control_plane") as plane:
        ports = backend.answer()["ports"]
        control_plane = plane.answer()["port"]
        with Envoy(server_side(ports)) as near:
            behind = near.ports(2)
            for node, policy, to in (
                (_NATIVE, "round_robin", ports),
                (_MESH, "least_request", ports),
                (_ENVOY, "least_request", ports),
                (_ENVOYS, "least_request", behind),
            ):
                resources: dict[str, Any] = {
                    "proxy": node in (_ENVOY, _ENVOYS),
                    "policy": policy,
                    "addresses": [("127.0.0.1", port) for port in to],
                    "full": True,
                }
                plane.ask(do="publish", node=node, resources=resources)
            with (
                Envoy(client_side(_ENVOY, control_plane, delta=False)) as one,
                Envoy(client_side(_ENVOYS, control_plane, delta=False)) as two,
            ):
                yield (
                    control_plane,
                    {
                        _PLAIN: "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports),
                        _NATIVE: "xds:///orders",
                        _MESH: "xds:///orders",
                        _ENVOY: f"127.0.0.1:{one.ports()[0]}",
                        _ENVOYS: f"127.0.0.1:{two.ports()[0]}",
                    },
                )


def _report(found: _Found) -> Report:
    rows = [_row(case, name, rounds) for case, rounds in found.items() for name in _WORDS]
    columns = ("case: channel", "p50", "calls a second", "meshsdk/this p50", "95 % interval")
    checks = [check for case, rounds in found.items() for check in _checks(case, rounds)]
    notes = (
        (
            "One backend process (grpc.aio) on two ports; plain has both under round_robin. A call carries one header. "
            "meshsdk, native and both Envoys get the same 20 routes (19 on a header, then the catch-all), retry policy "
            "and outlier detection; meshsdk and Envoy LEAST_REQUEST, native ROUND_ROBIN (it refuses LEAST_REQUEST)."
        ),
        "meshsdk ejects outliers and counts every call for its metrics (gRFC A66), which nobody reads during the run.",
        (
            "Ratios: per round, of variants that ran side by side; their median with a bootstrap interval. x64: 64 "
            "threads or tasks, each with one call at a time: the Python client is then the bottleneck, and an Envoy's "
            "latency hides behind it. Envoys have one worker thread each; all processes share the cores."
        ),
    )
    plot = Plot("B1: call cost, meshsdk against", "ratio (black: limit)", "", bars=checks)
    data = {str(case): rounds for case, rounds in found.items()}
    return Report("B1", "call cost", (Table("Calls", columns, rows),), checks, notes, plot, data)


def _row(case: _Case, name: str, rounds: dict[str, list[dict[str, float]]]) -> tuple[str, ...]:
    p50 = spread([one["p50"] for one in rounds[name]]).median
    rate = spread([one["rate"] for one in rounds[name]]).median
    against = _ratios(rounds, name, "p50")
    unit = ("us", 1e6) if case.shape == "unary" else ("ms", 1e3)
    return (
        f"{case}: {_WORDS[name]}",
        number(p50 * unit[1], unit[0]),
        number(rate),
        f"{against.median:.3f}x",
        f"{against.low:.3f}..{against.high:.3f}",
    )


def _ratios(rounds: dict[str, list[dict[str, float]]], against: str, figure: str) -> Any:
    return ratios([one[figure] for one in rounds[_MESH]], [one[figure] for one in rounds[against]])


def _checks(case: _Case, rounds: dict[str, list[dict[str, float]]]) -> list[Check]:
    if case.shape == "stream":
        return [
            ratio_check(f"{case}: time / plain", _ratios(rounds, _PLAIN, "p50"), 1.02),
        ]
    return [
        ratio_check(f"{case}: p50 / plain", _ratios(rounds, _PLAIN, "p50"), 1.03),
        ratio_check(f"{case}: p50 / native", _ratios(rounds, _NATIVE, "p50"), 1.02),
        ratio_check(f"{case}: p50 / one Envoy", _ratios(rounds, _ENVOY, "p50"), 0.75),
        ratio_check(f"{case}: throughput / plain", _ratios(rounds, _PLAIN, "rate"), 0.97, at_most=False),
    ]
