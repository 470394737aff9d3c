"""A hedged call of the synchronous façade: several attempts at once, of which one becomes the call (gRFC A6).

It has the interface of grpcio's own call objects and stands where one attempt would: under a `BlockingCall`, which runs
it on its own thread (`drive`), or under a `MeshCall`. What to do when, says `interceptors.policies.hedge`.

A call with one answer commits when an attempt ends; a stream of answers when the first of an attempt has come, which a
thread of its own waits for, so that attempts that are behind can be told apart. Streams of requests are not hedged.
"""

from __future__ import annotations

import logging
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import grpc

from meshsdk.channel.attempt import ended_with
from meshsdk.channel.failure import CallCancelled, CallRaised
from meshsdk.channel.hedged_attempts import HedgedAttempts, HedgedCallee, Running
from meshsdk.channel.timers import TIMERS, Timer
from meshsdk.interceptors.policies.hedge import Won
from meshsdk.interceptors.policies.steps import Attempt, Outcome

_LOG = logging.getLogger(__name__)
_OK = grpc.StatusCode.OK


class HedgedCall:
    """One call.

    Thread rules: all fields are guarded by `_state`, whose lock the same thread may take again; grpc is asked to cancel
    outside of it.
    """

    def __init__(
        self, callee: HedgedCallee, stub: Callable[[Any], Any], *, streamed: bool = False, driven: bool = False
    ) -> None:
        """Begins the call. `stub(connection)` gives grpc's multi-callable; `streamed`: its answer is a stream.

        `driven`: a thread runs `drive`. Raises what grpc raises for what it cannot send.
        """
        self._callee = callee
        self._stub = stub
        self._streamed = streamed
        self._driven = driven
        self._state = threading.Condition()
        self._attempts = HedgedAttempts(callee)
        self._timer: Timer | None = None
        self._winner: Running | None = None
        self._ending: Any = None  # what tells how the call ended: the winner's, or an error; None while it runs
        self._cancelled = False
        self._callbacks: list[Callable[[Any], None]] = []
        self.unsent = False
        """Whether no attempt of the call, which has ended, ever left the process."""
        self._go_on()

    # Attempts

    def _go_on(self) -> None:
        """Does what the policy says, until it has nothing more to say now."""
        lost: list[Running] = []
        with self._state:
            while not self._cancelled and self._winner is None:
                step = self._attempts.hedge.step(time.monotonic())
                if isinstance(step, Attempt):
                    self._begin(step)
                    continue
                if isinstance(step, Won):
                    lost = self._commit(self._attempts.made[step.number])
                break
            self._arm()
            self._state.notify_all()
        for one in lost:
            one.inner.cancel()
        self._conclude()

    def _begin(self, attempt: Attempt) -> None:
        running = self._attempts.begin(attempt)
        if running is None:
            return
        try:
            stub, options = self._stub(running.backend.connection), self._callee.options
            make = stub if self._streamed else stub.future
            left, metadata = self._attempts.arguments(running, attempt)
            running.inner = make(self._callee.request, left, metadata, options.credentials, None, options.compression)
        except BaseException as error:
            running.end()
            if running.number == 0 or not isinstance(error, Exception):
                raise
            running.inner = CallRaised(error)
            self._attempts.failed(running, Outcome("UNAVAILABLE", unsent=True))
            self._attempts.hedge.refused()  # whatever closed its connection: those that run decide
            return
        running.inner.add_done_callback(lambda _: self._ended(running))
        if self._streamed:
            threading.Thread(target=self._read_first, args=(running,), name="meshsdk-hedge", daemon=True).start()

    def _read_first(self, running: Running) -> None:
        try:
            running.message = (next(running.inner),)
        except StopIteration:
            pass  # an empty stream that ended OK
        except grpc.RpcError:
            self._judge(running)
            return
        with self._state:
            self._attempts.hedge.answered(running.number)
        self._go_on()

    def _ended(self, running: Running) -> None:
        """An attempt has ended. Called once for each, by grpc's thread."""
        with self._state:
            running.end()
            won = running is self._winner
        if won or self._streamed:
            self._conclude()
        else:
            self._judge(running)

    def _judge(self, running: Running) -> None:
        """Tells the policy of the end of an attempt that did not win before it."""
        with self._state:
            lost = self._winner is not None or self._cancelled
        if not lost:
            reached = self._attempts.judge(running, ended_with(running.inner, initial=False, timed_out=False))
            with self._state:
                if reached.code == "OK":
                    self._attempts.hedge.answered(running.number)
                else:
                    self._attempts.failed(running, reached)
        self._go_on()

    def _commit(self, winner: Running) -> list[Running]:
        """The call is this attempt from now on; returns those to cancel."""
        self._winner = winner
        return [one for one in self._attempts.made if one is not winner and not one.over]

    def _conclude(self) -> None:
        """Ends the call if what it is has ended."""
        with self._state:
            winner = self._winner
            if self._ending is not None or winner is None or not winner.over:
                return
            if not winner.judged and not winner.inner.cancelled():  # a stream, which won by its first answer
                self._attempts.judge(winner, ended_with(winner.inner, initial=False, timed_out=False))
            self._ending = winner.inner
            self._tell_course(winner, winner.inner.code().name)
        self._tell()

    def _tell_course(self, winner: Running, code: str) -> None:
        self._attempts.conclude(winner, code)
        self.unsent = all(one.unsent for one in self._attempts.made)

    def _tell(self) -> None:
        with self._state:
            callbacks, self._callbacks = self._callbacks, []
            self._arm()
            self._state.notify_all()
        for callback in callbacks:
            try:
                callback(self)
            except Exception:  # noqa: BLE001 - the others must be told, as in grpcio
                _LOG.exception("a callback of a hedged call raised")

    # Time

    def _arm(self) -> None:
        """Has the policy asked again when the next attempt is due, and only then."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._due()
        if due is not None and not self._driven:
            self._timer = TIMERS.at(due, self._go_on)

    def _due(self) -> float | None:
        over = self._cancelled or self._winner is not None or self._ending is not None
        return None if over else self._attempts.hedge.due

    def drive(self) -> Any:
        """Runs the call on this thread, to its end; returns what tells how it ended. An interrupt cancels it."""
        try:
            while True:
                with self._state:
                    if self._ending is not None:
                        return self._ending
                    due = self._due()
                    self._state.wait(None if due is None else max(0.0, due - time.monotonic()))
                if due is not None and due <= time.monotonic():
                    self._go_on()
        except BaseException:
            self.cancel()
            raise

    # What stands over it asks

    def _over(self, timeout: float | None = None) -> Any:
        with self._state:
            if not self._state.wait_for(lambda: self._ending is not None, timeout):
                raise grpc.FutureTimeoutError
            return self._ending

    def _decided(self) -> Any:
        """Blocks until the call is one attempt, or has ended without; returns grpc's call or the error."""
        with self._state:
            self._state.wait_for(lambda: self._winner is not None or self._ending is not None)
            return self._ending if self._winner is None else self._winner.inner

    def __iter__(self) -> HedgedCall:
        return self

    def __next__(self) -> Any:
        inner = self._decided()
        with self._state:
            ahead, winner = None, self._winner
            if winner is not None:
                ahead, winner.message = winner.message, None
        return ahead[0] if ahead is not None else next(inner)

    def result(self, timeout: float | None = None) -> Any:
        """See `grpc.Future.result`."""
        return self._over(timeout).result()

    def exception(self, timeout: float | None = None) -> Exception | None:
        """See `grpc.Future.exception`."""
        error: Exception | None = self._over(timeout).exception()
        return error

    def traceback(self, timeout: float | None = None) -> types.TracebackType | None:
        """See `grpc.Future.traceback`."""
        traceback: types.TracebackType | None = self._over(timeout).traceback()
        return traceback

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Calls `fn` with this call at its end, or now if it has ended."""
        with self._state:
            if self._ending is None:
                self._callbacks.append(fn)
                return
        fn(self)

    def done(self) -> bool:
        """Tells whether the call has ended."""
        return self._ending is not None

    def cancelled(self) -> bool:
        """Tells whether the application cancelled the call."""
        return self._ending is not None and bool(self._ending.cancelled())

    def cancel(self) -> bool:
        """Cancels every attempt, and the call."""
        with self._state:
            if self._ending is not None:
                return False
            self._cancelled = True
            running = [one for one in self._attempts.made if not one.over]
            winner = self._winner or (running[0] if running else None)
            if winner is None:  # between two attempts
                self._ending = CallCancelled()
                self._tell_course(self._attempts.made[-1], "CANCELLED")
            else:
                self._winner = winner
        for one in running:
            one.inner.cancel()
        if winner is None:
            self._tell()
        else:
            self._conclude()
        return True

    def initial_metadata(self) -> Any:
        """Blocks until the call is one attempt, and for that one's headers."""
        return self._decided().initial_metadata()

    def trailing_metadata(self) -> Any:
        """Blocks for the end."""
        return self._over().trailing_metadata()

    def code(self) -> grpc.StatusCode:
        """Blocks for the end."""
        code: grpc.StatusCode = self._over().code()
        return code

    def details(self) -> str:
        """Blocks for the end."""
        details: str = self._over().details()
        return details

    def debug_error_string(self) -> str:
        """Blocks for the end."""
        words: str = self._over().debug_error_string()
        return words
