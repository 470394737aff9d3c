"""What ShimSet says: which version of the data plane shims run, and how they get there. Values only.

`controlplane.rollout` decides by them which shim is to run what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.model.identity import Origin, ResourceId
from meshsdk.model.xxh64 import xxh64

SHIM_APP = "meshsdk.shim"  # the application as which every shim registers itself
_GENERATIONS = 2**31


@dataclass(frozen=True, slots=True)
class Order:
    """What a shim is told. `version`: of its data plane; "" to leave it as it is. `generation`: see `ShimSet`."""

    version: str = ""
    shim_set: str = ""
    generation: int = 0


NO_ORDER = Order()


@dataclass(frozen=True, slots=True)
class Share:
    """So many shims: a `number` of them, or `percent` of all. Exactly one of the two is given."""

    number: int | None = None
    percent: float | None = None

    def of(self, total: int, *, up: bool) -> int:
        """Returns how many of `total` that is, a part of one rounded `up` or down."""
        if self.percent is None:
            return min(total, self.number or 0)
        hundredths = round(self.percent * 100) * total
        return min(total, (hundredths + (9_999 if up else 0)) // 10_000)


@dataclass(frozen=True, slots=True)
class ShimSet:
    """`meshsdk.io/v1alpha1` ShimSet.

    `partition`: so many stay as they are. `max_unavailable`: so many may be on their way or not ready at a time.
    `paused`: no further one begins. `max_failures`: percent (0-100) of the shims tried; with more, the rollout stops,
    and with `rollback` those upgraded are taken back. `timeout`: seconds after which a shim that did not get to its
    version counts as failed.
    """

    id: ResourceId
    selector: Mapping[str, str]
    version: str
    partition: Share = Share(number=0)
    max_unavailable: Share = Share(number=1)
    paused: bool = False
    max_failures: float = 10.0
    rollback: bool = True
    timeout: float = 300.0
    origin: Origin = field(default=Origin("", 0), compare=False)

    @property
    def name(self) -> str:
        """Its name as shims are told it."""
        return self.id.name if self.id.namespace == "default" else f"{self.id.namespace}/{self.id.name}"

    @property
    def generation(self) -> int:
        """A number that changes with the version, the same on every replica of the control plane."""
        return xxh64(f"{self.name}\n{self.version}".encode()) % _GENERATIONS
