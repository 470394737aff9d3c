"""A registry's entries in, increments out: what every adapter's watch does with what it reads. Pure.

An adapter makes one per watch and feeds it keys and raw values, as a whole (`reset`) or as changes. The mirror decodes,
skips what others left behind and cannot be used (counted, and logged once with its key), settles duplicate ids, and
tells the listener what changed. It never talks to a registry.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from meshsdk.errors import RegistryError
from meshsdk.model.instance import Increment, Instance

_LOG = logging.getLogger("meshsdk.discovery")
_MAX_TOLD = 1_000  # keys remembered, so that each is logged once
RawT = TypeVar("RawT")
Identity = tuple[str, str]  # (app, id)


class Mirror(Generic[RawT]):
    """The entries of one watch. Owned by the watch's thread; `skipped` may be read by any.

    Args:
        registry: names the registry in log lines.
        app: what is watched; "" for all applications.
        unit: instances of other units are left out; "" for every unit.
        decode: makes an instance of (key, raw value); raises RegistryError in words. A ValueError skips the entry too.
        on_increment: told of every change, on the calling thread; what it raises is logged, not passed on.
    """

    def __init__(
        self,
        registry: str,
        app: str,
        unit: str,
        decode: Callable[[str, RawT], Instance],
        on_increment: Callable[[Increment], None],
    ) -> None:
        self._registry = registry
        self._app = app
        self._unit = unit
        self._decode = decode
        self._on_increment = on_increment
        self._entries: dict[str, Instance] = {}  # usable ones of the unit, by key
        self._claims: dict[Identity, dict[str, Instance]] = {}  # several keys may claim one identity
        self._unusable: set[str] = set()  # keys of entries that were skipped
        self._told_of: set[str] = set()  # keys that were logged

    @property
    def skipped(self) -> int:
        """How many entries cannot be used at present."""
        return len(self._unusable)

    def reset(self, entries: Mapping[str, RawT]) -> None:
        """Takes a whole listing: tells one reset for each application, and the end mark where all are watched."""
        groups: dict[str, list[Instance]] = {app: [] for app, _ in self._claims}
        if self._app:
            groups[self._app] = []
        self._entries, self._claims, self._unusable = {}, {}, set()
        for key, raw in entries.items():
            self._take(key, raw, {})
        for identity in self._claims:
            instance = self._holder(identity)
            if instance is not None:
                groups.setdefault(instance.app, []).append(instance)
        for app, instances in groups.items():
            self._tell(Increment(app, tuple(instances), reset=True))
        if not self._app:
            self._tell(Increment("", reset=True))

    def change(self, put: Mapping[str, RawT], removed: Iterable[str] = ()) -> None:
        """Takes entries that were added or replaced, and keys that are gone; tells one increment an application."""
        before: dict[Identity, Instance | None] = {}  # of the identities touched, what stood for them until now
        for key in removed:
            self._drop(key, before)
        for key, raw in put.items():
            self._take(key, raw, before)
        apps: dict[str, tuple[list[Instance], list[str]]] = {}
        for (app, identifier), old in before.items():
            new = self._holder((app, identifier))
            changed, gone = apps.setdefault(app, ([], []))
            if new is None and old is not None:
                gone.append(identifier)
            elif new is not None and new != old:
                changed.append(new)
        for app, (changed, gone) in apps.items():
            if changed or gone:
                self._tell(Increment(app, tuple(changed), tuple(gone)))

    def _holder(self, identity: Identity) -> Instance | None:
        """Returns the instance that counts for an identity: of several that claim it, the one that started last."""
        claims = self._claims.get(identity)
        if not claims:
            return None
        return max(claims.items(), key=lambda item: (item[1].started_at, item[0]))[1]

    def _take(self, key: str, raw: RawT, before: dict[Identity, Instance | None]) -> None:
        self._drop(key, before)
        try:
            instance = self._decode(key, raw)
        except (RegistryError, ValueError, OverflowError) as error:  # an entry that `decode` did not foresee, too
            self._skip(key, str(error))
            return
        if self._app and instance.app != self._app:
            self._skip(key, f"app is {instance.app!r}, not {self._app!r}")
            return
        if self._unit and instance.unit != self._unit:
            return
        identity = (instance.app, instance.id)
        before.setdefault(identity, self._holder(identity))
        claims = self._claims.setdefault(identity, {})
        if claims:
            others = ", ".join(map(repr, sorted(claims)))
            self._warn(key, f"has the id {instance.id!r} of {others}; the one that started last counts")
        claims[key] = self._entries[key] = instance

    def _skip(self, key: str, reason: str) -> None:
        self._unusable.add(key)
        self._warn(key, f"is skipped: {reason}")

    def _drop(self, key: str, before: dict[Identity, Instance | None]) -> None:
        self._unusable.discard(key)
        instance = self._entries.get(key)
        if instance is None:
            return
        identity = (instance.app, instance.id)
        before.setdefault(identity, self._holder(identity))
        del self._entries[key]
        claims = self._claims[identity]
        del claims[key]
        if not claims:
            del self._claims[identity]

    def _tell(self, increment: Increment) -> None:
        try:
            self._on_increment(increment)
        except Exception:  # noqa: BLE001 - the listener's bug must not end the watch, nor pass unseen
            _LOG.exception("a watcher of app %r failed on an increment", increment.app)

    def _warn(self, key: str, words: str) -> None:
        if key not in self._told_of and len(self._told_of) < _MAX_TOLD:
            self._told_of.add(key)
            _LOG.warning("%s: entry %r %s", self._registry, key, words)
