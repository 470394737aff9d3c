"""Asks rate limit services on behalf of calls: what `drivers` calls for a gate's `Consult`, on threads and on asyncio.

One channel for each service: to its address, or through the mesh to its xDS cluster. Made by `mesh` for each scope and
closed with it. Never raises: what goes wrong is a `Verdict` without an answer, and the filter's failure mode decides.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import grpc.aio

from meshsdk.channel.threads import SyncLink
from meshsdk.errors import MeshError
from meshsdk.interceptors.policies.gate import Consult, Verdict
from meshsdk.model.filters import RateLimitService
from meshsdk.xds_client.codec.rate_limit_service import METHOD, question, reply

if TYPE_CHECKING:
    from meshsdk.channel.aio import MeshAioChannel
    from meshsdk.channel.sync import MeshChannel

_OPTIONS = (
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 10_000),
)
_NO_TIME = Verdict(None, "no time is left to ask")
_CLOSED = "the mesh is closed"


class _Place(NamedTuple):
    """Where a service is: one of the two."""

    cluster: str
    target: str


class _Line(NamedTuple):
    """A channel to a service, and the method on it."""

    channel: Any
    ask: Any


class _Lines:
    """The channels to services, one each. `_open` is written under `_lock`, and read without it."""

    def __init__(self, through_mesh: Callable[[str], Any], straight: Callable[[str], Any]) -> None:
        self._through_mesh = through_mesh
        self._straight = straight
        self._lock = threading.Lock()
        self._open: dict[_Place, _Line] = {}
        self._closed = False

    def find(self, consult: Consult) -> Any:
        """Returns the method of the service that a question is for. Raises MeshError, ValueError."""
        place = _Place(consult.cluster, consult.target)
        line = self._open.get(place)
        return line.ask if line is not None else self._dial(place).ask

    def _dial(self, place: _Place) -> _Line:
        with self._lock:
            if self._closed:
                raise ValueError(_CLOSED)
            line = self._open.get(place)
            if line is None:
                channel = self._through_mesh(place.cluster) if place.cluster else self._straight(place.target)
                line = self._open[place] = _Line(channel, channel.unary_unary(METHOD))
            return line

    def prepare(self, services: Iterable[RateLimitService], connect: Callable[[Any], object]) -> None:
        """Has connections made ahead of the first question, which has no time for it. Never raises.

        `connect`: makes a channel that is not the mesh's own do so.

        What keeps a service from being reached, its first question says. Called with no lock held: a channel of the
        mesh takes the scope's.
        """
        for service in services:
            place = _Place(service.cluster, service.target)
            if place not in self._open:
                with contextlib.suppress(MeshError, ValueError, grpc.aio.UsageError):
                    channel = self._dial(place).channel
                    channel.open() if place.cluster else connect(channel)

    def close(self) -> dict[_Place, _Line]:
        """Opens no more; returns what is to be closed."""
        with self._lock:
            self._closed = True
            lines, self._open = self._open, {}
            return lines


class ThreadRateLimitClient:
    """`drivers.RateLimitClient` of a `ThreadScope`. Safe from any thread."""

    def __init__(self, through_mesh: Callable[[str], MeshChannel]) -> None:
        """`through_mesh` makes a channel to an xDS cluster."""
        self._lines = _Lines(through_mesh, lambda target: grpc.insecure_channel(target, _OPTIONS))

    def ask(self, consult: Consult) -> Verdict:
        """See `drivers.RateLimitClient`. Blocks for `consult.timeout` seconds at most."""
        if consult.timeout <= 0:
            return _NO_TIME
        try:
            method = self._lines.find(consult)
            raw = method(question(consult.domain, consult.descriptors), timeout=consult.timeout)
            return _verdict(raw, consult)
        except (grpc.RpcError, MeshError, ValueError) as error:
            return Verdict(None, _problem(error))

    def prepare(self, services: Iterable[RateLimitService]) -> None:
        """Connects to services that calls will ask. Does not block."""
        self._lines.prepare(services, lambda channel: SyncLink(channel).probe())

    def close(self) -> None:
        """Closes the channels: questions under way end without an answer. May be repeated."""
        for line in self._lines.close().values():
            line.channel.close()


class LoopRateLimitClient:
    """`drivers.AioRateLimitClient` of a `LoopScope`. Everything runs on its loop."""

    def __init__(self, through_mesh: Callable[[str], MeshAioChannel]) -> None:
        """`through_mesh` makes a channel to an xDS cluster."""
        self._lines = _Lines(through_mesh, lambda target: grpc.aio.insecure_channel(target, _OPTIONS))

    async def ask(self, consult: Consult) -> Verdict:
        """See `drivers.AioRateLimitClient`. Waits for `consult.timeout` seconds at most."""
        if consult.timeout <= 0:
            return _NO_TIME
        try:
            method = self._lines.find(consult)
            raw = await method(question(consult.domain, consult.descriptors), timeout=consult.timeout)
            return _verdict(raw, consult)
        except (grpc.RpcError, grpc.aio.UsageError, MeshError, ValueError) as error:
            return Verdict(None, _problem(error))

    def prepare(self, services: Iterable[RateLimitService]) -> None:
        """Connects to services that calls will ask."""
        self._lines.prepare(services, lambda channel: channel.get_state(try_to_connect=True))

    async def close(self) -> None:
        """Closes the channels to addresses: questions under way are cancelled. May be repeated.

        Those through the mesh end with the scope, whose closing waits for this.
        """
        for place, line in self._lines.close().items():
            if not place.cluster:
                await line.channel.close()


def _verdict(raw: bytes, consult: Consult) -> Verdict:
    found = reply(raw, consult.descriptors)
    if found.over is None:
        return Verdict(None, "it answered with no code")
    return Verdict(not found.over, retry_after=found.retry_after, limit=found.limit)


def _problem(error: Exception) -> str:
    code = getattr(error, "code", None)
    if isinstance(error, grpc.RpcError) and callable(code):
        return f"{code().name}: {error.details()}"
    return str(error)
