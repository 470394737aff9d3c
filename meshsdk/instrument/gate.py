"""The gate of a woven channel: which way its calls go at this moment, and why.

It puts together what the switch says and what the mesh knows of the host. Woven channels ask it when their way has
changed; it carries no call. Nothing is watched, and no thread starts, before the first call.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from meshsdk.instrument.fallback import Fallbacks
from meshsdk.instrument.switch import Switch
from meshsdk.instrument.way import Verdict, Way, verdict_on, way
from meshsdk.interceptors.client_sync import FIRST_WAIT
from meshsdk.model.snapshot import Snapshot, Unresolvable

if TYPE_CHECKING:
    from meshsdk.bootstrap import Bootstrap


class Owner(Protocol):
    """The woven channel of a gate."""

    def moved(self) -> None:
        """The gate's way has changed. Called on any thread; must not block."""

    def after_fork_in_child(self) -> None:
        """This is a child process: nothing that ran in the parent runs here."""


class Watch(Protocol):
    """A watch of the engine."""

    def cancel(self) -> None:
        """Ends it."""


class Engine(Protocol):
    """The engine as woven channels see it: `meshsdk.channel.mesh.Mesh`."""

    @property
    def bootstrap(self) -> Bootstrap:
        """What the process was configured with."""

    def channel(self, target: str, options: Any = None, *, credentials: Any = None, compression: Any = None) -> Any:
        """Returns a mesh channel."""

    def aio_channel(self, target: str, options: Any = None, *, credentials: Any = None, compression: Any = None) -> Any:
        """Returns a mesh channel for asyncio."""

    def watch(self, target: str, on_resolution: Callable[[Snapshot | Unresolvable], None]) -> Watch:
        """Reports every configuration of a target."""

    def watch_runtime(self, name: str, on_layer: Callable[[Any], None]) -> Watch:
        """Reports every version of a runtime layer."""


class Gate:
    """The gate of one channel.

    Thread rules: `way` is published by one assignment and read by any thread; the rest is guarded by `_changed`, which
    is never held while the engine or a listener is called.
    """

    def __init__(self, target: str, host: str, engine: Callable[[], Engine], switch: Switch) -> None:
        """`target`: as the application gave it; `host`: what it names. `engine` may raise: then the mesh cannot."""
        self.way = Way.UNDECIDED
        self.problem = "no configuration yet"
        self.fallbacks = Fallbacks(target)
        self._host = host
        self._engine = engine
        self._switch = switch
        self._owner: weakref.ref[Owner] | None = None
        self._reset()
        _gates.add(self)

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._verdict = Verdict.AWAITED
        self._watch: Watch | None = None
        self._watching = 0  # number of the present watch; what an earlier one still says does not count
        self._first_call: float | None = None
        self._late = False  # the time that first calls may wait is over
        self._listening = False  # to the switch
        self._closed = False

    def owned(self, owner: Owner) -> None:
        """Tells `owner`, held weakly, of each change of `way`."""
        self._owner = weakref.ref(owner)

    @property
    def service(self) -> str:
        """The target of the mesh that the host stands for. Raises what the engine raises where there is none."""
        scheme = "xds" if self._engine().bootstrap.servers else "mesh"
        return f"{scheme}:///{self._host}"

    def patience(self, timeout: float | None) -> float:
        """Returns the seconds a call with this timeout may wait; all first calls share `FIRST_WAIT`.

        What it leaves of a call's own timeout is enough for the direct path.
        """
        now = time.monotonic()
        with self._changed:
            if self._first_call is None:
                self._first_call = now
            left = max(0.0, self._first_call + FIRST_WAIT - now)
        return left if timeout is None else min(left, timeout / 2)

    def open(self) -> Way:
        """Begins to watch, if that has not begun; returns the way as it is known now."""
        _bury()
        with self._changed:
            listen = not (self._listening or self._closed)
            self._listening |= listen
        if listen:
            self._switch.listen(self._switched)
        try:
            self._switch.follow(self._engine())
        except Exception as error:  # noqa: BLE001 - whatever the engine has: calls must go on
            self._take(self._watching, Verdict.FAILED, f"{type(error).__name__}: {error}")
            return self.way
        self._switched()
        return self.way

    def decided(self, timeout: float | None) -> Way:
        """Opens, and waits for the mesh's first word as long as a call with this timeout may. Blocks."""
        way = self.open()
        if way is not Way.UNDECIDED:
            return way
        patience = self.patience(timeout)
        with self._changed:
            self._changed.wait_for(lambda: self.way is not Way.UNDECIDED, patience)
        return self.settled()

    def settled(self) -> Way:
        """Returns the way of a call that will not wait any longer; once the shared time is over, that of all."""
        if self.way is Way.UNDECIDED and self.patience(None) == 0.0:
            with self._changed:
                self._late = True
            self._publish()
        return Way.FALLBACK if self.way is Way.UNDECIDED else self.way

    def failed(self, error: Exception) -> None:
        """The engine cannot make a channel to the host."""
        self._take(self._watching, Verdict.FAILED, f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """The channel was closed: watches nothing any more."""
        with self._changed:
            self._closed = True
            watch, self._watch = self._watch, None
            self._watching += 1
        if watch is not None:
            watch.cancel()

    def __del__(self) -> None:
        """A channel that is dropped without `close`: its watch ends when the next gate opens. Takes no lock."""
        if self._watch is not None:
            _dropped.append(self._watch)

    def after_fork_in_child(self) -> None:
        """Watches anew from the child's first call on."""
        closed = self._closed
        self._reset()
        self._closed = closed
        self.way = Way.UNDECIDED
        owner = None if self._owner is None else self._owner()
        if owner is not None:
            owner.after_fork_in_child()

    def _switched(self) -> None:
        """Watches the host while it is to be intercepted, and not otherwise."""
        wanted = self._switch.traffic.client
        with self._changed:
            start = wanted and self._watch is None and not self._closed
            stale = None if wanted else self._watch
            if start:
                self._watch = _Opening()
            if stale is not None:
                self._watch = None
                self._verdict = Verdict.AWAITED
            if start or stale is not None:
                self._watching += 1
            number = self._watching
        if stale is not None:
            stale.cancel()
        if start:
            self._begin(number)
        self._publish()

    def _begin(self, number: int) -> None:
        held = weakref.ref(self)

        def heard(resolution: Snapshot | Unresolvable) -> None:
            gate = held()
            if gate is not None:
                gate._heard(number, resolution)  # noqa: SLF001 - its own

        try:
            watch = self._engine().watch(self.service, heard)
        except Exception as error:  # noqa: BLE001 - whatever the engine has: calls must go on
            self._take(number, Verdict.FAILED, f"{type(error).__name__}: {error}")
            return
        with self._changed:
            current = self._watching == number
            if current:
                self._watch = watch
        if not current:
            watch.cancel()

    def _heard(self, number: int, resolution: Snapshot | Unresolvable) -> None:
        with self._changed:
            before = self._verdict
        self._take(number, *verdict_on(resolution, before))

    def _take(self, number: int, verdict: Verdict, problem: str) -> None:
        with self._changed:
            if number != self._watching or verdict is self._verdict:
                return
            self._verdict, self.problem = verdict, problem
        self._publish()

    def _publish(self) -> None:
        with self._changed:
            found = way(intercepted=self._switch.traffic.client, verdict=self._verdict, patient=not self._late)
            if self._verdict is Verdict.AWAITED and self.way is Way.DIRECT:
                found = Way.DIRECT  # just switched on: calls go on as they did until the mesh has its word
            if found is self.way:
                return
            self.way = found
            if found is Way.FALLBACK:
                self.fallbacks.began(self.problem)
            else:
                self.fallbacks.ended()
            self._changed.notify_all()
        owner = None if self._owner is None else self._owner()
        if owner is not None:
            owner.moved()


class _Opening:
    """Stands for a watch that is being made."""

    def cancel(self) -> None:
        """The number of the watch has moved on, which ends it as soon as it is made."""


_gates: weakref.WeakSet[Gate] = weakref.WeakSet()
_dropped: deque[Watch] = deque()


def _bury() -> None:
    """Ends the watches of channels that were dropped."""
    while _dropped:
        _dropped.popleft().cancel()


def _after_fork_in_child() -> None:
    _dropped.clear()
    for switch in {gate._switch for gate in _gates}:  # noqa: SLF001 - they are this file's
        switch.after_fork_in_child()
    for gate in list(_gates):
        gate.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
