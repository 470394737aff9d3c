"""What RateLimit says: how often what may happen, counted over all who ask. Values only.

Read by `controlplane.config.rate_limits`, decided by `controlplane.ratelimit`. None of it becomes xDS.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from controlplane.model.identity import Origin, ResourceId


class Unit(enum.Enum):
    """How long a window is: seconds. Windows begin at whole multiples since 1970, the same for every replica."""

    SECOND = 1
    MINUTE = 60
    HOUR = 3_600
    DAY = 86_400


@dataclass(frozen=True, slots=True)
class Limit:
    """So many `requests` in each window of `unit`. `name`: the descriptor's path, in messages and figures.

    `unlimited`: never over, and not counted. `shadow`: counted and told, never refused.
    """

    requests: int
    unit: Unit
    name: str = ""
    unlimited: bool = False
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class LimitDescriptor:
    """One entry of descriptors as they are asked about: `key` with `value`, "" for any value, each of which counts.

    `limit`: of descriptors that end here; None for none. `below`: the entries that may follow.
    """

    key: str
    value: str = ""
    limit: Limit | None = None
    below: tuple[LimitDescriptor, ...] = ()


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`meshsdk.io/v1alpha1` RateLimit: all limits of one domain. `headers`: answers carry RateLimit-* headers."""

    id: ResourceId
    domain: str
    descriptors: tuple[LimitDescriptor, ...]
    headers: bool = False
    origin: Origin = field(default=Origin("", 0), compare=False)
