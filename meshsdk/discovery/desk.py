"""A desk: follows one registry for all consumers of a mesh, one `shift` after the other.

Made, started and stopped by `feeds`. What the consumers of one shift know is handed to the next. A shift that does not
end in time (an adapter hangs) is left to itself: it shares nothing with the next one but what it has told, and that is
told again until the registry has answered anew.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping

from meshsdk.discovery.mapping import Catalogue
from meshsdk.discovery.registry import Registry
from meshsdk.discovery.shift import DeskSettings, Handover, Shift
from meshsdk.model.resources import RegistrySource
from meshsdk.model.snapshot import Key
from meshsdk.model.told import Told

_LOG = logging.getLogger("meshsdk.discovery")


class Desk:
    """All methods are for any thread, one at a time; `start` and `end` with `join` may alternate."""

    def __init__(self, settings: DeskSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._registry: Registry | None = None  # opened, and no shift's yet
        self._shift: Shift | None = None  # from `start` to `join`
        self._before = self._nothing()
        self._remembered: Mapping[Key, Told] = {}

    def open(self) -> None:
        """Opens the registry, unless it is; dials nothing. Raises ConfigurationError for a URL that cannot be."""
        if self._registry is None and self._shift is None:
            self._registry = self._settings.open()

    def start(self, tell: Callable[[Told], None]) -> None:
        """Starts a thread. `tell` is called on it. Consumers of an earlier one wait until they are followed again."""
        registry = self._registry or self._settings.open()
        self._registry = None
        self._shift = Shift(self._settings, registry, tell, self._before, self._remembered, self._clock)
        self._before, self._remembered = self._nothing(), {}
        self._shift.start()

    def end(self) -> None:
        """Has watches, connections and threads end; `join` waits for that."""
        if self._shift is not None:
            self._shift.end()
        elif self._registry is not None:  # opened, and never used
            self._registry.close()
            self._registry = None

    def join(self, seconds: float) -> None:
        """Waits for the end, no longer than `seconds`. What consumers know is kept for the next `start`."""
        shift, self._shift = self._shift, None
        if shift is None:
            return
        if not shift.join(seconds):
            shift.abandon()
            words = "%s: its thread has not ended within %.1f s and is left to itself; the next one begins without it"
            _LOG.warning(words, self._settings.words, seconds)
        if shift.handover is not None:
            self._before = shift.handover
        else:
            self._remembered = dict(shift.told)

    def follow(self, key: Key, source: RegistrySource) -> None:
        """Begins to tell of `source` under `key`, or, for a key that is followed, changes its migration mode."""
        if self._shift is not None:
            self._shift.follow(key, source)

    def unfollow(self, key: Key) -> None:
        """Ends that."""
        if self._shift is not None:
            self._shift.unfollow(key)

    def migrate(self) -> None:
        """Migration modes have changed."""
        if self._shift is not None:
            self._shift.migrate()

    def _nothing(self) -> Handover:
        return Handover(Catalogue(random.random, self._settings.period), {})
