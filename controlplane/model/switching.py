"""What TrafficSwitch says: for which nodes the mesh's interception is on or off. Values and one pure decision.

`selected` says which nodes a switch is for; `turns` what all of them come to for one node. Used by `steering`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controlplane.model.identity import Origin, ResourceId
from meshsdk.model.xxh64 import xxh64

EVERY_APP = "*"
_SHARES = 10_000  # of all nodes: a percentage is cut to two digits


@dataclass(frozen=True, slots=True)
class Turns:
    """Whether calls out of a process (`client`) and into it (`server`) go through the mesh.

    `decided`: those of the two on which some switch has a word; the others are on because nothing says otherwise.
    """

    client: bool = True
    server: bool = True
    decided: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrafficSwitch:
    """`meshsdk.io/v1alpha1` TrafficSwitch.

    It is for the nodes of `app` (`*`: of all) that are among `instances`, if there are any, and carry all `labels`;
    of these for `percentage` (0-100; None: all). `client`, `server`: on, off, or None for not decided here.
    """

    id: ResourceId
    app: str
    instances: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    percentage: float | None = None
    client: bool | None = None
    server: bool | None = None
    origin: Origin = field(default=Origin("", 0), compare=False)

    @property
    def rank(self) -> tuple[bool, int, bool]:
        """How specific it is: named nodes before labels (more before fewer) before an application before all."""
        return bool(self.instances), len(self.labels), self.app != EVERY_APP

    def selects(self, node: str, app: str, labels: Mapping[str, str]) -> bool:
        """Tells whether a node is among those it is for."""
        if self.app not in {EVERY_APP, app} or (self.instances and node not in self.instances):
            return False
        return self.labels.items() <= labels.items() and self._has_share(node)

    def _has_share(self, node: str) -> bool:
        """Tells by a stable hash, so that a larger percentage keeps those that a smaller one had.

        The name goes in: two switches for a tenth each are not for the same tenth.
        """
        if self.percentage is None:
            return True
        hashed = xxh64(f"{self.id.namespace}/{self.id.name}/{node}".encode())
        return hashed % _SHARES < round(self.percentage * _SHARES / 100)

    def meets(self, other: TrafficSwitch) -> bool:
        """Tells whether both may decide the same thing for one node, neither of them being the more specific."""
        both = (self.client is not None and other.client is not None) or (
            self.server is not None and other.server is not None
        )
        if not both or self.rank != other.rank or self.app != other.app:
            return False
        if self.instances and self.instances.isdisjoint(other.instances):
            return False
        return all(other.labels.get(name, value) == value for name, value in self.labels.items())


def turns(switches: Iterable[TrafficSwitch], node: str, app: str, labels: Mapping[str, str]) -> Turns:
    """Returns what holds for a node: for each side the most specific switch that decides it; on without any."""
    words: dict[str, bool] = {}
    ranked = sorted((each for each in switches if each.selects(node, app, labels)), key=lambda each: each.rank)
    for each in ranked:  # the last one, the most specific, has the last word
        said = {"client": each.client, "server": each.server}
        words |= {side: on for side, on in said.items() if on is not None}
    return Turns(words.get("client", True), words.get("server", True), tuple(sorted(words)))
