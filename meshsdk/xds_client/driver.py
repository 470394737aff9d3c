"""The driver: the one background thread of an XdsClient. It carries, the session decides.

A loop over a queue of events: watches and cancellations from `XdsClient`, what streams report and what registries tell.
After each batch it does what the session says: opens, feeds and closes streams, follows sources in registries, calls
watchers, saves resources.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import ParamSpec, Protocol

from envoy.config.core.v3 import base_pb2
from google.protobuf.message import DecodeError

from meshsdk.bootstrap import ServerConfig, Transport
from meshsdk.model.snapshot import Key
from meshsdk.model.told import Told
from meshsdk.telemetry.accumulating import Accumulator
from meshsdk.telemetry.families import LATENCY_BOUNDS
from meshsdk.xds_client.feeds import Feeds, NoFeeds
from meshsdk.xds_client.instances import Follow
from meshsdk.xds_client.last_good import LastGoodFiles
from meshsdk.xds_client.messages import Effect, Open, Send
from meshsdk.xds_client.names import Target
from meshsdk.xds_client.session import Link, Publication, Result, Session
from meshsdk.xds_client.stream import Connected, Ended, Message, StreamEvent
from meshsdk.xds_client.wire import encode, parse

_LOGGER = logging.getLogger(__name__)
_BATCH = 256  # events taken before effects are carried out
_SAVE_EVERY = 2.0  # seconds; endpoints may change many times in that time
_JOIN = 5.0  # seconds to wait for a thread that has been told to end


class Stream(Protocol):
    """The port to a server; `stream.AdsStream` is the real one."""

    def send(self, data: bytes) -> None:
        """Queues a serialised request."""

    def more(self) -> None:
        """Allows one more message to be posted."""

    def close(self) -> None:
        """Ends the stream without blocking."""

    def ended(self) -> bool:
        """Says whether a closed stream's threads have ended."""

    def join(self, timeout: float) -> None:
        """Waits until a closed stream's threads have ended."""


OpenStream = Callable[[ServerConfig, Transport, Callable[[StreamEvent], None]], Stream]


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A watch as the driver sees it; `wants` is False once it has been cancelled, from whatever thread."""

    id: int
    target: Target
    deliver: Callable[[Result], None]
    wants: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class _Unsubscribe:
    id: int


@dataclass(frozen=True, slots=True)
class _Stop:
    pass


_P = ParamSpec("_P")
_Event = StreamEvent | Subscriber | Told | _Unsubscribe | _Stop


class Driver:
    """Runs a session. `subscribe`, `unsubscribe`, `tell` and `stop` are for any thread; all fields are the driver's."""

    def __init__(
        self,
        session: Session,
        open_stream: OpenStream,
        node: base_pb2.Node,
        files: LastGoodFiles | None = None,
        feeds: Feeds | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self.convergence = Accumulator(LATENCY_BOUNDS)
        """Seconds from the turn that took a change in until those who watch have it; read by any thread."""
        self._open_stream = open_stream
        self._node = node
        self._files = files
        self._feeds = feeds or NoFeeds()
        self._clock = clock
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self._subscribers: dict[int, Subscriber] = {}
        self._streams: dict[Link, tuple[Stream, Transport]] = {}
        self._links: dict[Stream, Link] = {}  # streams that count; a closed stream's late events find none
        self._closing: list[Stream] = []
        self._reported: dict[Link, str] = {}  # the last outage logged for each link, until it answers again
        self._unsaved: set[Key] = set()
        self._save_at: float | None = None
        self._running = True
        self._thread = threading.Thread(target=self._run, name="meshsdk-xds", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def subscribe(self, subscriber: Subscriber) -> None:
        """Adds a watch."""
        self._events.put(subscriber)

    def unsubscribe(self, watch: int) -> None:
        """Ends a watch."""
        self._events.put(_Unsubscribe(watch))

    def tell(self, told: Told) -> None:
        """A service registry has told something."""
        self._events.put(told)

    def stop(self) -> None:
        """Ends streams and thread, and waits for it unless called from a watcher's callback."""
        self._events.put(_Stop())
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN)

    def _run(self) -> None:
        if self._files is not None:
            self._files.prune()
        while self._running:
            self._turn()
        self._finish()

    def _turn(self) -> None:
        """Waits for events and deals with them. A method, so that no message of megabytes outlives its turn."""
        events = self._next_events()
        now = self._session.store.now = self._clock()
        for event in events:
            self._protected(self._handle, event, now)
        self._protected(self._settle, now)
        self._protected(self._save, now)

    def _protected(self, step: Callable[_P, None], *args: _P.args, **kwargs: _P.kwargs) -> None:
        """A defect in one step must not end the thread on which all configuration arrives."""
        try:
            step(*args, **kwargs)
        except Exception:
            _LOGGER.exception("meshsdk's xDS thread met an error and goes on; please report it")

    def _next_events(self) -> list[_Event]:
        deadlines = [at for at in (self._session.deadline(), self._save_at) if at is not None]
        timeout = max(0.0, min(deadlines) - self._clock()) if deadlines else None
        events: list[_Event] = []
        with contextlib.suppress(Empty):
            events.append(self._events.get(timeout=timeout))
            while len(events) < _BATCH:
                events.append(self._events.get_nowait())
        return events

    def _handle(self, event: _Event, now: float) -> None:
        if isinstance(event, Message):
            self._receive(event, now)
        elif isinstance(event, Told):
            self._session.told(event)
        elif isinstance(event, Connected):
            link = self._links.get(event.stream)
            if link is not None:
                self._session.opened(link, now)
        elif isinstance(event, Ended):
            self._lose(event.stream, event.code, event.details, now)
        elif isinstance(event, Subscriber):
            self._subscribers[event.id] = event
            self._session.watch(event.id, event.target)
        elif isinstance(event, _Unsubscribe):
            self._subscribers.pop(event.id, None)
            self._session.cancel(event.id)
        else:
            self._running = False

    def _receive(self, event: Message, now: float) -> None:
        link = self._links.get(event.stream)
        if link is None:
            return
        event.stream.more()
        try:
            response = parse(self._streams[link][1], event.data)
        except DecodeError as error:
            self._lose(event.stream, "INTERNAL", f"the server sent what is no discovery response: {error}", now)
            return
        self._reported.pop(link, None)
        self._session.received(link, response, now)

    def _lose(self, stream: Stream, code: str, details: str, now: float) -> None:
        link = self._links.get(stream)
        if link is None:
            return
        self._release(link)
        self._session.closed(link, code, details, now)
        problem = self._session.problem(link)
        if not problem:
            _LOGGER.info("ADS stream to %s ended: %s: %s", self._session.server(link).uri, code, details)
        elif problem != self._reported.get(link):
            # A57 wants it logged; the same words again with every attempt of an outage would hide everything else.
            self._reported[link] = problem
            _LOGGER.warning("no configuration from the control plane: %s; trying on", problem)

    def _release(self, link: Link) -> None:
        stream, _ = self._streams.pop(link)
        del self._links[stream]
        stream.close()
        self._closing = [*(one for one in self._closing if not one.ended()), stream]

    def _settle(self, now: float) -> None:
        todo = self._session.take(now)
        for machine, effect in todo.effects:
            self._perform(Link(machine, effect.server), effect)
        for order in todo.orders:
            if isinstance(order, Follow):
                self._feeds.follow(order.key, order.source)
            else:
                self._feeds.unfollow(order.key)
        for publication in todo.publications:
            self._protected(self._deliver, publication)
        if todo.publications:
            self.convergence.add(self._clock() - now)
        if self._files is not None and todo.touched:
            self._unsaved |= todo.touched
            if self._save_at is None:
                self._save_at = self._clock() + _SAVE_EVERY

    def _perform(self, link: Link, effect: Effect) -> None:
        if isinstance(effect, Open):
            stream = self._open_stream(self._session.server(link), effect.transport, self._events.put)
            self._streams[link] = (stream, effect.transport)
            self._links[stream] = link
        elif isinstance(effect, Send):
            self._streams[link][0].send(encode(effect.request, self._node))
        else:
            self._release(link)

    def _deliver(self, publication: Publication) -> None:
        subscriber = self._subscribers.get(publication.watch)
        if subscriber is not None and subscriber.wants():
            subscriber.deliver(publication.result)

    def _save(self, now: float) -> None:
        if self._files is None or self._save_at is None or (now < self._save_at and self._running):
            return
        self._save_at = None
        entries = [self._session.store.get(key) for key in self._unsaved]
        self._unsaved.clear()
        store = self._session.store
        self._files.save((entry for entry in entries if entry is not None), lambda key: store.get(key) is not None)

    def _finish(self) -> None:
        for link in list(self._streams):
            self._release(link)
        for stream in self._closing:
            stream.join(_JOIN)
