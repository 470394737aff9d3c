"""An application instance as a service registry knows it (design.md section 3, "Instances in a registry")."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


class InstanceState(enum.Enum):
    """STARTING and OFFLINE get no calls; DRAINING gets no new ones; ONLINE gets calls."""

    STARTING = "STARTING"
    ONLINE = "ONLINE"
    DRAINING = "DRAINING"
    OFFLINE = "OFFLINE"


def _nothing() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Instance:
    """Registered once per application. `(app, id)` is its identity; `address` is `host:port` as peers dial it.

    `started_at`: unix seconds. `revision`: hash of what the instance serves, "" if it published nothing.
    """

    app: str
    id: str
    address: str
    revision: str = ""
    unit: str = ""
    region: str = ""
    zone: str = ""
    weight: int = 1
    labels: Mapping[str, str] = field(default_factory=_nothing)
    state: InstanceState = InstanceState.ONLINE
    started_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Increment:
    """One change seen by a watcher: instances added or replaced, and ids removed.

    `reset`: the instances in `put` are all there are (first message, or after the watcher lost its place).
    """

    app: str
    put: tuple[Instance, ...] = ()
    removed: tuple[str, ...] = ()
    reset: bool = False


@dataclass(frozen=True, slots=True)
class MethodInfo:
    """One served method: full name `/pkg.Service/Method` and the options of `@meshsdk.rpc` (JSON values)."""

    name: str
    options: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Revision:
    """What instances with this revision serve; stored once per (app, revision)."""

    app: str
    revision: str
    methods: tuple[MethodInfo, ...] = ()
