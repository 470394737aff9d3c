"""Which of all services to read again, as two blocking queries say. No I/O; the time is asked of the `now` it is given.

Used by `every_service`: filled by the queries' threads, emptied by the watch's. A change of a check names its service,
or its node and so what runs there; a service's name or tags name it. What neither explains (an instance without a check
joined others) is found by reading all services again, at most every half minute.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from meshsdk.errors import RegistryError

_SWEEP = 30.0  # seconds between two readings of all services
_CheckKey = tuple[str, str]  # node, id
_CheckValue = tuple[str, object]  # service ("" for a check of the node), version


class Hints:
    """Which services to read, as the two queries say. Filled by their threads, emptied by the watch's."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._changed = threading.Condition()
        self._tags: Mapping[str, frozenset[str]] | None = None  # by service; None: not told yet. Guarded by _changed,
        self._checks: Mapping[_CheckKey, _CheckValue] | None = None  # as is this, and all below
        self._nodes: dict[str, set[str]] = {}  # node -> services that were found there
        self._dirty: set[str] = set()
        self._sweep_at: float | None = None  # None: no reason to
        self._swept_at = now()
        self._problem = ""

    def services(self, content: object) -> None:
        """Takes an answer of catalog/services: {name: tags}."""
        if not isinstance(content, dict):
            raise RegistryError("catalog/services answered with something that is not an object")
        now = {
            str(name): frozenset(map(str, tags)) if isinstance(tags, list) else frozenset()
            for name, tags in content.items()
        }
        with self._changed:
            before = now if self._tags is None else self._tags
            different = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
            if self._tags is not None and not different:
                self._sweep_at = self._swept_at + _SWEEP
            self._tags = now
            self._dirty |= different
            self._changed.notify()

    def checks(self, content: object) -> None:
        """Takes an answer of health/state/any: all checks."""
        if not isinstance(content, list) or not all(isinstance(check, dict) for check in content):
            raise RegistryError("health/state answered with something that is not a list of objects")
        now: dict[_CheckKey, _CheckValue] = {
            (str(check.get("Node")), str(check.get("CheckID"))): (
                str(check.get("ServiceName") or ""),
                (check.get("ModifyIndex"), check.get("Status")),
            )
            for check in content
        }
        with self._changed:
            before = now if self._checks is None else self._checks
            for key in before.keys() | now.keys():
                if before.get(key) != now.get(key):
                    self._blame(key[0], {value[0] for value in (before.get(key), now.get(key)) if value})
            self._checks = now
            self._changed.notify()

    def _blame(self, node: str, services: set[str]) -> None:
        self._dirty |= services - {""}
        if "" in services:  # a check of the node: of all that runs there
            self._dirty |= self._nodes.get(node, set())

    def broke(self, problem: str) -> None:
        """One of the queries ended."""
        with self._changed:
            self._problem = problem
            self._changed.notify()

    def all_names(self) -> set[str]:
        """Waits for both queries' first answer; returns the services' names. All that is told later is a change."""
        with self._changed:
            self._changed.wait_for(lambda: self._problem or (self._tags is not None and self._checks is not None))
            self._raise()
            self._dirty.clear()
            return set(self._tags or ())

    def take(self) -> set[str]:
        """Waits until there is something to read; returns the services' names."""
        with self._changed:
            while not (self._problem or self._dirty or self._due()):
                self._changed.wait(None if self._sweep_at is None else max(0.0, self._sweep_at - self._now()))
            self._raise()
            names, self._dirty = self._dirty, set()
            if self._due():
                self._sweep_at, self._swept_at = None, self._now()
                names |= set(self._tags or ())
            return names

    def runs_on(self, service: str, nodes: Iterable[str]) -> None:
        """Tells where a service was found."""
        with self._changed:
            for node in nodes:
                self._nodes.setdefault(node, set()).add(service)

    def _due(self) -> bool:
        return self._sweep_at is not None and self._now() >= self._sweep_at

    def _raise(self) -> None:
        if self._problem:
            raise RegistryError(self._problem)
