"""One registry that the control plane follows (`--registry NAME=URL`): what it told last, and how it fares.

The registry's watch calls `offer` on a thread of its own; the plane empties the queue under its lock (`drain`), so a
listing of any size is one commit. Registers nothing. In an outage the last known instances stay.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controlplane.registries.followed import Followed
from controlplane.registries.leases import Change
from meshsdk.discovery.registry import Registry, Watch
from meshsdk.model.instance import Increment, Instance


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """How a feed fares. `listed`: it has told all its instances at least once. `problem`: why it is not followed.

    `skipped`: entries of the registry that cannot be read, or that xDS cannot serve.
    """

    name: str
    url: str
    listed: bool
    problem: str
    applications: int
    instances: int
    skipped: int

    @property
    def up(self) -> bool:
        """Whether the registry is followed."""
        return self.listed and not self.problem


class Feed:
    """Follows `registry`, which it owns, from `start` to `close`.

    `wake` is called on the watch's thread when there is something to drain.
    """

    def __init__(self, name: str, url: str, registry: Registry, wake: Callable[[], None]) -> None:
        self.name = name
        self._url = url
        self._registry = registry
        self._wake = wake
        self._queue: deque[Increment] = deque()  # filled by the watch's thread, emptied by the plane
        self._watch: Watch | None = None  # owned by the caller of start and close
        self._listed = threading.Event()
        self._followed = Followed(f"registry {name}")  # guarded by the plane's lock

    @property
    def instances(self) -> Mapping[str, Mapping[str, Instance]]:
        """Application -> id -> instance; a live view."""
        return self._followed.instances

    def start(self) -> None:
        """Begins to follow the registry. Raises RegistryError, ConfigurationError where it cannot even be tried."""
        self._watch = self._registry.watch("", "", self.offer)

    def close(self) -> None:
        """Ends it. Idempotent."""
        if self._watch is not None:
            self._watch.cancel()
        self._registry.close()

    def offer(self, increment: Increment) -> None:
        """Takes what the registry tells."""
        self._queue.append(increment)
        self._wake()

    def wait_listed(self, seconds: float) -> bool:
        """Waits until a whole listing was drained; returns whether it was."""
        return self._listed.wait(seconds)

    def drain(self) -> list[Change]:
        """Takes over what was told since the last time; returns what that changed."""
        changes: list[Change] = []
        while self._queue:
            changes += self._followed.take(self._queue.popleft())
        if self._followed.listed:
            self._listed.set()
        return changes

    def status(self) -> FeedStatus:
        """Returns how it fares. Under the plane's lock."""
        # A watch within this process has no outages, and so no such attributes.
        unread = getattr(self._watch, "skipped", 0)
        return FeedStatus(
            name=self.name,
            url=self._url,
            listed=self._listed.is_set(),
            problem=str(getattr(self._watch, "problem", "")),
            applications=len(self._followed.instances),
            instances=self._followed.count,
            skipped=self._followed.skipped + (unread if isinstance(unread, int) else 0),
        )
