"""The watch of all applications: two blocking queries say where something changed, the services are read one by one.

Called by `registry`, on the watch's thread. Consul has no query that tells the instances of all services, and agents
allow a client 200 connections, fewer than there are services. So one query follows all checks, which tells whatever
happens to instances that have one (all of meshsdk's, whose check changes with their state); the other follows the
services' names and tags. `hints` works out what to read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from meshsdk.discovery.consul import records
from meshsdk.discovery.consul.agent import Agent, segment
from meshsdk.discovery.consul.hints import Hints
from meshsdk.discovery.consul.one_service import KnownEntries
from meshsdk.discovery.consul.polling import poll, service_entries
from meshsdk.discovery.consul.records import Entry
from meshsdk.discovery.following import Following
from meshsdk.discovery.mirror import Mirror
from meshsdk.errors import RegistryError

_PACE = 0.2  # seconds between two questions: each is answered with all checks there are
_CLOSING = 1.0  # seconds
_ITSELF = "consul"  # the servers' own service, which is no application (whoever watches it by name is told of it)


def follow_every_service(agent: Agent, mirror: Mirror[Entry], following: Following) -> None:
    """Feeds `mirror` until the watch is cancelled; RegistryError when it broke."""
    hints = Hints(time.monotonic)
    queries = [
        _Query(agent, "/v1/catalog/services", hints.services, hints.broke),
        _Query(agent, "/v1/health/state/any", hints.checks, hints.broke),
    ]

    def interrupt() -> None:
        hints.broke("interrupted")
        for query in queries:
            query.end()

    following.interruptible(interrupt)
    try:
        for query in queries:
            query.start()
        reader = _Reader(agent, hints)
        present, _ = reader.read(hints.all_names())
        following.settled()
        if following.live:
            mirror.reset(present)
        while following.live:
            put, removed = reader.read(hints.take())
            if following.live:
                mirror.change(put, removed)
    finally:
        interrupt()
        for query in queries:
            query.join()


class _Reader:
    """Reads services and tells what changed. Owned by the watch's thread."""

    def __init__(self, agent: Agent, hints: Hints) -> None:
        self._agent = agent
        self._hints = hints
        self._known: dict[str, KnownEntries] = {}  # by service

    def read(self, names: set[str]) -> tuple[dict[str, Entry], set[str]]:
        put: dict[str, Entry] = {}
        removed: set[str] = set()
        line = self._agent.line()
        try:
            for name in sorted(names - {_ITSELF}):
                answer = line.ask("GET", f"/v1/health/service/{segment(name)}", self._agent.reads())
                entries = service_entries(answer.json())
                self._hints.runs_on(name, (records.node_of(entry) for entry in entries))
                new, gone = self._known.setdefault(name, KnownEntries()).difference(entries)
                put.update(new)
                removed |= gone
                if not entries:
                    del self._known[name]
        finally:
            line.close()
        return put, removed - put.keys()


class _Query:
    """The thread of one blocking query."""

    def __init__(
        self, agent: Agent, path: str, answered: Callable[[object], None], broke: Callable[[str], None]
    ) -> None:
        self._agent = agent
        self._path = path
        self._answered = answered
        self._broke = broke
        self._line = agent.line()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meshsdk-consul-query", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Ends it; does not wait."""
        self._ended.set()
        self._line.interrupt()

    def join(self) -> None:
        if self._thread.ident is not None:
            self._thread.join(_CLOSING)

    def _run(self) -> None:
        try:
            self._follow()
        except RegistryError as error:
            self._broke(str(error))
        finally:
            self._line.close()

    def _follow(self) -> None:
        first = True
        for news in poll(self._agent, self._line, self._path, {}, lambda: not self._ended.wait(_PACE)):
            if news.anew and not first:
                raise RegistryError(f"{self._agent.name} lost its past")
            first = False
            self._answered(news.content)
