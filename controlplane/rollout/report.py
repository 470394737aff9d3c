"""What a shim says of itself: the instance of `meshsdk.shim` that it registers, as a value. Pure.

The labels are the contract with `meshsdk.shim`, which sets them: docs/rollout.md.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from meshsdk.model.instance import Instance, InstanceState

APP, VERSION, WANTED, PHASE, PROBLEM = (
    f"meshsdk.io/{name}" for name in ("app", "version", "wanted", "phase", "problem")
)
_LONGEST_PROBLEM = 200  # characters


class Phase(enum.Enum):
    """What a shim is doing about its data plane."""

    RUNNING = "running"
    UPGRADING = "upgrading"
    FAILING = "failing"  # its data plane ends soon after each start
    ROLLED_BACK = "rolled-back"  # it tried `wanted`, which did not become healthy, and runs the old version again


@dataclass(frozen=True, slots=True)
class ShimReport:
    """One shim as it registered last. `version`: the one it runs; `wanted`: the last one that it was told.

    `online`: its instance gets calls. `leaving`: it is DRAINING or OFFLINE, so it may go at any time.
    """

    id: str
    version: str
    wanted: str = ""
    phase: Phase = Phase.RUNNING
    problem: str = ""
    online: bool = True
    leaving: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether it does its work and is not busy with itself."""
        return self.online and bool(self.version) and self.phase not in {Phase.UPGRADING, Phase.FAILING}

    def failing(self, version: str) -> bool:
        """Tells whether it runs this version in vain; one that is leaving is no witness."""
        return self.phase is Phase.FAILING and self.version == version and not self.leaving

    def refused(self, version: str) -> bool:
        """Tells whether it tried this version and went back."""
        return self.phase is Phase.ROLLED_BACK and self.wanted == version and self.version != version


def report_of(instance: Instance) -> ShimReport:
    """Returns what an instance of `meshsdk.shim` says. A phase of some later release counts as running."""
    labels = instance.labels
    phase = labels.get(PHASE, "")
    known = {each.value: each for each in Phase}
    own = {"app": labels[APP], **labels} if APP in labels else labels
    return ShimReport(
        id=instance.id,
        version=labels.get(VERSION, ""),
        wanted=labels.get(WANTED, ""),
        phase=known.get(phase, Phase.RUNNING),
        problem=labels.get(PROBLEM, "")[:_LONGEST_PROBLEM],
        online=instance.state is InstanceState.ONLINE,
        leaving=instance.state in {InstanceState.DRAINING, InstanceState.OFFLINE},
        labels=own,
    )
