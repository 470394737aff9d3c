"""The rollout of one ShimSet: a pure state machine. Time and what the shims report go in, what each is told comes out.

| A shim is  | when                                                                     | it is told           |
|------------|--------------------------------------------------------------------------|----------------------|
| OLD        | it runs another version and was not asked to change                      | nothing              |
| MOVING     | it was asked (its report says so, or it was picked here)                 | the new version      |
| UPDATED    | it runs the new version                                                  | the new version      |
| FAILED     | it went back, took too long, vanished on its way, or does not stay up    | see `_told`          |

A step picks OLD ones while partition, maxUnavailable and pause let it. More failures than allowed stop the rollout for
good, until the spec changes; with rollback UPDATED and MOVING ones are then told the older version.

Nearly all of it follows from the newest reports alone, so that a control plane that was restarted, or another replica
of it, comes to the same; picking the same shims twice is no harm. What only memory holds (`Memory`): since when a shim
has been on its way, that one vanished or took too long, and that a rollout was stopped though all who failed are gone.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from controlplane.model.shims import Order, ShimSet
from controlplane.rollout.report import ShimReport
from meshsdk.model.xxh64 import xxh64

GONE = 10.0  # seconds without a shim that was on its way until it counts as failed: re-registering takes less
_PERCENT = 100


class Stage(enum.Enum):
    """Where a shim is on its way to the new version."""

    OLD = "old"
    MOVING = "moving"
    UPDATED = "updated"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Memory:
    """What a rollout has to remember. Times in seconds of the caller's clock, by id of the shim.

    `moving`: since when a shim is on its way, until it is ready. `heard`: those of them whose reports said so.
    `missing`: since when one of those is gone. `failed`: why one failed whose report does not say so. `leaving`: those
    that said that they would go. `previous`: the version that most had. `stopped`: why it was, "" for it was not.
    """

    spec: ShimSet
    moving: Mapping[str, float] = field(default_factory=dict)
    heard: frozenset[str] = frozenset()
    missing: Mapping[str, float] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    leaving: frozenset[str] = frozenset()
    previous: str = ""
    stopped: str = ""

    @property
    def back(self) -> bool:
        """Whether those that were asked are taken back."""
        return bool(self.stopped) and self.spec.rollback

    def under(self, spec: ShimSet) -> Memory:
        """Returns what still counts under a spec: a changed one lets a stopped rollout go on, a new version anew."""
        if spec == self.spec:
            return self
        if spec.version == self.spec.version:
            return replace(self, spec=spec, stopped="")
        return Memory(spec, previous=self.previous if self.previous != spec.version else self.spec.version)


@dataclass(frozen=True, slots=True)
class Standing:
    """How the shims stand after a step: `stages` by id, of those there are; `failures`: why, also of those gone."""

    stages: Mapping[str, Stage]
    failures: Mapping[str, str]
    picked: frozenset[str] = frozenset()

    def count(self, stage: Stage) -> int:
        """Returns how many there are in a stage."""
        return sum(each is stage for each in self.stages.values())


@dataclass(frozen=True, slots=True)
class Step:
    """What a step comes to. `orders`: what each shim is told, by id. `deadline`: when to step at the latest."""

    memory: Memory
    standing: Standing
    orders: Mapping[str, Order]
    deadline: float | None


def step(memory: Memory, spec: ShimSet, reports: Iterable[ShimReport], now: float, *, picks: bool = True) -> Step:
    """Returns what the shims of a set are told now, and what to remember.

    Args:
        memory: as the last step left it; `Memory(spec)` at first.
        spec: what is wanted now.
        reports: all shims of the set.
        now: seconds.
        picks: whether further shims may be asked; not while it is not known yet which shims there are.
    """
    shims = {report.id: report for report in reports}
    known = _observed(memory.under(spec), shims, now)
    stages = {key: _stage(report, known) for key, report in shims.items()}
    failures = {key: _why(shims.get(key), known) for key, stage in stages.items() if stage is Stage.FAILED}
    failures |= {key: why for key, why in known.failed.items() if key not in shims}
    standing = Standing(stages, failures)
    known = replace(known, stopped=known.stopped or _excess(spec, standing))
    picked = _picked(spec, shims, standing, len(known.missing)) if picks and not (spec.paused or known.stopped) else ()
    moving = {**known.moving, **{key: now for key in picked if key not in known.moving}}
    known = replace(known, moving=moving)
    standing = Standing({**stages, **dict.fromkeys(picked, Stage.MOVING)}, failures, frozenset(picked))
    orders = {
        key: Order(_told(report, standing.stages[key], known), spec.name, spec.generation)
        for key, report in shims.items()
    }
    waits = [since + spec.timeout for key, since in moving.items() if key in shims]
    waits += [since + GONE for since in known.missing.values()]
    return Step(known, standing, orders, min(waits, default=None))


# -- what is observed -------------------------------------------------------------------------------------------------


def _observed(memory: Memory, shims: Mapping[str, ShimReport], now: float) -> Memory:
    """Returns the memory brought up to the newest reports."""
    spec = memory.spec
    failed = {key: why for key, why in memory.failed.items() if not _settled(shims.get(key), spec.version)}
    failed |= {key: _in_vain(report) for key, report in shims.items() if report.failing(spec.version)}
    moving = {key: since for key, since in memory.moving.items() if key in shims and not shims[key].leaving}
    for key, report in shims.items():
        if _settled(report, spec.version) or report.refused(spec.version) or key in failed:
            moving.pop(key, None)
        elif report.wanted == spec.version and report.version != spec.version and not report.leaving:
            moving.setdefault(key, now)
    for key in [key for key in (*moving, *memory.missing) if key in shims and _forgot(shims[key], memory)]:
        moving.pop(key, None)
        if not memory.back:
            failed[key] = f"was started anew on its way to {spec.version}"
    for key, since in list(moving.items()):
        if since + spec.timeout <= now:
            del moving[key]
            failed[key] = _overdue(shims[key], spec)
    missing = {key: memory.missing.get(key, now) for key in _lost(memory, shims)}
    for key, since in list(missing.items()):
        if since + GONE <= now:
            del missing[key]
            failed[key] = f"vanished on its way to {spec.version}"
    heard = {key for key, report in shims.items() if key in moving and report.wanted == spec.version}
    counted = Counter(each.version for each in shims.values() if each.version not in {"", spec.version})
    most = min(counted, key=lambda version: (-counted[version], version), default=memory.previous)
    leaving = frozenset(key for key, report in shims.items() if report.leaving)
    return Memory(
        spec, moving, frozenset(heard | (memory.heard & missing.keys())), missing, failed, leaving, most, memory.stopped
    )


def _forgot(report: ShimReport, memory: Memory) -> bool:
    """Tells whether a shim wants no longer what it was told: it is a new process, or it is taken back."""
    version = memory.spec.version
    return version not in {report.wanted, report.version} and (memory.back or report.id in memory.heard)


def _lost(memory: Memory, shims: Mapping[str, ShimReport]) -> Iterable[str]:
    """Yields those that were on their way and are not there; one that said it was leaving has gone on purpose."""
    return (key for key in {*memory.moving, *memory.missing} if key not in shims and key not in memory.leaving)


def _settled(report: ShimReport | None, version: str) -> bool:
    return report is not None and report.version == version and report.ready


def _in_vain(report: ShimReport) -> str:
    return f"{report.version} does not stay up: {report.problem}"


def _overdue(report: ShimReport, spec: ShimSet) -> str:
    if report.version == spec.version:
        return f"runs {spec.version} and was not ready within {spec.timeout:g} s"
    return f"did not get to {spec.version} within {spec.timeout:g} s"


def _stage(report: ShimReport, memory: Memory) -> Stage:
    version = memory.spec.version
    if report.id in memory.failed or report.refused(version):
        return Stage.FAILED
    if report.version == version:
        return Stage.UPDATED
    return Stage.MOVING if report.id in memory.moving else Stage.OLD


def _why(report: ShimReport | None, memory: Memory) -> str:
    if report is not None and report.refused(memory.spec.version):
        return report.problem or f"went back to {report.version}"
    return memory.failed[report.id] if report is not None else ""


# -- what is decided --------------------------------------------------------------------------------------------------


def _excess(spec: ShimSet, standing: Standing) -> str:
    """Returns why the rollout is to stop, "" if it may go on."""
    failed = len(standing.failures)
    tried = failed + standing.count(Stage.UPDATED)
    if failed * _PERCENT <= spec.max_failures * tried:
        return ""
    key = min(standing.failures)
    return f"{failed} of {tried} tried failed, {spec.max_failures:g}% may: {key}: {standing.failures[key]}"


def _picked(spec: ShimSet, shims: Mapping[str, ShimReport], standing: Standing, missing: int) -> list[str]:
    """Returns the shims that are asked next, in an order that is the same everywhere and follows no name or zone."""
    total = len(shims)
    begun = total - standing.count(Stage.OLD)
    away = missing + sum(not report.ready or standing.stages[key] is Stage.MOVING for key, report in shims.items())
    room = min(
        total - spec.partition.of(total, up=True) - begun,
        max(1, spec.max_unavailable.of(total, up=False)) - away,
    )
    if room <= 0:
        return []
    able = [key for key, stage in standing.stages.items() if stage is Stage.OLD and shims[key].ready]
    return sorted(able, key=lambda key: (xxh64(f"{spec.name}/{key}".encode()), key))[:room]


def _told(report: ShimReport, stage: Stage, memory: Memory) -> str:
    """Returns the version that a shim is told; "" for whatever it runs.

    One that went back is told the version that it refused on and on: its report, the only trace of the failure that
    outlives a control plane, says so as long as it is not told another.
    """
    version = memory.spec.version
    if stage is Stage.OLD:
        return ""
    if report.refused(version):
        return version
    if report.version == version:
        return (memory.previous or version) if memory.back else version
    return report.version if memory.back or stage is Stage.FAILED else version
