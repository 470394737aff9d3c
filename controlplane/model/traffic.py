"""What VirtualService says: which call goes where, for how long and with which retries.

The tests on a call are the SDK's own values (`meshsdk.model.matching`), so both ends mean the same by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.model.identity import Origin, ResourceId
from meshsdk.model.matching import FieldMatch, HeaderMatch, PathMatch


@dataclass(frozen=True, slots=True)
class CallMatch:
    """One entry of `http[].match`: all parts must hold. `source_labels` are those of the calling node."""

    name: str
    path: PathMatch
    headers: tuple[HeaderMatch, ...] = ()
    params: tuple[FieldMatch, ...] = ()
    source_labels: Mapping[str, str] = field(default_factory=dict)
    impossible: bool = False  # no gRPC call can meet it (an HTTP method other than POST): kept out of the wire
    origin: Origin = field(default=Origin("", 0), compare=False)


@dataclass(frozen=True, slots=True)
class Destination:
    """One entry of `http[].route`: a host, one of its subsets ("" for all of it), and its share."""

    host: str
    subset: str
    weight: int
    port: int | None = None
    origin: Origin = field(default=Origin("", 0), compare=False)


@dataclass(frozen=True, slots=True)
class Retries:
    """`http[].retries`: `attempts` counts retries; durations in seconds; `retry_on` holds Envoy's condition names."""

    attempts: int
    per_try_timeout: float | None
    retry_on: tuple[str, ...]
    backoff: float | None = None


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """One entry of `http`. Its `matches` are alternatives; none means every call. `timeout` in seconds, 0 for none."""

    name: str
    matches: tuple[CallMatch, ...]
    destinations: tuple[Destination, ...]
    timeout: float | None = None
    retries: Retries | None = None
    origin: Origin = field(default=Origin("", 0), compare=False)


@dataclass(frozen=True, slots=True)
class VirtualService:
    """`networking.istio.io/v1` VirtualService. `applies` is False where it is bound to gateways only."""

    id: ResourceId
    hosts: tuple[str, ...]
    routes: tuple[HttpRoute, ...]
    applies: bool = True
    origin: Origin = field(default=Origin("", 0), compare=False)
