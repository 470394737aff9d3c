"""What an endpoint reports of its load, and the weight that follows from it (gRFC A58). Pure.

Reports come with answers (`endpoint-load-metrics-bin`) or when asked for (`OpenRcaService`); the channel layer decodes
them and keeps the latest `LoadWeight` in `Backend.load`, which `weighted_round_robin` reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from meshsdk.model.policy import WeightedRoundRobin

_NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class LoadReport:
    """xds.data.orca.v3.OrcaLoadReport. 0.0 stands for "not told".

    `cpu`, `application`, `memory`: utilization, 0-1; the first two may exceed 1. `qps`, `eps`: requests and errors a
    second. `utilization`: of further resources, 0-1. `costs`: of one request. `named`: the application's own metrics.
    """

    cpu: float = 0.0
    application: float = 0.0
    memory: float = 0.0
    qps: float = 0.0
    eps: float = 0.0
    utilization: Mapping[str, float] = field(default_factory=lambda: _NOTHING, hash=False)
    costs: Mapping[str, float] = field(default_factory=lambda: _NOTHING, hash=False)
    named: Mapping[str, float] = field(default_factory=lambda: _NOTHING, hash=False)


@dataclass(frozen=True, slots=True)
class LoadWeight:
    """A weight (> 0) told at `updated` by an endpoint that has told weights, without a gap, since `since`.

    Both in seconds of the clock that is handed in.
    """

    weight: float
    updated: float
    since: float


def weighed(report: LoadReport, before: LoadWeight | None, policy: WeightedRoundRobin, now: float) -> LoadWeight | None:
    """Returns the weight after a report: qps / (utilization + eps / qps * penalty).

    The application's own utilization counts before the CPU's. A report that says too little leaves what was `before`.
    """
    used = report.application if report.application > 0 else report.cpu
    if report.qps <= 0 or used <= 0:
        return before
    weight = report.qps / (used + max(report.eps, 0.0) / report.qps * policy.error_penalty)
    kept = before is not None and now - before.updated < policy.expiration
    return LoadWeight(weight, now, before.since if before is not None and kept else now)


def usable(load: LoadWeight | None, policy: WeightedRoundRobin, now: float) -> float:
    """Returns the weight if it is neither too new (`blackout`) nor too old (`expiration`), else 0.0."""
    if load is None or now - load.updated >= policy.expiration or now - load.since < policy.blackout:
        return 0.0
    return load.weight
