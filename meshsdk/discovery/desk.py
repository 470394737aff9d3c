"""A desk: the thread that follows one registry for all consumers of a mesh. It carries, `consumer` decides.

Made and stopped by `feeds`. A loop over a queue of events: consumers that come and go, what watches tell (on threads of
the registry), answers of the catalogue. After each batch the touched consumers say what to watch and what to tell.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import ParamSpec

from meshsdk.discovery.asking import Answer, Asking
from meshsdk.discovery.consumer import Consumer, Watched
from meshsdk.discovery.following import Following
from meshsdk.discovery.last_known import LastKnown
from meshsdk.discovery.mapping import Catalogue, GetRevision
from meshsdk.discovery.registry import Registry, Watch
from meshsdk.errors import MeshError
from meshsdk.model.instance import Increment
from meshsdk.model.migration import Migration
from meshsdk.model.resources import RegistrySource
from meshsdk.model.snapshot import Key
from meshsdk.model.told import Told

_LOG = logging.getLogger("meshsdk.discovery")
_BATCH = 256  # events taken before consumers are asked what follows
_JOIN = 5.0  # seconds to wait for threads that have been told to end
_RETRY = 2.0  # seconds until a watch that could not be made is tried again
_SAVE_EVERY = 5.0  # seconds at least between two savings
_SAVE_BUDGET = 50  # a saving that took t seconds is followed by at least t * _SAVE_BUDGET of rest


@dataclass(frozen=True, slots=True)
class DeskSettings:
    """What a desk works with. `words` name the registry to users; `mode` says a source's migration mode at present."""

    name: str
    words: str
    open: Callable[[], Registry]
    mode: Callable[[RegistrySource], Migration]
    memory: LastKnown | None
    period: float


@dataclass(slots=True, eq=False)
class _Open:
    """A watch that runs. Owned by the desk's thread; `watch` is None while the registry would not give one."""

    key: Key
    watched: Watched
    watch: Watch | None = None
    problem: str = ""

    @property
    def trouble(self) -> str:
        """Why the registry cannot be followed at present."""
        told: str = getattr(self.watch, "problem", self.problem)  # a registry in this process has none to tell of
        return told


@dataclass(frozen=True, slots=True)
class _Follow:
    key: Key
    source: RegistrySource


@dataclass(frozen=True, slots=True)
class _Unfollow:
    key: Key


@dataclass(frozen=True, slots=True)
class _Heard:
    by: _Open
    increment: Increment


@dataclass(frozen=True, slots=True)
class _Migrate:
    pass


@dataclass(frozen=True, slots=True)
class _Stop:
    pass


_Event = _Follow | _Unfollow | _Heard | _Migrate | Answer | _Stop
_P = ParamSpec("_P")


@dataclass(slots=True)
class _Followed:
    """A consumer and its watches."""

    consumer: Consumer
    open: dict[Watched, _Open] = field(default_factory=dict)


class Desk:
    """`start`, `stop` (which may alternate), `follow`, `unfollow` and `migrate` are for any thread, one at a time.

    All other fields are the desk's thread's, or between two runs the caller's of `start`.
    """

    def __init__(self, settings: DeskSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._tell: Callable[[Told], None] = _nobody
        self._registry: Registry | None = None
        self._asking: Asking | None = None
        self._catalogue = Catalogue(random.random, settings.period)
        self._followed: dict[Key, _Followed] = {}
        self._wanted: set[Key] = set()  # those that were asked for in this run
        self._deadlines: dict[Key, float] = {}
        self._touched: dict[Key, None] = {}
        self._unsaved: set[tuple[Key, Watched]] = set()
        self._save_at = 0.0
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self._running = False
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Opens the registry, unless it is; dials nothing. Raises ConfigurationError for a URL that cannot be."""
        if self._registry is None:
            self._registry = self._settings.open()

    def start(self, tell: Callable[[Told], None]) -> None:
        """Starts the thread. `tell` is called on it. Consumers of an earlier run wait until they are followed again."""
        self.open()
        self._tell = tell
        self._running = True
        self._thread = threading.Thread(target=self._run, name=f"meshsdk-registry-{self._settings.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends watches, connections and threads. What consumers know is kept for the next `start`."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._events.put(_Stop())
            thread.join(_JOIN)
        elif self._registry is not None:  # opened, and never used
            self._registry.close()
            self._registry = None

    def follow(self, key: Key, source: RegistrySource) -> None:
        """Begins to tell of `source` under `key`, or, for a key that is followed, changes its migration mode."""
        self._events.put(_Follow(key, source))

    def unfollow(self, key: Key) -> None:
        """Ends that."""
        self._events.put(_Unfollow(key))

    def migrate(self) -> None:
        """Migration modes have changed."""
        self._events.put(_Migrate())

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        registry = self._registry
        if registry is None:
            return
        self._asking = Asking(self._settings.name, registry, self._events.put)
        while self._running:
            self._loop(registry)
        self._finish(registry)

    def _loop(self, registry: Registry) -> None:
        events = self._next_events()
        now = self._clock()
        for event in events:
            self._protected(self._handle, event, now)
        self._touched.update((key, None) for key, at in self._deadlines.items() if at <= now)
        touched, self._touched = self._touched, {}
        for key in touched:
            self._protected(self._turn, registry, key, now)
        self._protected(self._ask, now)
        self._protected(self._save, now)

    def _protected(self, step: Callable[_P, None], *args: _P.args, **kwargs: _P.kwargs) -> None:
        """A defect in one step must not end the thread on which all instances arrive."""
        try:
            step(*args, **kwargs)
        except Exception:  # noqa: BLE001 - see above
            _LOG.exception("meshsdk's registry thread met an error and goes on; please report it")

    def _next_events(self) -> list[_Event]:
        times = [*self._deadlines.values(), *([self._save_at] if self._unsaved else [])]
        if (ask_at := self._catalogue.deadline()) is not None:
            times.append(ask_at)
        timeout = max(0.0, min(times) - self._clock()) if times else None
        events: list[_Event] = []
        with contextlib.suppress(Empty):
            events.append(self._events.get(timeout=timeout))
            while len(events) < _BATCH:
                events.append(self._events.get_nowait())
        return events

    def _handle(self, event: _Event, now: float) -> None:
        if isinstance(event, _Heard):
            followed = self._followed.get(event.by.key)
            if followed is not None and followed.open.get(event.by.watched) is event.by:
                followed.consumer.take(event.by.watched, event.increment, now)
                self._touched[event.by.key] = None
                self._unsaved.add((event.by.key, event.by.watched))
        elif isinstance(event, Answer):
            self._answered(event, now)
        elif isinstance(event, _Follow):
            self._begin(event, now)
        elif isinstance(event, _Unfollow):
            self._end(event.key)
        elif isinstance(event, _Migrate):
            for key, followed in self._followed.items():
                followed.consumer.migrate(self._settings.mode(followed.consumer.source))
                self._touched[key] = None
        else:
            self._running = False

    def _begin(self, event: _Follow, now: float) -> None:
        self._wanted.add(event.key)
        known = self._followed.get(event.key)
        mode = self._settings.mode(event.source)
        if known is None:
            memory, period = self._settings.memory, self._settings.period
            consumer = Consumer(event.key, event.source, mode, self._catalogue, memory, period, now)
            self._followed[event.key] = _Followed(consumer)
        else:
            known.consumer.source = event.source
            known.consumer.migrate(mode)
            known.consumer.tell_again()
        self._touched[event.key] = None

    def _end(self, key: Key) -> None:
        followed = self._followed.pop(key, None)
        self._deadlines.pop(key, None)
        self._touched.pop(key, None)
        if followed is not None:
            followed.consumer.close()
            for one in followed.open.values():
                _cancel(one)

    def _answered(self, answer: Answer, now: float) -> None:
        ask = answer.ask
        if answer.problem:
            news = self._catalogue.failed(ask, f"{self._settings.words}: {answer.problem}", now)
        elif isinstance(ask, GetRevision):
            news = self._catalogue.described(ask, answer.content, now)
        else:
            news = self._catalogue.mapped(ask.service, answer.apps, now)
            if news and self._settings.memory is not None:
                self._settings.memory.save_applications(ask.service, answer.apps)
        if news:
            for key, followed in self._followed.items():
                if isinstance(ask, GetRevision):
                    followed.consumer.reviewed(ask.app, ask.revision)
                    self._touched[key] = None
                elif followed.consumer.source.interface == ask.service:
                    self._touched[key] = None

    def _turn(self, registry: Registry, key: Key, now: float) -> None:
        followed = self._followed.get(key)
        if followed is None:
            return
        trouble = next((one.trouble for one in followed.open.values() if one.trouble), "")
        problem = f"{self._settings.words}: {trouble}" if trouble else ""
        turn = followed.consumer.turn(now, problem)
        for watched in [watched for watched in followed.open if watched not in turn.watches]:
            _cancel(followed.open.pop(watched))
        for watched in turn.watches:
            one = followed.open.setdefault(watched, _Open(key, watched))
            if one.watch is None:
                self._watch(registry, one, followed.consumer.source.unit)
        if turn.told is not None:
            told = turn.told
            self._tell(replace(told, origin=told.origin or self._settings.words))
        deadlines = [at for at in (followed.consumer.deadline(),) if at is not None]
        if any(one.watch is None for one in followed.open.values()):
            deadlines.append(now + _RETRY)
        if deadlines:
            self._deadlines[key] = max(min(deadlines), now)
        else:
            self._deadlines.pop(key, None)

    def _watch(self, registry: Registry, one: _Open, unit: str) -> None:
        try:
            one.watch = registry.watch(one.watched.app, unit, lambda told: self._events.put(_Heard(one, told)))
        except Exception as error:  # noqa: BLE001 - an adapter's defect costs its own instances, no others
            if not one.problem:
                defect = None if isinstance(error, MeshError) else error
                words = "%s: cannot watch %r: %s; trying again"
                _LOG.warning(words, self._settings.words, one.watched.app, error, exc_info=defect)
            one.problem = str(error) or type(error).__name__

    def _ask(self, now: float) -> None:
        deadline = self._catalogue.deadline()
        if deadline is not None and deadline <= now and self._asking is not None:
            for ask in self._catalogue.due(now):
                self._asking.ask(ask)

    def _save(self, now: float) -> None:
        if self._settings.memory is None:
            self._unsaved.clear()
        if not self._unsaved or self._settings.memory is None or (now < self._save_at and self._running):
            return
        for key, watched in self._unsaved:
            followed = self._followed.get(key)
            saved = followed.consumer.saved(watched) if followed is not None else None
            if saved is not None:
                self._settings.memory.save_instances(*saved)
        self._unsaved.clear()
        done = self._clock()
        self._save_at = done + max(_SAVE_EVERY, (done - now) * _SAVE_BUDGET)

    def _finish(self, registry: Registry) -> None:
        """Nothing of this run may be inside gRPC when `stop` returns: a fork may follow."""
        ending = [one.watch for followed in self._followed.values() for one in followed.open.values()]
        for followed in self._followed.values():
            for one in followed.open.values():
                _cancel(one)
            followed.open.clear()
        for key in self._followed.keys() - self._wanted:
            self._followed.pop(key).consumer.close()
        self._wanted.clear()
        self._deadlines.clear()
        registry.close()
        self._registry = None
        for watch in ending:
            if isinstance(watch, Following):
                watch.join(_JOIN)
        if self._asking is not None:
            self._asking.stop()
            self._asking.join()
            self._asking = None
        self._catalogue.interrupted()


def _cancel(one: _Open) -> None:
    if one.watch is not None:
        one.watch.cancel()


def _nobody(told: Told) -> None:
    del told
