"""What is known of a subtree: directories, and entries as its leaves. Reads again what events say has changed.

One per watch, made by `registry`; owned by the watch's thread, but for the `Inbox`. ZooKeeper's events name a path and
nothing more, and fire once: what a path holds is read together with the request for its next event, so that no change
in between is missed. All that is asked for at a time is asked for at once (pipelined), and many events are answered by
one reading, so that a thousand instances that come together are a few listings and not a thousand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from meshsdk.discovery.zookeeper.session import Session
from meshsdk.errors import RegistryError

_AT_ONCE = 500  # requests under way


class Inbox:
    """Paths that were touched since they were last taken. Implements `session.Listener`; usable from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._paths: set[str] = set()  # guarded by _changed
        self._lost = False  # guarded by _changed

    def touched(self, path: str) -> None:
        """See `Listener`."""
        with self._changed:
            self._paths.add(path)
            self._changed.notify()

    def lost(self) -> None:
        """See `Listener`; also ends the waiting of a watch that is cancelled."""
        with self._changed:
            self._lost = True
            self._changed.notify()

    def wait(self) -> None:
        """Waits until something was touched; RegistryError when the connection was lost."""
        with self._changed:
            self._changed.wait_for(lambda: self._paths or self._lost)
            if self._lost:
                raise RegistryError("the connection was lost")

    def take(self) -> set[str]:
        """Returns what was touched, and forgets it."""
        with self._changed:
            paths, self._paths = self._paths, set()
            return paths


class Subtree:
    """`root` is a directory, `depth` how many levels below it the entries are. `inbox` is told of their events."""

    def __init__(self, session: Session, client: KazooClient, root: str, depth: int, inbox: Inbox) -> None:
        self._session = session
        self._client = client
        self._root = root
        self._leaves_at = root.count("/") + depth
        self._inbox = inbox
        self._children: dict[str, set[str]] = {}  # the directories there are -> paths in them

    def read(self, paths: Iterable[str]) -> tuple[dict[str, bytes], set[str]]:
        """Reads `paths` and what is new below them: (entries by path that are there, paths of those that are gone).

        Raises what kazoo raises (within `Session.asking`); the subtree is of no use then.
        """
        put: dict[str, bytes] = {}
        removed: set[str] = set()
        level = set(paths)
        while level:
            found: set[str] = set()
            for path, names in self._ask(self._directories(level), self._client.get_children_async):
                found |= self._listed(path, names, removed)
            for path, answer in self._ask(level - self._directories(level), self._client.get_async):
                if answer is None:
                    self._vanished(path, removed)
                else:
                    put[path] = answer[0]
            level = found
        return put, removed - put.keys()

    def _directories(self, paths: set[str]) -> set[str]:
        return {path for path in paths if path.count("/") < self._leaves_at}

    def _ask(self, paths: Iterable[str], method: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
        """Asks for each path, with its next event; yields (path, answer), None for a path that does not exist."""
        waiting = list(paths)
        for start in range(0, len(waiting), _AT_ONCE):
            asked = [
                (path, method(path, watch=self._session.watching(path, self._inbox)))
                for path in waiting[start : start + _AT_ONCE]
            ]
            for path, result in asked:
                try:
                    yield path, self._session.wait(result)
                except NoNodeError:
                    yield path, None

    def _listed(self, path: str, names: list[str] | None, removed: set[str]) -> set[str]:
        """Takes a directory's listing; returns the paths in it that are new, or itself where it was made just now."""
        if names is None:
            self._vanished(path, removed)
            return self._await(path) if path == self._root else set()
        now = {f"{path}/{name}" for name in names}
        before = self._children.get(path, set())
        for gone in before - now:
            self._vanished(gone, removed)
        self._children[path] = now
        return now - before

    def _await(self, root: str) -> set[str]:
        """Asks for the event of the root's making. It may be deeper than what exists: ZooKeeper does not mind."""
        watch = self._session.watching(root, self._inbox)
        return {root} if self._session.wait(self._client.exists_async(root, watch=watch)) else set()

    def _vanished(self, path: str, removed: set[str]) -> None:
        """Forgets a path and what was below it."""
        self._session.unwatch(path, self._inbox)
        if path.count("/") == self._leaves_at:
            removed.add(path)
        for child in self._children.pop(path, ()):
            self._vanished(child, removed)
        parent = self._children.get(path.rpartition("/")[0])
        if parent is not None:
            parent.discard(path)
