"""The port to service registries: what the driver asks of `meshsdk.discovery`, which this layer never imports.

The real one is `meshsdk.discovery.feeds.RegistryFeeds`; `NoFeeds` stands in for a bootstrap without registries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from meshsdk.model.resources import RegistrySource
from meshsdk.model.snapshot import Key
from meshsdk.model.told import Told


class Feeds(Protocol):
    """Tells instances by key, on threads of its own."""

    def start(self, tell: Callable[[Told], None]) -> None:
        """Begins to tell; may come again after `stop`, and then goes on with what was known."""

    def follow(self, key: Key, source: RegistrySource) -> None:
        """Tells of a source under a key from now on. For a key that is followed: its migration mode may differ."""

    def unfollow(self, key: Key) -> None:
        """Tells no more of a key."""

    def stop(self) -> None:
        """Ends every thread and connection; waits for that."""

    def words(self, registry: str) -> str:
        """Names a registry to users."""


class NoFeeds:
    """A bootstrap without registries: nothing can be followed, because no cluster may name one."""

    def start(self, tell: Callable[[Told], None]) -> None:
        """See `Feeds`."""

    def follow(self, key: Key, source: RegistrySource) -> None:
        """See `Feeds`."""

    def unfollow(self, key: Key) -> None:
        """See `Feeds`."""

    def stop(self) -> None:
        """See `Feeds`."""

    def words(self, registry: str) -> str:
        """See `Feeds`."""
        return f"registry {registry!r}"
