"""The registry in this process, with a clock that is moved by hand."""

from __future__ import annotations

from types import MappingProxyType

from meshsdk.discovery.memory import MemoryRegistry
from tests.contract.registries.lab import Feature, Lab

_NO_SERVER = "there is no server, only this process"


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Returns the time."""
        return self.now


class TheLab(Lab):
    """All clients are the same object."""

    name = "memory"
    ttl = 15.0
    lacking = MappingProxyType(
        {
            Feature.KILL: _NO_SERVER,
            Feature.FREEZE: _NO_SERVER,
            Feature.COMPACT: "watchers are told directly and never resume",
            Feature.RAW: "it holds instances, not what others wrote",
        }
    )

    def __init__(self, server: None) -> None:
        super().__init__(server)
        self.clock = Clock()
        self._registry = MemoryRegistry(self.clock)

    def connect(self) -> MemoryRegistry:
        """Returns the one registry."""
        return self._registry

    def elapse(self, seconds: float) -> None:
        """Moves the clock."""
        self.clock.now += seconds
        self._registry.expire()
