"""What a channel tells of its calls: the port between the façades and whoever looks at them.

Called by `meshsdk.channel` for every call while `OBSERVING.observer` is not None, and by the server interceptors
(`meshsdk.interceptors.observed_*`) likewise; implemented by `meshsdk.telemetry`. It imports nothing, so that a channel
nobody looks at pays for two reads. What is behind it never raises and never blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from meshsdk.model.resources import Locality

Metadata = Sequence[tuple[str, "str | bytes"]]
_MAX_REGISTERED = 10_000  # methods; generated code has fewer, and nothing that makes up names grows the process

Attributes = Mapping[str, "str | int | float | bool"]


class AttemptObservation(Protocol):
    """One attempt of a call. `metadata`: what to send instead of the metadata that `attempt` was given."""

    metadata: Metadata | None

    def ended(self, code: str) -> None:
        """The attempt has ended with a gRPC status, by name. Called once, by any thread."""


class CallObservation(Protocol):
    """One call. Its methods are called by one thread (or task) at a time; attempts of a hedged call may overlap."""

    def attempt(
        self, number: int, address: str, cluster: str, locality: Locality | None, metadata: Metadata | None
    ) -> AttemptObservation:
        """An attempt begins: `number` from 0, moves and hedges counted; `address` as in the endpoint.

        `cluster`: that the endpoint is of, a leaf of the route's. `locality`: the endpoint's.
        """

    def event(self, name: str, attributes: Attributes) -> None:
        """Something of note between attempts: `retry` (seconds), `hedge`, `reject` (category, code), `mirror` ..."""

    def ended(self, code: str, details: str, route: str, cluster: str) -> None:
        """The call has ended with a gRPC status, by name. Called once, by any thread; what was told later is dropped.

        `route`: name of the route that the call took, "" without one; `cluster`: of the last attempt, "" without one.
        """


class CallObserver(Protocol):
    """Looks at calls. Safe from any thread."""

    def began(self, target: str, method: str) -> CallObservation | None:
        """A call begins; None: nobody looks at this one.

        Called in the context (contextvars) of the application's call, on its thread or task: the span that is current
        there is the parent. `target` as the channel was given it, `method` as `/pkg.Service/Method`.
        """


class Sight(Protocol):
    """One call as channels see its observer: `meshsdk.channel.observed.Observed`, or what only counts.

    `last`: the attempt that runs, of a call that makes one at a time.
    """

    last: AttemptObservation | None

    def attempt(self, lane: Any, backend: Any, metadata: Metadata | None) -> Metadata | None:
        """An attempt is about to be made on a channel's lane and backend; returns the metadata to send instead."""

    def attempted(self, code: str) -> None:
        """`last` has ended; no effect where that was told."""

    def event(self, name: str, attributes: Attributes) -> None:
        """See `CallObservation`."""

    def end(self, code: str, details: str) -> None:
        """The call has ended, with the attempt that runs. Only the first end counts."""


class ServedCall(Protocol):
    """One call that a server handles. Methods may be called by any thread."""

    def enter(self) -> object:
        """The handler (or a step of its answers) begins here: its own calls belong to this one. Give it to `leave`."""

    def leave(self, entered: object) -> None:
        """The handler, or the step, has ended. On the thread or task of `enter`."""

    def ended(self, code: str, details: str) -> None:
        """The call has ended with a gRPC status, by name. Only the first end counts."""


class ServerObserver(Protocol):
    """Looks at the calls of servers. Safe from any thread."""

    def began(self, method: str, metadata: Metadata | None, peer: str) -> ServedCall:
        """A call of `/pkg.Service/Method` begins; `metadata` of the caller, `peer` as grpc names it."""


class Observing:
    """The observers of the process: `observer` of the calls it makes, `servers` of those it handles.

    `counter`: makes the sight of a call of a target and a method, where calls are counted and nothing else: the short
    way to what `observer` does then. `registered`: methods that generated code asked channels for (gRFC A66 gives only
    those a label of their own). Thread rules: `observer`, `counter` and `servers` are published by one assignment each
    and read by any thread, once a call; `registered` is added to by any thread, which is atomic.
    """

    __slots__ = ("counter", "observer", "registered", "servers")

    def __init__(self) -> None:
        self.observer: CallObserver | None = None
        self.counter: Callable[[str, str], Sight] | None = None
        self.servers: ServerObserver | None = None
        self.registered: set[str] = set()

    def register(self, method: str, registered: bool | None) -> None:  # noqa: FBT001 - grpc's own keyword, passed on
        """A channel was asked for a method; `registered`: by generated code (grpcio's `_registered_method`)."""
        if registered and len(self.registered) < _MAX_REGISTERED:
            self.registered.add(method)


OBSERVING = Observing()
