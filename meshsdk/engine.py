"""The one interface between what applications import and the engine behind it (design.md section 1, idea 7).

The façade holds no behaviour: it asks `load` for an engine and calls this interface. A change that an older engine
could not serve raises `VERSION`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import grpc
import grpc.aio

from meshsdk.model.migration import Migration

VERSION = 3
_ENGINE = "meshsdk.channel.mesh"
_TELEMETRY = "meshsdk.telemetry.switch"

Bootstrap = Mapping[str, Any] | str | os.PathLike[str] | None


class Clock(Protocol):
    """What tells a mesh the time, in seconds; the module `time` is one."""

    def time(self) -> float:
        """Since 1970."""

    def monotonic(self) -> float:
        """Since some moment, never going back."""


class Engine(Protocol):
    """One mesh. All methods are safe from any thread."""

    def channel(
        self,
        target: str,
        options: Sequence[tuple[str, Any]] | None = None,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.Channel:
        """Returns a channel for threads."""

    def aio_channel(
        self,
        target: str,
        options: Sequence[tuple[str, Any]] | None = None,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.Channel:
        """Returns a channel for asyncio."""

    def client_interceptors(self, target: str) -> Sequence[Any]:
        """Returns client interceptors for a synchronous channel."""

    def aio_client_interceptors(self, target: str) -> Sequence[Any]:
        """Returns client interceptors for an asyncio channel."""

    def set_migration(self, service: str, migration: Migration | str | None) -> None:
        """Sets how consumers of a gRPC service find its instances."""

    def follow(self, target: str, follower: Callable[[str], None]) -> Callable[[], None]:
        """Tells what `xds:///` or `mesh:///` lacks to be resolved, "" for nothing; returns what ends it."""

    def progress(self, target: str) -> str:
        """Says what a followed target waits for, in words."""

    def ledger(self) -> tuple[Any, ...]:
        """Returns one row per xDS resource."""

    def close(self) -> None:
        """Ends the mesh."""


def load(bootstrap: Bootstrap, clock: Clock | None = None) -> Engine:
    """Makes an engine. Raises BootstrapError. Imports late: `import meshsdk` must cost little more than grpc's."""
    start_telemetry()
    return cast("Engine", importlib.import_module(_ENGINE).Mesh(bootstrap, clock))


def start_telemetry() -> None:
    """Switches on the telemetry that the environment asks for, once a process. Raises ConfigurationError."""
    importlib.import_module(_TELEMETRY).SWITCH.start()
