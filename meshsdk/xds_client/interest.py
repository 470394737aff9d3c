"""Who wants which key: the union of all targets' wanted keys, and its changes. Pure.

Owned by the session. A change of one target costs that target's keys, however many others there are.
"""

from __future__ import annotations

from collections.abc import Collection

from meshsdk.model.snapshot import Key


class Interest:
    """Wanted keys by target, and targets by key."""

    __slots__ = ("_by_key", "_by_target", "_was_wanted")

    def __init__(self) -> None:
        self._by_target: dict[str, frozenset[Key]] = {}
        self._by_key: dict[Key, set[str]] = {}
        self._was_wanted: dict[Key, bool] = {}  # keys touched since `changes` was last called

    def set(self, target: str, wanted: frozenset[Key]) -> None:
        """Replaces what a target wants; nothing at all forgets the target."""
        old = self._by_target.get(target, frozenset())
        if wanted is old or wanted == old:  # the usual case, at no cost
            return
        for key in wanted - old:
            targets = self._by_key.setdefault(key, set())
            self._was_wanted.setdefault(key, bool(targets))
            targets.add(target)
        for key in old - wanted:
            self._was_wanted.setdefault(key, True)
            self._by_key[key].discard(target)
        if wanted:
            self._by_target[target] = wanted
        else:
            del self._by_target[target]

    def targets(self, key: Key) -> Collection[str]:
        """Returns the targets that want a key."""
        return self._by_key.get(key, ())

    def changes(self) -> tuple[list[Key], list[Key]]:
        """Returns (keys wanted anew, keys no longer wanted by anyone) since the last call."""
        added = [key for key, was in self._was_wanted.items() if self._by_key[key] and not was]
        dropped = [key for key, was in self._was_wanted.items() if was and not self._by_key[key]]
        for key in self._was_wanted:
            if not self._by_key[key]:
                del self._by_key[key]
        self._was_wanted.clear()
        return added, dropped
