"""One registry that the control plane follows (`--registry NAME=URL`): what it told last, and how it fares.

The registry's watch calls `offer` on a thread of its own; the plane empties the queue under its lock (`drain`), so a
listing of any size is one commit. Registers nothing. In an outage the last known instances stay, and what an outage may
have cost the registry stays for a while after it (`followed`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controlplane.registries.followed import Followed
from controlplane.registries.leases import Change
from meshsdk.discovery.outage import DEFAULT_PERIOD
from meshsdk.discovery.registry import Registry, Watch
from meshsdk.errors import ConfigurationError
from meshsdk.model.instance import Increment, Instance

_PROTECTION = "protection_seconds"
_LONGEST = 3_600.0  # seconds


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """How a feed fares. `listed`: it has told all its instances at least once. `problem`: why it is not followed.

    `skipped`: entries of the registry that cannot be read, or that xDS cannot serve. `doubted`: instances that are kept
    though the registry does not have them.
    """

    name: str
    url: str
    listed: bool
    problem: str
    applications: int
    instances: int
    skipped: int
    doubted: int

    @property
    def up(self) -> bool:
        """Whether the registry is followed."""
        return self.listed and not self.problem


class Feed:
    """Follows `registry`, which it owns, from `start` to `close`.

    `wake` is called on the watch's thread when there is something to drain. `period`: seconds of doubt, 0 for none.
    """

    def __init__(
        self, name: str, url: str, registry: Registry, wake: Callable[[], None], period: float = DEFAULT_PERIOD
    ) -> None:
        self.name = name
        self._url = url
        self._registry = registry
        self._wake = wake
        self._queue: deque[Increment] = deque()  # filled by the watch's thread, emptied by the plane
        self._watch: Watch | None = None  # owned by the caller of start and close
        self._listed = threading.Event()
        self._followed = Followed(f"registry {name}", period)  # guarded by the plane's lock

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

    def drain(self, now: float) -> list[Change]:
        """Takes over what was told since the last time, and what doubts come to; returns what that changed."""
        changes: list[Change] = []
        while self._queue:
            changes += self._followed.take(self._queue.popleft(), now)
        if self._followed.listed:
            self._listed.set()
        return changes + self._followed.settle(now, away=bool(self._problem()))

    def next_deadline(self) -> float | None:
        """Returns when `drain` has something to do though nothing was told."""
        return self._followed.next_deadline()

    def status(self) -> FeedStatus:
        """Returns how it fares. Under the plane's lock."""
        # A watch within this process has no outages, and so no such attributes.
        unread = getattr(self._watch, "skipped", 0)
        return FeedStatus(
            name=self.name,
            url=self._url,
            listed=self._listed.is_set(),
            problem=self._problem(),
            applications=len(self._followed.instances),
            instances=self._followed.count,
            skipped=self._followed.skipped + (unread if isinstance(unread, int) else 0),
            doubted=self._followed.doubted,
        )

    def _problem(self) -> str:
        return str(getattr(self._watch, "problem", ""))


def without_protection(url: str, where: str) -> tuple[str, float]:
    """Returns a feed's URL without `protection_seconds`, which no registry knows, and the seconds of doubt.

    Raises ConfigurationError.
    """
    head, _, query = url.partition("?")
    given = query.split("&")
    found = [text for text in given if text.startswith(f"{_PROTECTION}=")]
    if not found:
        return url, DEFAULT_PERIOD
    try:
        seconds = float(found[-1].partition("=")[2])
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds <= _LONGEST:
        raise ConfigurationError(f"{where}: {found[-1]} is not between 0 and {_LONGEST:g}")
    rest = "&".join(text for text in given if text not in found)
    return head + ("?" if rest else "") + rest, seconds
