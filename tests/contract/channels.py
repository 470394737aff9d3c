"""The channels of the contract: plain grpcio, the mesh's own, and grpcio's own with the mesh's interceptors.

The mesh gets its configuration from `ScriptedSource`; endpoints are real. What is meant to differ from a plain channel
is listed in `DIFFERENCES`, and nowhere else: a case asks `differs` and asserts on both sides.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from meshsdk.channel.aio import MeshAioChannel
from meshsdk.channel.loops import LoopScope
from meshsdk.channel.sync import MeshChannel
from meshsdk.channel.threads import ThreadScope
from meshsdk.interceptors.client_aio import aio_client_interceptors
from meshsdk.interceptors.client_sync import sync_client_interceptors
from meshsdk.model.endpoints import Endpoint, EndpointMap
from meshsdk.model.matching import PathKind, PathMatch, RouteMatch
from meshsdk.model.policy import LbConfig, RetryPolicy
from meshsdk.model.resources import (
    Cluster,
    ClusterEndpoints,
    EdsSource,
    Forward,
    Listener,
    Locality,
    LocalityEndpoints,
    Route,
    VirtualHost,
    WeightedCluster,
)
from meshsdk.model.snapshot import Leaf, ResolvedCluster, Snapshot, Unresolvable
from meshsdk.xds_client.load_counts import LoadCounts
from tests.contract.channel_callers import AioCaller, LoopThread, SyncCaller

TARGET = "xds:///orders"
HOST = "orders"
PATHS = ("plain", "mesh", "intercepted")
FACADES = ("sync", "aio")


def resolved(name: str, addresses: Iterable[str | Endpoint], lb: LbConfig | None = None) -> ResolvedCluster:
    """A cluster of endpoints in one locality."""
    endpoints = EndpointMap.of(where if isinstance(where, Endpoint) else Endpoint(where) for where in addresses)
    load = ClusterEndpoints(name, (LocalityEndpoints(Locality(), 0, 1, endpoints),))
    cluster = Cluster(name, EdsSource(name), lb or LbConfig(), reports=True)
    return ResolvedCluster(cluster, (Leaf(cluster, load, report_to="scripted.server:1"),))


def route(*clusters: str, match: RouteMatch | None = None, **forward: Any) -> Route:
    """A route to clusters of equal weight; for every method unless `match` says otherwise."""
    weighted = tuple(WeightedCluster(name, 1) for name in clusters)
    return Route("r", match or RouteMatch(PathMatch(PathKind.PREFIX, "/")), Forward(weighted, **forward))


def snapshot_of(routes: Iterable[Route], *clusters: ResolvedCluster) -> Snapshot:
    """A configuration of `TARGET`."""
    host = VirtualHost(HOST, ("*",), tuple(routes))
    return Snapshot(TARGET, Listener(HOST), host, {cluster.cluster.name: cluster for cluster in clusters})


def snapshot(*addresses: str | Endpoint, lb: LbConfig | None = None, retry: RetryPolicy | None = None) -> Snapshot:
    """One route to one cluster of these endpoints."""
    return snapshot_of([route("c", retry=retry)], resolved("c", addresses, lb))


class _Watch:
    def __init__(self, source: ScriptedSource, entry: Callable[..., None]) -> None:
        self._source = source
        self._entry = entry

    def cancel(self) -> None:
        if self._entry in self._source.watchers:
            self._source.watchers.remove(self._entry)


class ScriptedSource:
    """A `meshsdk.channel.scope.Source` that says what the test pushes, from a thread of its own as the client does."""

    def __init__(self, first: Snapshot | Unresolvable | None = None) -> None:
        """`first`: what is known already; None: nothing yet."""
        self.latest = first
        self.loads = LoadCounts(lambda _: ("scripted.server:1",))
        self.watchers: list[Callable[..., None]] = []

    def watch(self, target: str, on_resolution: Callable[[Snapshot | Unresolvable], None]) -> Any:
        """See `Source`."""
        assert target == TARGET
        self.watchers.append(on_resolution)
        if self.latest is not None:
            threading.Thread(target=on_resolution, args=(self.latest,)).start()
        return _Watch(self, on_resolution)

    def progress(self, target: str) -> str:
        """See `Source`."""
        return f"waiting for listener {target.removeprefix('xds:///')} from scripted.server:1"

    def push(self, resolution: Snapshot | Unresolvable) -> None:
        """Gives every watcher a configuration and returns when each has taken it or queued it on its loop."""
        self.latest = resolution
        pushing = threading.Thread(target=lambda: [tell(resolution) for tell in list(self.watchers)])
        pushing.start()
        pushing.join()


@dataclass
class Lab:
    """Opens channels of one façade and one path, and closes all of them at the end of a test."""

    facade: str
    path: str
    loop: LoopThread
    source: ScriptedSource = field(default_factory=ScriptedSource)
    options: tuple[tuple[str, Any], ...] = ()
    scopes: list[Any] = field(default_factory=list)
    callers: list[Any] = field(default_factory=list)

    def differs(self, case: str) -> bool:
        """Tells whether this path is meant to behave differently in a case of `DIFFERENCES`."""
        return (self.facade, self.path) in DIFFERENCES[case][0]

    def open(
        self,
        address: str,
        credentials: grpc.ChannelCredentials | None = None,
        compression: grpc.Compression | None = None,
        options: Iterable[tuple[str, Any]] = (),
        *,
        first: Snapshot | Unresolvable | bool | None = True,
    ) -> Any:
        """Returns a caller on a channel to `address`. `first`: other than the configuration with just that endpoint."""
        options = (*self.options, *options)
        if first is not None:
            self.source.latest = snapshot(address) if first is True else first
        if self.facade == "sync":
            caller: Any = SyncCaller(self._sync(address, credentials, compression, options))
        else:
            channel = self.loop.run(self._aio(address, credentials, compression, options))
            caller = AioCaller(channel, self.loop)
        self.callers.append(caller)
        return caller

    def _sync(self, address: str, credentials: Any, compression: Any, options: Any) -> grpc.Channel:
        if self.path in ("plain", "passed"):
            if credentials is None:
                channel = grpc.insecure_channel(address, options, compression)
            else:
                channel = grpc.secure_channel(address, credentials, [*options, TLS_NAME], compression)
            return channel if self.path == "plain" else grpc.intercept_channel(channel, _Pass())
        scope = ThreadScope(self.source, Locality(), 7, credentials, options)
        self.scopes.append(scope)
        if self.path == "mesh":
            return MeshChannel(lambda: scope, TARGET, HOST, compression)
        channel = MeshChannel(lambda: scope, TARGET, HOST)
        self.callers.append(SyncCaller(channel))
        return grpc.intercept_channel(
            grpc.insecure_channel(NOWHERE, None, compression), *sync_client_interceptors(channel)
        )

    async def _aio(self, address: str, credentials: Any, compression: Any, options: Any) -> grpc.aio.Channel:
        if self.path in ("plain", "passed"):
            between = [make() for make in _PASS] if self.path == "passed" else None
            if credentials is None:
                return grpc.aio.insecure_channel(address, list(options), compression, between)
            return grpc.aio.secure_channel(address, credentials, [*options, TLS_NAME], compression, between)
        scope = LoopScope(self.source, Locality(), 7, credentials, options)
        self.scopes.append(scope)
        if self.path == "mesh":
            return MeshAioChannel(lambda: scope, TARGET, HOST, compression)
        channel = MeshAioChannel(lambda: scope, TARGET, HOST)
        self.callers.append(AioCaller(channel, self.loop))
        interceptors = aio_client_interceptors(channel)
        return grpc.aio.insecure_channel(NOWHERE, None, compression, interceptors=interceptors)

    def close(self) -> None:
        """Closes channels, then scopes."""
        for caller in self.callers:
            caller.close()
        for scope in self.scopes:
            if self.facade == "sync":
                scope.close()
            else:
                self.loop.run(_close(scope))


async def _close(scope: LoopScope) -> None:
    scope.close()
    await scope.closed()


class _Pass(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Changes nothing: what grpcio's own interception does to a call is the yardstick of the mesh's interceptors."""

    def intercept_unary_unary(self, continuation, client_call_details, request):
        return continuation(client_call_details, request)

    intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = intercept_unary_unary


def _passing(kind: type, name: str) -> type:
    async def intercept(self: Any, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details, request)

    return type("_AioPass", (kind,), {name: intercept})


_PASS = (
    _passing(grpc.aio.UnaryUnaryClientInterceptor, "intercept_unary_unary"),
    _passing(grpc.aio.UnaryStreamClientInterceptor, "intercept_unary_stream"),
    _passing(grpc.aio.StreamUnaryClientInterceptor, "intercept_stream_unary"),
    _passing(grpc.aio.StreamStreamClientInterceptor, "intercept_stream_stream"),
)
TLS_NAME = ("grpc.ssl_target_name_override", HOST)
NOWHERE = "127.0.0.1:1"  # the direct path of the intercepted channel: a call that takes it fails

# case -> where it differs from plain grpcio, as (façade, path), and why. Nothing else may.
DIFFERENCES: dict[str, tuple[frozenset[tuple[str, str]], str]] = {
    "close": (
        frozenset({("sync", "intercepted"), ("aio", "intercepted")}),
        "grpc tells interceptors nothing of close: calls through the mesh go on until the Mesh is closed",
    ),
    "channel compression": (
        frozenset({("sync", "intercepted"), ("aio", "intercepted")}),
        "the wrapped channel's own compression is that of the direct path; grpc shows it to no interceptor",
    ),
}
