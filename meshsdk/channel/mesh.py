"""The engine: one mesh of a process, with its xDS client, its scopes and its channels.

Made by the façade (`meshsdk`) on first use, or by an application that wants another node identity or control plane.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from meshsdk.bootstrap import Bootstrap, load_bootstrap
from meshsdk.channel.aio import MeshAioChannel
from meshsdk.channel.loops import LoopScope
from meshsdk.channel.sync import MeshChannel
from meshsdk.channel.threads import Options, ThreadScope
from meshsdk.errors import ConfigurationError, LifecycleError
from meshsdk.interceptors.client_aio import aio_client_interceptors
from meshsdk.interceptors.client_sync import sync_client_interceptors
from meshsdk.xds_client.client import XdsClient
from meshsdk.xds_client.names import parse_target

if TYPE_CHECKING:
    from typing_extensions import Self

_Flavour = tuple[grpc.ChannelCredentials | None, tuple[tuple[str, Any], ...]]  # channels that may share connections


class Mesh:
    """Channels over one bootstrap: one xDS stream per authority, one pool of connections per scope.

    Thread rules: everything below is guarded by `_lock`; channels may be made and used from any thread.
    """

    def __init__(self, bootstrap: Mapping[str, Any] | str | os.PathLike[str] | Bootstrap | None = None) -> None:
        """`bootstrap`: gRPC's bootstrap as a dict or a path; None: the environment (GRPC_XDS_BOOTSTRAP[_CONFIG]).

        Raises BootstrapError. Connects to nothing before a channel is used.
        """
        self.bootstrap = bootstrap if isinstance(bootstrap, Bootstrap) else load_bootstrap(bootstrap, os.environ)
        self._channels: weakref.WeakSet[MeshChannel | MeshAioChannel] = weakref.WeakSet()
        self._inherited: list[object] = []
        self._closed = False
        self._start()
        _meshes.add(self)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._client = XdsClient(self.bootstrap)
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
        """Returns a `grpc.Channel` for `xds:///name`, or a plain one for any other gRPC target.

        `options` (channel arguments) and `credentials` (None: plaintext) apply to the connections to endpoints. Raises
        ConfigurationError for a target that cannot be meant.
        """
        if self._is_own(target):
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
        if self._is_own(target):
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

    def ledger(self) -> tuple[Any, ...]:
        """Returns one row per xDS resource: status, version, problem, server, ignored fields (for doctor and CSDS)."""
        return self._client.ledger()

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
        self._inherited.extend((self._client, *self._threads.values(), *self._loops.values()))
        for scope in (*self._threads.values(), *self._loops.values()):
            scope.pool.forget()
        self._start()
        for channel in list(self._channels):
            channel.after_fork_in_child()

    def _is_own(self, target: str) -> bool:
        if target.startswith("mesh:"):
            raise ConfigurationError(
                f"target {target!r}: mesh: targets (straight from a registry) are not available in this version; "
                "use xds:///NAME with a control plane"
            )
        return target.startswith("xds:")

    def _mesh_channel(self, target: str, flavour: _Flavour, compression: grpc.Compression | None) -> MeshChannel:
        host = parse_target(target, self.bootstrap).host
        channel = MeshChannel(lambda: self._thread_scope(flavour), target, host, compression)
        self._channels.add(channel)
        return channel

    def _mesh_aio_channel(self, target: str, flavour: _Flavour, compression: grpc.Compression | None) -> MeshAioChannel:
        host = parse_target(target, self.bootstrap).host
        channel = MeshAioChannel(lambda: self._loop_scope(flavour), target, host, compression)
        self._channels.add(channel)
        return channel

    def _thread_scope(self, flavour: _Flavour) -> ThreadScope:
        with self._lock:
            self._check_open()
            scope = self._threads.get(flavour)
            if scope is None:
                scope = ThreadScope(self._client, self.bootstrap.node.locality, self._seed, *flavour)
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
                self._loops[loop, flavour] = scope
            return scope

    def _check_open(self) -> None:
        if self._closed:
            raise LifecycleError("this Mesh is closed: make another one, or use channels before close()")


_meshes: weakref.WeakSet[Mesh] = weakref.WeakSet()


_forking: list[Mesh] = []  # from `before` to `after` of one fork, on the thread that forks


def _before_fork() -> None:
    _forking[:] = list(_meshes)
    for mesh in _forking:
        mesh.before_fork()


def _after_fork_in_parent() -> None:
    for mesh in _forking:
        mesh.after_fork_in_parent()
    _forking.clear()


def _after_fork_in_child() -> None:
    for mesh in _forking:
        mesh.after_fork_in_child()
    _forking.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
