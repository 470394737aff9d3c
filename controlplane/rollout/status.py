"""How a ShimSet fares, in counts and in words, for `meshctl get shimset` and metrics. Pure; made by `controller`."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.model.shims import ShimSet
from controlplane.rollout.report import ShimReport
from controlplane.rollout.shim_rollout import Stage, Step

_FEW = 3  # shims that a message names
_MANY = 100  # failures that a status lists


class SetPhase(enum.Enum):
    """What a rollout is doing."""

    WAITING = "Waiting"  # there is no shim yet, or it is not known yet which there are
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    PARTITIONED = "Partitioned"  # all are upgraded but those that `partition` holds back
    COMPLETE = "Complete"
    STOPPED = "Stopped"  # too many failed
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"

    @property
    def is_stop(self) -> bool:
        """Whether nothing goes on until the ShimSet is changed."""
        return self in {SetPhase.STOPPED, SetPhase.ROLLING_BACK, SetPhase.ROLLED_BACK}


@dataclass(frozen=True, slots=True)
class ShimSetStatus:
    """`updated`: shims that run `version`; `ready`: those that work, whatever they run; `failed`: that tried in vain.

    `previous`: the version that they had, "" if it is not known. `failures`: why, by shim, as far as they are listed.
    """

    version: str
    generation: int
    shims: int
    updated: int
    ready: int
    failed: int
    phase: SetPhase
    message: str = ""
    previous: str = ""
    failures: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Returns it in one line."""
        counts = f"{self.updated} of {self.shims} run {self.version}, {self.ready} ready, {self.failed} failed"
        return f"{self.phase.value}: {counts}{f': {self.message}' if self.message else ''}"

    def as_json(self) -> dict[str, object]:
        """Returns JSON-like values, as `meshctl get shimset -o yaml` shows them."""
        return {
            "phase": self.phase.value,
            "message": self.message,
            "version": self.version,
            "previousVersion": self.previous,
            "generation": self.generation,
            "shims": self.shims,
            "updated": self.updated,
            "ready": self.ready,
            "failed": self.failed,
            "failures": [{"shim": shim, "why": why} for shim, why in self.failures],
        }


def status(spec: ShimSet, shims: Sequence[ShimReport], made: Step, *, elsewhere: int, waits: bool) -> ShimSetStatus:
    """Returns the status after a step. `elsewhere`: how many it selects that belong to another set."""
    updated = sum(report.version == spec.version for report in shims)
    phase, message = _progress(spec, shims, made, updated, waits=waits)
    if elsewhere:
        left = f"{elsewhere} shims are left to a ShimSet that names more labels, or comes first by name"
        message = f"{message}; {left}" if message else left
    return ShimSetStatus(
        version=spec.version,
        generation=spec.generation,
        shims=len(shims),
        updated=updated,
        ready=sum(report.ready for report in shims),
        failed=len(made.standing.failures),
        phase=phase,
        message=message,
        previous=made.memory.previous,
        failures=tuple(sorted(made.standing.failures.items())[:_MANY]),
    )


def _progress(
    spec: ShimSet, shims: Sequence[ShimReport], made: Step, updated: int, *, waits: bool
) -> tuple[SetPhase, str]:
    if made.memory.stopped:
        return _stopped(spec, shims, made, updated)
    if not shims:
        return SetPhase.WAITING, "no shim carries the labels of the selector"
    old, moving = made.standing.count(Stage.OLD), _names(made, Stage.MOVING)
    if not old and not moving:
        left = len(made.standing.failures)
        return SetPhase.COMPLETE, f"{left} failed, which is allowed" if left else ""
    if waits:
        return SetPhase.WAITING, "the control plane has just started: shims may not have registered again yet"
    on_its_way = f"on the way: {_listed(moving)}" if moving else ""
    if spec.paused:
        return SetPhase.PAUSED, on_its_way or f"{old} stay as they are while it is paused"
    held = spec.partition.of(len(shims), up=True)
    if not moving and old <= held:
        return SetPhase.PARTITIONED, f"{old} stay as they are (partition)"
    unready = sorted(report.id for report in shims if not report.ready and report.id not in moving)
    if not on_its_way:
        return SetPhase.PROGRESSING, f"held up by shims that are not ready: {_listed(unready)}"
    return SetPhase.PROGRESSING, on_its_way


def _stopped(spec: ShimSet, shims: Sequence[ShimReport], made: Step, updated: int) -> tuple[SetPhase, str]:
    why = made.memory.stopped
    if not spec.rollback:
        return SetPhase.STOPPED, why
    if updated and not made.memory.previous:
        return SetPhase.STOPPED, f"{why}; not rolled back, no older version is known"
    busy = any(not report.ready for report in shims if made.orders[report.id].version not in {"", spec.version})
    going_back = updated or made.standing.count(Stage.MOVING) or busy
    return (SetPhase.ROLLING_BACK if going_back else SetPhase.ROLLED_BACK), why


def _names(made: Step, stage: Stage) -> list[str]:
    return sorted(key for key, each in made.standing.stages.items() if each is stage)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more
