"""Reports the counts of calls to the xDS servers that ask for them (LRS). The thread around `load_reports`.

Owned by an XdsClient. A report stream lives on the connection of an ADS stream, which hands the connection over when it
ends: it is closed once what was counted has been reported, or soon. The thread starts when a cluster asks for reports,
so a mesh whose control plane does not has none.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import grpc

from meshsdk.xds_client.load_counts import LoadCounts
from meshsdk.xds_client.load_reports import LoadReports, Phase, Step
from meshsdk.xds_client.load_stream import LoadStream, Ordered, Over, StreamEvent

_LOGGER = logging.getLogger(__name__)
_PATIENCE = 1.0  # seconds that a server has to take a last report
_JOIN = 5.0  # seconds to wait for a thread that has been told to end


@dataclass(slots=True)
class _Link:
    """One connection and the reports on it. Owned by the thread.

    `leave_by`: the connection's ADS stream, or the whole mesh, has ended, and this is how long a last report may take;
    `ours`: the connection is ours to close.
    """

    server: str
    channel: grpc.Channel
    reports: LoadReports
    stream: LoadStream | None = None
    leave_by: float | None = None
    ours: bool = False


@dataclass(frozen=True, slots=True)
class _Carried:
    server: str
    channel: grpc.Channel


@dataclass(frozen=True, slots=True)
class _LetGo:
    channel: grpc.Channel


@dataclass(frozen=True, slots=True)
class _Wanted:
    pass


@dataclass(frozen=True, slots=True)
class _Stop:
    pass


_Event = StreamEvent | _Carried | _LetGo | _Wanted | _Stop


class LoadReporter:
    """`carry`, `let_go` and `close` are for any thread; `_lock` guards `_thread` and `_closed`; the rest is its own."""

    def __init__(
        self,
        loads: LoadCounts,
        node: Any,
        draw: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`node`: the Node message of this client; `draw` gives floats in [0, 1)."""
        self._loads = loads
        self._node = node
        self._draw = draw
        self._clock = clock
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self._links: list[_Link] = []
        self._codec: Any = None  # codec.loads, imported when the first stream is opened
        self._stopping = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        loads.listen(self._wake)

    def carry(self, server: str, channel: grpc.Channel) -> None:
        """An ADS stream to a server (its URI) is opened on this connection."""
        self._events.put(_Carried(server, channel))
        if self._loads.wanted(server):
            self._wake()

    def let_go(self, channel: grpc.Channel) -> None:
        """The ADS stream has ended: the connection is ours, and is closed soon. Never blocks."""
        with self._lock:
            if self._thread is not None:
                self._events.put(_LetGo(channel))
                return
        channel.close()

    def close(self) -> None:
        """Makes a last report and ends; waits a moment at most for servers to have taken it."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._events.put(_Stop())
            thread.join(_PATIENCE + _JOIN)

    def _wake(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._events.put(_Wanted())
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="meshsdk-loads", daemon=True)
                with contextlib.suppress(RuntimeError):  # the interpreter ends: there is no time left to report
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        while not self._stopping or self._links:
            try:
                self._turn()
            except Exception:
                _LOGGER.exception("meshsdk's load reports met an error and go on; please report it")
        with self._lock:
            self._thread = None
        with contextlib.suppress(Empty):  # connections that came too late: from now on `let_go` closes them
            while True:
                event = self._events.get_nowait()
                if isinstance(event, _LetGo):
                    event.channel.close()

    def _turn(self) -> None:
        deadlines = [at for link in self._links for at in (link.reports.deadline(), link.leave_by)]
        at = min((one for one in deadlines if one is not None), default=None)
        with contextlib.suppress(Empty):
            self._handle(self._events.get(timeout=None if at is None else max(0.0, at - self._clock())))
            while True:
                self._handle(self._events.get_nowait())
        now = self._clock()
        for link in list(self._links):
            self._step(link, now)
            if link.leave_by is not None and (now >= link.leave_by or _is_done(link)):
                self._drop(link)

    def _step(self, link: _Link, now: float) -> None:
        if link.reports.phase is Phase.QUIET and self._loads.wanted(link.server) and not self._told_elsewhere(link):
            link.reports.want(now)
        step = link.reports.take(now)
        if step is Step.OPEN:
            self._open(link)
        elif step is not None and link.stream is not None:
            self._report(link, link.stream, last=step is Step.LAST_REPORT)

    def _told_elsewhere(self, link: _Link) -> bool:
        """Two authorities may have one server: it is told once."""
        others = (one for one in self._links if one is not link and one.server == link.server)
        return any(one.reports.phase is not Phase.QUIET and one.leave_by is None for one in others)

    def _drop(self, link: _Link) -> None:
        self._links.remove(link)
        if link.stream is not None:
            link.stream.close(_JOIN)
        if link.ours:
            link.channel.close()

    def _handle(self, event: _Event) -> None:
        if isinstance(event, Ordered):
            self._take_order(event)
        elif isinstance(event, Over):
            self._lose(event)
        elif isinstance(event, _Carried):
            self._links.append(_Link(event.server, event.channel, LoadReports(self._draw)))
        elif isinstance(event, _LetGo):
            self._leave([link for link in self._links if link.channel is event.channel], ours=True)
        elif isinstance(event, _Stop):
            self._stopping = True
            self._leave(self._links, ours=False)

    def _leave(self, links: list[_Link], *, ours: bool) -> None:
        for link in links:
            link.reports.finish()
            link.ours |= ours
            if link.leave_by is None:
                link.leave_by = self._clock() + _PATIENCE

    def _take_order(self, event: Ordered) -> None:
        link = self._find(event.stream)
        if link is None:
            return
        order = self._codec.order(event.data)
        if order is None:
            event.stream.close(_JOIN)
            self._lose(Over(event.stream, "INTERNAL", "the server sent what is no LoadStatsResponse"))
        else:
            link.reports.ordered(order.interval, order.clusters, self._clock())

    def _find(self, stream: LoadStream) -> _Link | None:
        return next((link for link in self._links if link.stream is stream), None)

    def _lose(self, event: Over) -> None:
        link = self._find(event.stream)
        if link is None:
            return
        link.stream = None
        link.reports.ended(event.code, self._clock())
        _LOGGER.info("load reports to %s ended: %s: %s", link.server, event.code, event.details)

    def _open(self, link: _Link) -> None:
        try:
            if self._codec is None:
                self._codec = importlib.import_module("meshsdk.xds_client.codec.loads")
            link.stream = LoadStream(link.channel, self._codec.METHOD, self._events.put)
        except (ValueError, RuntimeError):  # the connection was closed meanwhile, or the interpreter ends
            link.reports.ended("UNAVAILABLE", self._clock())
            return
        link.stream.send(self._codec.first_request(self._node, self._loads.process))

    def _report(self, link: _Link, stream: LoadStream, *, last: bool) -> None:
        loads = self._loads.take(link.server, link.reports.clusters)
        number = self._loads.taken(link.server)
        stream.send(self._codec.report(loads, link.reports.covered(self._clock()), number, last=last))
        if last:
            stream.done()


def _is_done(link: _Link) -> bool:
    """Tells whether there is nothing to wait for any more: the server's end of a last report is its receipt."""
    return link.stream is None if link.reports.phase is Phase.FINISHED else link.reports.over
