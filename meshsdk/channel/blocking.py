"""The slow path of a blocking unary call: waiting for a backend, moving, retrying. Runs on the caller's thread."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc

from meshsdk.channel.attempt import CallOptions, outcome, shorter, with_previous
from meshsdk.channel.course import Course
from meshsdk.channel.pool import Connection
from meshsdk.channel.stack import Target
from meshsdk.channel.waiting import wait_for_backend
from meshsdk.interceptors.drivers import drive, first
from meshsdk.interceptors.policies.recover import recover
from meshsdk.interceptors.policies.steps import Attempt, Outcome
from meshsdk.model.resources import Forward
from meshsdk.xds_client.load_counts import Tally

if TYPE_CHECKING:
    from meshsdk.channel.sync_methods import UnaryUnary


class BlockingCall:
    """One call. Used by one thread."""

    def __init__(
        self, method: UnaryUnary, target: Target, request: Any, options: CallOptions, began: float = 0.0
    ) -> None:
        """`began`: monotonic seconds at the first attempt; 0.0: now."""
        self._method = method
        self._target = target
        self._request = request
        self._options = options
        self._began = began or time.monotonic()
        self._deadline = None if options.timeout is None else self._began + options.timeout
        self._forward: Forward | None = None
        self._course = Course(target)
        self._answer: tuple[Any, grpc.Call] | None = None
        self._error: grpc.RpcError | None = None

    def run(self) -> tuple[Any, grpc.Call]:
        """Makes the call from its start: nothing was connected when it began."""
        return self._conclude(lambda: self._attempt(Attempt()))

    def resume(
        self, forward: Forward, connection: Connection, tally: Tally, error: grpc.RpcError
    ) -> tuple[Any, grpc.Call]:
        """Goes on after a first attempt that failed with `error`."""
        self._rule(forward)
        self._course.take(tally)
        return self._conclude(lambda: self._failed(connection, error))

    def _conclude(self, attempt: Callable[[], Outcome]) -> tuple[Any, grpc.Call]:
        try:
            ended = attempt()
            retry = None if self._forward is None else self._forward.retry
            steps = recover(retry, random.random)
            drive(steps, first(steps, ended), self._attempt, self._sleep)
        except grpc.RpcError as error:
            self._count(error)
            raise
        self._count(self._error)
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # an exception that holds its own frame would keep request and channel alive
        if self._answer is None:
            raise AssertionError("an attempt ends with an answer or an error")
        return self._answer

    def _count(self, error: Any) -> None:
        """Counts the call at its end. One that the close of its channel ended was cancelled by the application."""
        code = grpc.StatusCode.OK if error is None else error.code()
        closed = self._method.channel.target is not self._target
        self._course.end(code.name, cancelled=closed and code is grpc.StatusCode.CANCELLED)

    def _rule(self, forward: Forward) -> None:
        """The first route of a call caps the whole of it (A31)."""
        if self._forward is None:
            limit = shorter(self._options.timeout, forward)
            self._deadline = None if limit is None else self._began + limit
        self._forward = forward

    def _attempt(self, attempt: Attempt) -> Outcome:
        method, options = self._method, self._options
        channel = method.channel
        metadata = with_previous(options.metadata, attempt)
        forward, backend = wait_for_backend(
            channel.scope,
            self._target,
            lambda: self._target.take(method.method, metadata, self._request, channel.id),
            self._deadline,
            lambda: channel.target is not self._target,
            wait_for_ready=options.wait_for_ready,
        )
        self._rule(forward)
        connection, tally = backend.connection, backend.tally
        self._course.take(tally)
        left = None if self._deadline is None else self._deadline - time.monotonic()
        connection.begin(None)
        tally.begin(None)
        try:
            self._answer = method.stub(connection).with_call(
                self._request, left, metadata, options.credentials, None, options.compression
            )
        except grpc.RpcError as error:
            return self._failed(connection, error)
        finally:
            tally.leave()
            connection.end()
        self._course.attempted(unsent=False)
        self._error = None
        self._target.noticed(connection, self._answer[1].trailing_metadata() or ())
        return Outcome("OK")

    def _failed(self, connection: Connection, error: Any) -> Outcome:
        self._error = error
        trailing = error.trailing_metadata()
        self._target.noticed(connection, trailing or ())
        ended = outcome(error.code(), error.details(), trailing, connection, committed=False)
        self._course.attempted(unsent=ended.unsent)
        return ended

    def _sleep(self, seconds: float) -> None:
        """Sleeps unless the deadline comes first: then the last error is the call's own (as gRPC does)."""
        if self._deadline is not None and time.monotonic() + seconds >= self._deadline and self._error is not None:
            raise self._error
        time.sleep(seconds)
