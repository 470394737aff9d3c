"""ADS messages and the machine's effects as frozen values, free of protobuf.

`wire` builds responses and serialises requests; `AdsMachine` reads and writes nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from meshsdk.bootstrap import Transport
from meshsdk.model.resources import Kind


@dataclass(frozen=True, slots=True)
class Received:
    """One resource of a response.

    `name`: from the `Resource` wrapper if `named`, else a cheap look at the bytes, which only serves to find the
    resource we have already ("" if it cannot be told). `raw`: the serialised resource; None for a heartbeat, which
    carries no resource. `version` "" means the response's.
    """

    name: str
    raw: bytes | None
    type_url: str
    version: str = ""
    named: bool = False


@dataclass(frozen=True, slots=True)
class ServerProblem:
    """The server's own error for a resource (xRFC TP3 `ResourceError`). `code` is the number of a gRPC status."""

    name: str
    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Response:
    """A DiscoveryResponse or DeltaDiscoveryResponse; `removed` is empty in the former.

    `resources` may make its items as they are asked for; whoever needs them twice keeps them.
    """

    type_url: str
    version: str
    nonce: str
    resources: Collection[Received] = ()
    removed: tuple[str, ...] = ()
    problems: tuple[ServerProblem, ...] = ()


@dataclass(frozen=True, slots=True)
class SotwRequest:
    """DiscoveryRequest: `names` is the whole subscription of the type. `error` is the NACK text, "" for none."""

    kind: str
    names: tuple[str, ...]
    version: str = ""
    nonce: str = ""
    error: str = ""
    with_node: bool = False


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    """DeltaDiscoveryRequest. A `nonce` makes it an ACK, or with `error` a NACK."""

    kind: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] | None = None
    nonce: str = ""
    error: str = ""
    with_node: bool = False


Request = SotwRequest | DeltaRequest


@dataclass(frozen=True, slots=True)
class Open:
    """Start a stream of this transport (DELTA or SOTW) to server number `server`."""

    server: int
    transport: Transport


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request on the open stream of server number `server`."""

    server: int
    request: Request


@dataclass(frozen=True, slots=True)
class Close:
    """End the stream of server number `server`; nothing that it still says counts."""

    server: int


Effect = Open | Send | Close

KINDS: Mapping[str, Kind] = {kind.value: kind for kind in Kind}
