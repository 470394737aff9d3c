"""A shift of a desk: the thread that follows one registry from a start to a stop. It carries, `consumer` decides.

Made by `desk`. A loop over a queue of events: consumers that come and go, what watches tell (on threads of the
registry), answers of the catalogue. After each batch the touched consumers say what to watch and what to tell.

All that a shift changes is its own. At its end it first hands over what its consumers know, then closes what may take
its time: watches, the registry, the catalogue's thread. So a shift that does not come to its end holds up nothing.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
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
_REMEMBERED = "the instances are those known before: the thread that followed the registry has not ended"
_SAVE_EVERY = 5.0  # seconds at least between two savings
_SAVE_BUDGET = 50  # a saving that took t seconds is followed by at least t * _SAVE_BUDGET of rest


@dataclass(frozen=True, slots=True)
class DeskSettings:
    """What a desk and its shifts work with.

    `words` name the registry to users; `mode` says a source's migration mode at present.
    """

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
class Followed:
    """A consumer and its watches."""

    consumer: Consumer
    open: dict[Watched, _Open] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Handover:
    """What one shift leaves to the next; nobody else has it."""

    catalogue: Catalogue
    followed: dict[Key, Followed]


class Shift:
    """`start`, `end`, `join`, `abandon`, `follow`, `unfollow` and `migrate` are for the desk's caller, one at a time.

    All other fields are the thread's, unless they say otherwise.

    Args:
        settings: as for the desk.
        registry: opened; the shift closes it.
        tell: called on the thread.
        before: what the shift before left.
        remembered: what a shift before told last that has left nothing: told again until the registry answers.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        settings: DeskSettings,
        registry: Registry,
        tell: Callable[[Told], None],
        before: Handover,
        remembered: Mapping[Key, Told],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._tell = tell
        self._clock = clock
        self._remembered = dict(remembered)
        self._asking: Asking | None = None
        self._catalogue = before.catalogue
        self._followed = before.followed
        self._wanted: set[Key] = set()  # those that were asked for in this shift
        self._deadlines: dict[Key, float] = {}
        self._touched: dict[Key, None] = {}
        self._unsaved: set[tuple[Key, Watched]] = set()
        self._save_at = 0.0
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self._running = True
        self._abandoned = False  # set by the desk's caller, for good
        self.told: dict[Key, Told] = {}  # what was told last; copied by the desk's caller when it abandons the shift
        self.handover: Handover | None = None  # set once, when the thread touches it no more
        name = f"meshsdk-registry-{settings.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def end(self) -> None:
        """Has watches, connections and threads end; waits for nothing."""
        self._events.put(_Stop())

    def join(self, seconds: float) -> bool:
        """Waits for the end; returns whether it has come."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """Whatever becomes of the thread: it tells and saves nothing any more."""
        self._abandoned = True

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
        self._asking = Asking(self._settings.name, self._registry, self._events.put)
        while self._running:
            self._loop()
        self._finish()

    def _loop(self) -> None:
        events = self._next_events()
        now = self._clock()
        for event in events:
            self._protected(self._handle, event, now)
        self._touched.update((key, None) for key, at in self._deadlines.items() if at <= now)
        touched, self._touched = self._touched, {}
        for key in touched:
            self._protected(self._turn, key, now)
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
            self._followed[event.key] = Followed(consumer)
            last = self._remembered.pop(event.key, None)
            if last is not None:
                self._say(replace(last, problem=_REMEMBERED, origin="cache"))
        else:
            known.consumer.source = event.source
            known.consumer.migrate(mode)
            known.consumer.tell_again()
        self._touched[event.key] = None

    def _end(self, key: Key) -> None:
        followed = self._followed.pop(key, None)
        self._deadlines.pop(key, None)
        self._touched.pop(key, None)
        self.told.pop(key, None)
        if followed is not None:
            followed.consumer.close()
            for one in followed.open.values():
                _cancel(one)

    def _answered(self, answer: Answer, now: float) -> None:
        ask = answer.ask
        if answer.malformed and isinstance(ask, GetRevision):
            news, first = self._catalogue.malformed(ask, now)
            if first:
                words = "%s: %s; instances of this revision are taken to serve whatever their application serves"
                _LOG.warning(words, self._settings.words, answer.problem)
        elif answer.problem:
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

    def _turn(self, key: Key, now: float) -> None:
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
                self._watch(one, followed.consumer.source.unit)
        if turn.told is not None:
            self._say(replace(turn.told, origin=turn.told.origin or self._settings.words))
        deadlines = [at for at in (followed.consumer.deadline(),) if at is not None]
        if any(one.watch is None for one in followed.open.values()):
            deadlines.append(now + _RETRY)
        if deadlines:
            self._deadlines[key] = max(min(deadlines), now)
        else:
            self._deadlines.pop(key, None)

    def _say(self, told: Told) -> None:
        if not self._abandoned:
            if told.endpoints is not None:
                self.told[told.key] = told
            self._tell(told)

    def _watch(self, one: _Open, unit: str) -> None:
        try:
            one.watch = self._registry.watch(one.watched.app, unit, lambda told: self._events.put(_Heard(one, told)))
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
        if self._settings.memory is None or self._abandoned:
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

    def _finish(self) -> None:
        """Nothing of this shift may be inside gRPC when the desk's `stop` returns: a fork may follow."""
        watches = [one for followed in self._followed.values() for one in followed.open.values()]
        for followed in self._followed.values():
            followed.open.clear()
        for key in self._followed.keys() - self._wanted:
            self._followed.pop(key).consumer.close()
        self._catalogue.interrupted()
        self.handover = Handover(self._catalogue, self._followed)
        for one in watches:
            self._protected(_cancel, one)
        self._protected(self._registry.close)
        for one in watches:
            if isinstance(one.watch, Following):
                one.watch.join(_JOIN)
        if self._asking is not None:
            self._asking.stop()
            self._asking.join()


def _cancel(one: _Open) -> None:
    if one.watch is not None:
        one.watch.cancel()
