"""What VirtualService says: which call goes where, for how long, with which retries, faults, copies and header edits.

The tests on a call, faults and edits are the SDK's own values, so both ends mean the same by them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from controlplane.model.identity import Origin, ResourceId
from meshsdk.model.filters import Fault, HeaderEdit
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
class HeaderEdits:
    """`headers`: edits of the request's metadata, and of the initial metadata of the answer; they run in order."""

    request: tuple[HeaderEdit, ...] = ()
    response: tuple[HeaderEdit, ...] = ()


@dataclass(frozen=True, slots=True)
class Destination:
    """One entry of `http[].route`: a host, one of its subsets ("" for all of it), its share, and its own `headers`."""

    host: str
    subset: str
    weight: int
    port: int | None = None
    headers: HeaderEdits = HeaderEdits()
    origin: Origin = field(default=Origin("", 0), compare=False)


@dataclass(frozen=True, slots=True)
class MirrorTo:
    """One entry of `http[].mirrors`: copies of a `share` (0-1) of the calls go there too (its weight means nothing)."""

    destination: Destination
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Retries:
    """`http[].retries`: `attempts` counts retries; durations in seconds; `retry_on` holds Envoy's condition names.

    `avoid_previous`: a retry goes to an endpoint that the call has not tried.
    """

    attempts: int
    per_try_timeout: float | None
    retry_on: tuple[str, ...]
    backoff: float | None = None
    avoid_previous: bool = False


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """One entry of `http`. Its `matches` are alternatives; none means every call. `timeout` in seconds, 0 for none."""

    name: str
    matches: tuple[CallMatch, ...]
    destinations: tuple[Destination, ...]
    timeout: float | None = None
    retries: Retries | None = None
    fault: Fault | None = None
    mirrors: tuple[MirrorTo, ...] = ()
    headers: HeaderEdits = HeaderEdits()
    origin: Origin = field(default=Origin("", 0), compare=False)


@dataclass(frozen=True, slots=True)
class VirtualService:
    """`networking.istio.io/v1` VirtualService. `applies` is False where it is bound to gateways only."""

    id: ResourceId
    hosts: tuple[str, ...]
    routes: tuple[HttpRoute, ...]
    applies: bool = True
    origin: Origin = field(default=Origin("", 0), compare=False)

    def targets(self) -> Iterator[Destination]:
        """Yields every destination of every route, those of copies after those of calls."""
        for route in self.routes:
            yield from route.destinations
            yield from (mirror.destination for mirror in route.mirrors)
