"""Where a call goes, or why it cannot go on now. Values of the request path (`stack`); no behaviour beyond waiting."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshsdk.channel.balancer import ClusterBalancer
    from meshsdk.channel.plan import CallPlan
    from meshsdk.model.resources import Forward
    from meshsdk.routing.compiled_route import CompiledRoute

Metadata = Sequence[tuple[str, str | bytes]]


class HoldKind(enum.Enum):
    """Why a call cannot go on now, and so what it may do about it."""

    UNCONFIGURED = enum.auto()  # no configuration yet: every call waits
    CONNECTING = enum.auto()  # endpoints are being connected to: every call waits
    UNRESOLVED = enum.auto()  # no configuration to be had: only calls that wait for ready wait
    FAILING = enum.auto()  # nothing usable: only calls that wait for ready wait
    REFUSED = enum.auto()  # the configuration itself says no: no call waits
    CLOSED = enum.auto()  # the channel was closed: no call waits
    PLANNED = enum.auto()  # the call's lane has a plan: it goes on by `Passage`


@dataclass(frozen=True, slots=True)
class Hold:
    """A call that has no backend: why, in words for the status details. `lane`: where a PLANNED call goes."""

    kind: HoldKind
    problem: str
    lane: Lane | None = None

    def waits(self, wait_for_ready: bool | None) -> bool:
        """Tells whether a call stays for the next change."""
        if self.kind in (HoldKind.FAILING, HoldKind.UNRESOLVED):
            return bool(wait_for_ready)
        return self.kind in (HoldKind.UNCONFIGURED, HoldKind.CONNECTING)


UNCONFIGURED = Hold(HoldKind.UNCONFIGURED, "")


@dataclass(frozen=True, slots=True)
class Lane:
    """Where a call goes once its route and cluster are known. `plan`: None for calls of the fast path."""

    route: CompiledRoute
    forward: Forward
    balancer: ClusterBalancer
    cluster: str = ""
    plan: CallPlan | None = None
