"""Mirrors: copies of calls that go to another cluster in the background, and whose answers nobody reads.

Called by both façades, once a call, after its gates and before its first attempt, where the call's plan has mirrors
(`envoy.config.route.v3.RouteAction.request_mirror_policies`). It never delays the call, never fails it and never waits:
a copy that finds no connected endpoint, or too many copies running, is dropped and counted.

Copied are calls with one request. A stream of requests is not: its copy would have to hold back, or outgrow, the call.
Envoy marks a copy by `-shadow` behind the host; a gRPC connection has one :authority, which TLS checks, so that a copy
is marked by the metadata `meshsdk-mirror: 1` instead.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import grpc

from meshsdk.channel.attempt import Counted, Ended, ended_with, outcome
from meshsdk.channel.settled import now
from meshsdk.channel.stack import Hold, Lane, Metadata, Target

if TYPE_CHECKING:
    from meshsdk.channel.attempt import CallOptions
    from meshsdk.channel.pool import Connection, PooledBackend

LONGEST = 15.0  # seconds; for copies of calls without a deadline (Envoy's default timeout of a route)
MARK = ("meshsdk-mirror", "1")

_LOG = logging.getLogger(__name__)


class Method(Protocol):
    """The multi-callable of either façade."""

    def stub(self, connection: Connection) -> Any:
        """Returns grpc's multi-callable of a connection."""


class Mirroring(NamedTuple):
    """What is copied. `streamed`: its answer is a stream. `options`: with the metadata that the call sends.

    `deadline`: the call's, monotonic seconds.
    """

    target: Target
    method: Method
    request: Any
    options: CallOptions
    channel_id: int
    streamed: bool
    deadline: float | None

    def send(self, lane: Lane, loop: asyncio.AbstractEventLoop | None = None) -> tuple[str, ...]:
        """Sends the copies that the plan of the call's lane asks for; returns the clusters that get one.

        `loop`: that of an asyncio façade, on which this runs.
        """
        mirrors = () if lane.plan is None else lane.plan.mirrors
        drawn = [mirror.cluster for mirror in mirrors if random.random() < mirror.share]
        return tuple(cluster for cluster in drawn if self._copy(lane, cluster, loop))

    def _copy(self, lane: Lane, cluster: str, loop: asyncio.AbstractEventLoop | None) -> bool:
        mirrored = self.target.shared.mirrored
        backend = self._backend(lane, cluster)
        if backend is None:
            mirrored.drop(cluster)
        elif mirrored.enter(cluster):
            copy = _Copy(cluster, backend, self.target)
            try:
                if loop is None:
                    self._begin(copy)
                else:
                    self._begin_on(loop, copy)
            except Exception:  # noqa: BLE001 - what cannot be sent is the call's own to raise
                copy.leave("UNKNOWN")
                _LOG.debug("no copy of a call to %s could be made", cluster, exc_info=True)
                return False
            return True
        return False

    def _backend(self, lane: Lane, cluster: str) -> PooledBackend | None:
        routes = self.target.routes
        balancer = None if routes is None else routes.balancer(cluster)
        if balancer is None:
            return None
        there = Lane(lane.route, lane.forward, balancer, cluster)
        taken = self.target.take_slowly(there, self.options.metadata, self.channel_id)
        return None if isinstance(taken, Hold) else taken[1]

    @property
    def _timeout(self) -> float:
        return LONGEST if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    @property
    def _metadata(self) -> Metadata:
        return (*(self.options.metadata or ()), MARK)

    def _begin(self, copy: _Copy) -> None:
        stub = self.method.stub(copy.backend.connection)
        make = stub if self.streamed else stub.future
        options = self.options
        copy.inner = inner = make(
            self.request, self._timeout, self._metadata, options.credentials, None, options.compression
        )
        inner.add_done_callback(functools.partial(_ended, copy))
        if self.streamed:
            threading.Thread(target=_drain, args=(inner,), name="meshsdk-mirror", daemon=True).start()

    def _begin_on(self, loop: asyncio.AbstractEventLoop, copy: _Copy) -> None:
        inner = self.method.stub(copy.backend.connection)(
            self.request,
            timeout=self._timeout,
            metadata=self._metadata,
            credentials=self.options.credentials,
            compression=self.options.compression,
        )
        copy.inner = loop.create_task(_carry(inner, copy, streamed=self.streamed))
        copy.inner.add_done_callback(functools.partial(_carried, inner, copy))


class _Copy:
    """A copy that runs, counted at its mirror. `inner`: grpc's call, or the task that reads it."""

    __slots__ = ("_cluster", "_counted", "_target", "backend", "inner", "over")

    def __init__(self, cluster: str, backend: PooledBackend, target: Target) -> None:
        self.inner: Any = None
        self.over = False
        self.backend = backend
        self._counted = Counted(backend, None)
        self._cluster = cluster
        self._target = target
        target.shared.mirrored.kept.add(self)

    def end(self, ended: Ended) -> None:
        """What a call's end tells of its endpoint, a copy's does too."""
        if ended.trailing:
            self._target.noticed(self.backend.connection, ended.trailing)
        outcome(ended, self.backend, committed=False)
        self.leave(ended.code.name)

    def leave(self, code: str) -> None:
        """It has ended, and counts. Called once."""
        self.over = True
        self._counted.end()
        tally, mirrored = self._counted.tally, self._target.shared.mirrored
        if code == "OK":
            tally.succeed()
        else:
            tally.end(code, cancelled=False, retried=False, moved=False, doubled=False)
        mirrored.leave(self._cluster)
        mirrored.kept.discard(self)


def _ended(copy: _Copy, inner: Any) -> None:
    copy.end(ended_with(inner, initial=False, timed_out=False))


def _drain(answers: Iterable[Any]) -> None:
    """Reads a stream to its end, which it would not come to otherwise. On a thread of its own."""
    try:
        for _ in answers:
            pass
    except grpc.RpcError:
        return  # counted by `_ended`


def _carried(inner: Any, copy: _Copy, _: asyncio.Task[None]) -> None:
    """Ends a copy whose task was cancelled before its first step, which is not in `_carry` then."""
    if not copy.over:
        inner.cancel()
        copy.leave("CANCELLED")


async def _carry(inner: Any, copy: _Copy, *, streamed: bool) -> None:
    """Reads a copy to its end. A cancellation is that of its connection, or of the loop's last tasks."""
    try:
        if streamed:
            async for _ in inner:
                pass
        else:
            await inner
    except (grpc.RpcError, asyncio.CancelledError):
        pass  # its code is counted below
    finally:
        if inner.done():
            copy.end(Ended(now(inner.code()), now(inner.details()), tuple(now(inner.trailing_metadata()) or ())))
        else:
            copy.leave("CANCELLED")
