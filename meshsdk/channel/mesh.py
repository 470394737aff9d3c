"""The engine: one mesh of a process, with its xDS client, its registries, its scopes and its channels.

Made by the façade (`meshsdk`) on first use, or by an application that wants another node identity or control plane.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

from meshsdk.bootstrap import Bootstrap, load_bootstrap
from meshsdk.channel.aio import MeshAioChannel
from meshsdk.channel.forks import attend
from meshsdk.channel.loops import LoopScope
from meshsdk.channel.mesh_metrics import measure
from meshsdk.channel.rate_limit_client import LoopRateLimitClient, ThreadRateLimitClient
from meshsdk.channel.scope import Scope
from meshsdk.channel.shared import Shared
from meshsdk.channel.sync import MeshChannel
from meshsdk.channel.threads import Options, ThreadScope
from meshsdk.engine import Clock
from meshsdk.errors import ConfigurationError, LifecycleError
from meshsdk.interceptors.client_aio import aio_client_interceptors
from meshsdk.interceptors.client_sync import sync_client_interceptors
from meshsdk.model.endpoints import Health
from meshsdk.model.migration import Migration
from meshsdk.model.snapshot import BrokenCluster, ResolvedCluster, Snapshot, Unresolvable
from meshsdk.xds_client.client import Dump, OnLayer, OnResolution, Watch, XdsClient
from meshsdk.xds_client.cluster_target import cluster_authority, cluster_target
from meshsdk.xds_client.direct import is_mesh_target, read_target

if TYPE_CHECKING:
    from typing_extensions import Self

    from meshsdk.discovery.feeds import RegistryFeeds

_Scope = TypeVar("_Scope", bound=Scope)
_Flavour = tuple[grpc.ChannelCredentials | None, tuple[tuple[str, Any], ...]]  # channels that may share connections


class Mesh:
    """Channels over one bootstrap: one xDS stream per authority, one connection per registry, a pool per scope.

    Thread rules: everything below is guarded by `_lock`; channels may be made and used from any thread.
    """

    def __init__(
        self,
        bootstrap: Mapping[str, Any] | str | os.PathLike[str] | Bootstrap | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`bootstrap`: gRPC's bootstrap as a dict or a path; None: the environment (GRPC_XDS_BOOTSTRAP[_CONFIG]).

        `clock`: what balancers and policies measure by; None: the system's.
        Raises BootstrapError. Connects to nothing before a channel is used.
        """
        self.bootstrap = bootstrap if isinstance(bootstrap, Bootstrap) else load_bootstrap(bootstrap, os.environ)
        self._channels: weakref.WeakSet[MeshChannel | MeshAioChannel] = weakref.WeakSet()
        self._clock: Clock = clock or time
        self._inherited: list[object] = []
        self._modes: dict[str, Migration | None] = {}  # set by the application, by service
        self._closed = False
        self._start()
        attend(self)
        measure(self)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._feeds = _registries(self.bootstrap)
        for service, mode in self._modes.items():
            self._migrate(service, mode)
        self._client = XdsClient(self.bootstrap, feeds=self._feeds)
        self._shared = Shared(self.bootstrap.node.cluster)
        self._threads: dict[_Flavour, ThreadScope] = {}
        self._loops: dict[tuple[asyncio.AbstractEventLoop, _Flavour], LoopScope] = {}
        # Workers forked from one parent share the node id and must not all choose the same subset.
        identity = f"{self.bootstrap.node.id}/{os.getpid()}".encode()
        self._seed = int.from_bytes(hashlib.blake2b(identity, digest_size=8).digest(), "big")

    def channel(
        self,
        target: str,
        options: Options | None = None,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.Channel:
        """Returns a `grpc.Channel` for `xds:///name` or `mesh:///name`, or a plain one for any other gRPC target.

        `options` (channel arguments) and `credentials` (None: plaintext) apply to the connections to endpoints. Raises
        ConfigurationError for a target that cannot be meant.
        """
        if is_mesh_target(target):
            return self._mesh_channel(target, (credentials, tuple(options or ())), compression)
        if credentials is None:
            return grpc.insecure_channel(target, options, compression)
        return grpc.secure_channel(target, credentials, options, compression)

    def aio_channel(
        self,
        target: str,
        options: Options | None = None,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.Channel:
        """Returns a `grpc.aio.Channel`; see `channel`. It belongs to the event loop that uses it first."""
        if is_mesh_target(target):
            return self._mesh_aio_channel(target, (credentials, tuple(options or ())), compression)
        if credentials is None:
            return grpc.aio.insecure_channel(target, options, compression)
        return grpc.aio.secure_channel(target, credentials, options, compression)

    def client_interceptors(self, target: str) -> Sequence[Any]:
        """Returns interceptors for `grpc.intercept_channel`, whose channel is the direct path."""
        return sync_client_interceptors(self._mesh_channel(target, (None, ()), None))

    def aio_client_interceptors(self, target: str) -> Sequence[Any]:
        """Returns interceptors for a `grpc.aio` channel; see `client_interceptors`."""
        return aio_client_interceptors(self._mesh_aio_channel(target, (None, ()), None))

    def set_migration(self, service: str, migration: Migration | str | None) -> None:
        """Sets how consumers of a gRPC service (`pkg.Service`) find instances, at once and with no empty moment.

        It is above what the control plane and the bootstrap say; None: as those say. A mode may be given by its name.
        Raises ConfigurationError for anything else, LifecycleError when closed.
        """
        mode = _migration(service, migration)
        with self._lock:
            self._check_open()
            self._modes[service] = mode
            self._migrate(service, mode)

    def watch(self, target: str, on_resolution: OnResolution) -> Watch:
        """Reports every configuration of a target, from a thread of the mesh; see `XdsClient.watch`."""
        self._host(target)
        return self._client.watch(target, on_resolution)

    def watch_runtime(self, name: str, on_layer: OnLayer) -> Watch:
        """Reports every version of a runtime layer, from a thread of the mesh; see `XdsClient.watch_runtime`."""
        return self._client.watch_runtime(name, on_layer)

    def follow(self, target: str, follower: Callable[[str], None]) -> Callable[[], None]:
        """Calls `follower`, from a thread of the mesh, with what keeps the target from being called ("": nothing).

        A target whose clusters have no endpoint that takes calls lacks one; one without any cluster lacks nothing.

        First when its configuration is complete or known to be out of reach, then at each change, until what is
        returned is called. Raises ConfigurationError for what is no target of a mesh, LifecycleError when closed.
        """
        if not is_mesh_target(target):
            raise ConfigurationError(f"{target!r} is no target of a mesh: xds:///name or mesh:///name")

        def on_resolution(resolution: Snapshot | Unresolvable) -> None:
            follower(resolution.problem if isinstance(resolution, Unresolvable) else _lack(resolution))

        return self._client.watch(target, on_resolution).cancel

    def progress(self, target: str) -> str:
        """Says what a target that is followed or dialled waits for, from which server, and the last error."""
        return self._client.progress(target)

    def ledger(self) -> tuple[Any, ...]:
        """Returns one row per xDS resource and per set of instances, for doctor and CSDS (`LedgerRow`)."""
        return self._client.ledger()

    def scopes(self) -> list[Scope]:
        """Returns the scopes in use, for metrics and `explain`."""
        with self._lock:
            loops = [scope for (loop, _), scope in self._loops.items() if not loop.is_closed()]
            return [*self._threads.values(), *loops]

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def shared(self) -> Shared:
        """The state of policies: breakers and mirrors, for metrics and `explain`."""
        return self._shared

    @property
    def client(self) -> XdsClient:
        """The xDS client, for metrics."""
        return self._client

    def dump(self) -> Dump:
        """Returns what this mesh knows of every xDS resource, with its bytes, for CSDS."""
        return self._client.dump()

    def close(self) -> None:
        """Closes every channel, connection and stream of this mesh. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            scopes = [*self._threads.values()]
            loops = [scope for (loop, _), scope in self._loops.items() if not loop.is_closed()]
        for channel in list(self._channels):
            if isinstance(channel, MeshChannel):
                channel.close()
        for scope in scopes:
            scope.close()
        for loop_scope in loops:
            loop_scope.close_from_any_thread()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def before_fork(self) -> None:
        """Keeps this mesh's threads out of gRPC while the process forks: its stream ends, its monitors wait."""
        self._lock.acquire()
        self._client.before_fork()
        for scope in self._threads.values():
            scope.lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Goes on after `before_fork`; routes and connections were in force all the time."""
        for scope in self._threads.values():
            scope.lock.release()
        self._client.after_fork()
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Starts anew in a child process: threads are gone, connections and streams are the parent's.

        What was inherited is kept, never closed: closing it would act on the parent's connections.
        """
        self._inherited.extend((self._client, self._feeds, *self._threads.values(), *self._loops.values()))
        for scope in (*self._threads.values(), *self._loops.values()):
            scope.pool.forget()
        self._start()
        measure(self)
        for channel in list(self._channels):
            channel.after_fork_in_child()

    def _host(self, target: str) -> str:
        """Returns the :authority of a target's calls. Raises ConfigurationError for one that cannot be used."""
        read = read_target(target, self.bootstrap)
        if read.source is not None and self._feeds is not None:
            self._feeds.open(read.source.registry)
        return read.host

    def _migrate(self, service: str, mode: Migration | None) -> None:
        if self._feeds is not None:
            self._feeds.migrate(service, mode)

    def _mesh_channel(self, target: str, flavour: _Flavour, compression: grpc.Compression | None) -> MeshChannel:
        host = self._host(target)
        channel = MeshChannel(lambda: self._thread_scope(flavour), target, host, compression)
        self._channels.add(channel)
        return channel

    def _mesh_aio_channel(self, target: str, flavour: _Flavour, compression: grpc.Compression | None) -> MeshAioChannel:
        host = self._host(target)
        channel = MeshAioChannel(lambda: self._loop_scope(flavour), target, host, compression)
        self._channels.add(channel)
        return channel

    def _thread_scope(self, flavour: _Flavour) -> ThreadScope:
        with self._lock:
            self._check_open()
            scope = self._threads.get(flavour)
            if scope is None:
                scope = ThreadScope(self._client, self.bootstrap.node.locality, self._seed, *flavour)
                scope.rate_limits = ThreadRateLimitClient(_cluster_channel(scope))
                scope.shared = self._shared
                scope.measure_by(self._clock)
                self._threads[flavour] = scope
            return scope

    def _loop_scope(self, flavour: _Flavour) -> LoopScope:
        loop = asyncio.get_running_loop()
        with self._lock:
            self._check_open()
            for key in [key for key in self._loops if key[0].is_closed()]:
                self._loops.pop(key).abandon()
            scope = self._loops.get((loop, flavour))
            if scope is None:
                scope = LoopScope(self._client, self.bootstrap.node.locality, self._seed, *flavour)
                scope.rate_limits = LoopRateLimitClient(_cluster_aio_channel(scope))
                scope.shared = self._shared
                scope.measure_by(self._clock)
                self._loops[loop, flavour] = scope
            return scope

    def _check_open(self) -> None:
        if self._closed:
            raise LifecycleError("this Mesh is closed: make another one, or use channels before close()")


def _weakly(scope: _Scope) -> Callable[[], _Scope]:
    reference = weakref.ref(scope)

    def found() -> _Scope:
        scope = reference()
        if scope is None:
            raise LifecycleError("the mesh of this channel is gone")
        return scope

    return found


def _cluster_channel(scope: ThreadScope) -> Callable[[str], MeshChannel]:
    """Returns what makes channels to xDS clusters, by name, over the scope's own connections.

    It is kept by the scope, so it holds that weakly: a dropped scope must not wait for the garbage collector.
    """
    own = _weakly(scope)
    return lambda name: MeshChannel(own, cluster_target(name), cluster_authority(name))


def _cluster_aio_channel(scope: LoopScope) -> Callable[[str], MeshAioChannel]:
    """Returns the same for an event loop."""
    own = _weakly(scope)
    return lambda name: MeshAioChannel(own, cluster_target(name), cluster_authority(name))


def _migration(service: object, mode: object) -> Migration | None:
    if not isinstance(service, str) or not service:
        raise ConfigurationError(f"set_migration: the service is {service!r}; give a name such as 'shop.Orders'")
    if mode is None or isinstance(mode, Migration):
        return mode
    try:
        return Migration(mode)
    except ValueError:
        known = ", ".join(one.value for one in Migration)
        raise ConfigurationError(
            f"set_migration: the mode for {service!r} is {mode!r}; give None, a meshsdk.Migration or its name ({known})"
        ) from None


def _lack(snapshot: Snapshot) -> str:
    """Says what keeps every call to the target from an endpoint; "" when nothing does."""
    leaves = [leaf for one in snapshot.clusters.values() if isinstance(one, ResolvedCluster) for leaf in one.leaves]
    offered = (
        endpoint
        for leaf in leaves
        if leaf.endpoints is not None
        for locality in leaf.endpoints.localities
        for endpoint in locality.endpoints
    )
    if not snapshot.clusters or any(endpoint.health in (Health.HEALTHY, Health.DEGRADED) for endpoint in offered):
        return ""
    broken = [one.problem for one in snapshot.clusters.values() if isinstance(one, BrokenCluster)]
    return next(filter(None, [*broken, *(leaf.problem for leaf in leaves)]), "it has no endpoint that takes calls")


def _registries(bootstrap: Bootstrap) -> RegistryFeeds | None:
    """Returns the registries of a bootstrap that has some; discovery is not loaded for the others."""
    if not bootstrap.mesh.registries:
        return None
    feeds: RegistryFeeds = importlib.import_module("meshsdk.discovery.feeds").RegistryFeeds(bootstrap)
    return feeds
