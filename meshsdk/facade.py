"""What applications call: the process's mesh and own meshes, thin over `meshsdk.engine`. Holds no behaviour.

Imported by `meshsdk` and `meshsdk.aio`; everything heavy is loaded by the function that needs it.
"""

from __future__ import annotations

import atexit
import importlib
import itertools
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

from meshsdk import engine
from meshsdk.model.migration import Migration
from meshsdk.model.server_limits import ServerLimits

if TYPE_CHECKING:
    from typing_extensions import Self

    from meshsdk.bootstrap import Bootstrap as LoadedBootstrap
    from meshsdk.interceptors.drain_notice import DrainNotice
    from meshsdk.lifecycle.dependencies import EngineDependencies
    from meshsdk.lifecycle.service import Service

_Handler = TypeVar("_Handler", bound=Callable[..., Any])


class Mesh:
    """A mesh of one's own: other node, other control plane. A context manager. Safe from any thread."""

    def __init__(self, bootstrap: engine.Bootstrap = None, *, clock: engine.Clock | None = None) -> None:
        """`bootstrap`: gRPC's bootstrap as a dict or a path to its JSON; None: GRPC_XDS_BOOTSTRAP[_CONFIG].

        `clock`: for tests, see `meshsdk.testing.ManualClock`. Raises BootstrapError. Connects to nothing before a
        channel is used.
        """
        self._engine = engine.load(bootstrap, clock)
        with _meshes_lock:
            self._number = next(_numbers)
            _meshes[self._number] = self

    def channel(
        self,
        target: str,
        options: Sequence[tuple[str, Any]] | None = None,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.Channel:
        """Returns a `grpc.Channel`.

        `xds:///name`, `xds://authority/name`: through a control plane. `mesh:///name`, `mesh://registry/name` (an
        application, or a gRPC service): straight from a service registry. Any other target gets a plain channel.
        `options` (channel arguments) and `credentials` (None: plaintext) are those of the connections to endpoints.
        Raises ConfigurationError for a target that cannot be meant.
        """
        _attend(target)
        return self._engine.channel(target, options, credentials=credentials, compression=compression)

    def aio_channel(
        self,
        target: str,
        options: Sequence[tuple[str, Any]] | None = None,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.Channel:
        """Returns a `grpc.aio.Channel`; see `channel`. It belongs to the event loop that uses it first."""
        _attend(target)
        return self._engine.aio_channel(target, options, credentials=credentials, compression=compression)

    def client_interceptors(self, target: str) -> Sequence[Any]:
        """Returns interceptors for `grpc.intercept_channel`: calls take the mesh, the wrapped channel is the fallback.

        Put them last: interceptors after them see only calls of the fallback.
        """
        _attend(target)
        return self._engine.client_interceptors(target)

    def aio_client_interceptors(self, target: str) -> Sequence[Any]:
        """Returns interceptors for a `grpc.aio` channel; see `client_interceptors`."""
        _attend(target)
        return self._engine.aio_client_interceptors(target)

    def set_migration(self, service: str, migration: Migration | str | None) -> None:
        """Sets how consumers of a gRPC service (`pkg.Service`) find its instances in registries; takes effect at once.

        It is above what the control plane and the bootstrap say; None: as those say. No call finds an empty moment: the
        instances in use stay until the others are listed and one of them can be called.
        A mode may be given by its name. Raises ConfigurationError for anything else.
        """
        self._engine.set_migration(service, migration)

    def ledger(self) -> tuple[Any, ...]:
        """Returns one row per xDS resource or set of instances: status, version, problem, server, unused fields."""
        return self._engine.ledger()

    @property
    def engine(self) -> Any:
        """The engine behind this mesh, for what is no part of the application's interface (`meshsdk run`)."""
        return self._engine

    def close(self) -> None:
        """Closes every channel, connection and stream of this mesh. Idempotent."""
        with _meshes_lock:
            _meshes.pop(self._number, None)
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


_lock = threading.Lock()
_default: Mesh | None = None
_meshes: weakref.WeakValueDictionary[int, Mesh] = weakref.WeakValueDictionary()  # by number
_meshes_lock = threading.Lock()
_numbers = itertools.count()


def _renew_locks() -> None:
    """In a forked child: a thread of the parent, which does not exist here, may hold them."""
    global _lock, _meshes_lock
    _lock, _meshes_lock = threading.Lock(), threading.Lock()


os.register_at_fork(after_in_child=_renew_locks)


def meshes() -> list[Mesh]:
    """Returns the meshes of this process that are open, in the order of their making."""
    with _meshes_lock:
        return [mesh for _, mesh in sorted(_meshes.items())]


def _attend(target: str) -> None:
    """Lets operators ask this process, from its first channel into a mesh on: `meshsdk doctor` and `explain`."""
    if target.startswith(("xds:", "mesh:")):
        importlib.import_module("meshsdk.sight.admin_socket").open_once()


def default_mesh() -> Mesh:
    """Returns the process's mesh, made on first use from the environment. Raises BootstrapError."""
    global _default  # noqa: PLW0603 - one mesh a process is the contract; guarded by _lock
    with _lock:
        if _default is None:
            _default = Mesh()
            atexit.register(_default.close)
        return _default


def channel(
    target: str,
    options: Sequence[tuple[str, Any]] | None = None,
    *,
    credentials: grpc.ChannelCredentials | None = None,
    compression: grpc.Compression | None = None,
) -> grpc.Channel:
    """`Mesh.channel` of the process's mesh, which starts on first use."""
    return default_mesh().channel(target, options, credentials=credentials, compression=compression)


def client_interceptors(target: str) -> Sequence[Any]:
    """`Mesh.client_interceptors` of the process's mesh."""
    return default_mesh().client_interceptors(target)


def set_migration(service: str, migration: Migration | str | None) -> None:
    """`Mesh.set_migration` of the process's mesh."""
    default_mesh().set_migration(service, migration)


def server_interceptors(limits: ServerLimits | None = None) -> list[grpc.ServerInterceptor]:
    """Returns the interceptors of a `grpc.server`: they count calls, announce the drain to peers and keep `limits`."""
    from meshsdk.interceptors import server_sync  # noqa: PLC0415 - a client does not pay for the server side

    engine.start_telemetry()
    return server_sync.server_interceptors(limits)


def add_admin_services(server: grpc.Server | grpc.aio.Server) -> None:
    """Adds the admin services of gRPC (channelz and CSDS, gRFC A38) to a server, sync or asyncio, before its start.

    They show the whole configuration: let them listen where only operators come. Raises ConfigurationError where
    `pip install meshsdk[admin]` is needed.
    """
    importlib.import_module("meshsdk.sight.services").add_admin_services(server)


def draining(context: grpc.ServicerContext) -> DrainNotice:
    """Tells a handler whether its server drains, and lets it wait for that; see `DrainNotice`.

    A stream that ends in good order when told so saves its peer the error that its end at the drain's deadline is.
    """
    from meshsdk.interceptors import drain_notice  # noqa: PLC0415 - a client does not pay for the server side

    return drain_notice.draining(context)


def deadline(seconds: float | None) -> AbstractContextManager[None]:
    """Caps the calls made inside a `with` block: `seconds` from now for all of them together; None lifts every cap.

    Calls made while an inbound call is handled inherit its deadline without this; see `meshsdk.interceptors.deadline`.
    Raises ValueError, as the block is entered, for a number below 0.
    """
    from meshsdk.interceptors import deadline as inherited  # noqa: PLC0415 - loaded when it is used

    return inherited.deadline(seconds)


def no_deadline() -> AbstractContextManager[None]:
    """`deadline(None)`: for work inside a handler that is to outlive the inbound call."""
    return deadline(None)


def time_left() -> float | None:
    """Returns the seconds that calls made here have at most, from the deadline they inherit; None: no such deadline."""
    from meshsdk.interceptors import deadline as inherited  # noqa: PLC0415 - loaded when it is used

    return inherited.time_left()


def rpc(
    *handlers: object, idempotent: bool = False, timeout: object = None, retry: object = None, limit: object = None
) -> Callable[[_Handler], _Handler]:
    """Declares options of an RPC handler, sync, async or streaming; see `meshsdk.interceptors.rpc.rpc`."""
    from meshsdk.interceptors.rpc import rpc as decorate  # noqa: PLC0415 - a client does not pay for wrapt

    return decorate(*handlers, idempotent=idempotent, timeout=timeout, retry=retry, limit=limit)


def serve(  # noqa: PLR0913 - the public entry: everything but the server is given by name
    server: grpc.Server,
    *,
    app: str,
    address: str,
    metadata: Mapping[str, str] | None = None,
    unit: str = "",
    zone: str = "",
    weight: int = 1,
    bootstrap: engine.Bootstrap = None,
    **options: Any,
) -> Service:
    """Registers and runs a server and drains it on SIGTERM.

    Further `options` are those of `meshsdk.lifecycle.serve_sync.serve` and `meshsdk.lifecycle.plan.PlanOptions`.
    `address`: `host:port` as peers dial it. `metadata`: labels of the instance. `bootstrap`: as for `Mesh`.
    Raises ConfigurationError and BootstrapError before anything is started.
    """
    if options.get("depends_on"):
        options.setdefault("dependencies", dependencies(bootstrap))
    from meshsdk.lifecycle import serve_sync  # noqa: PLC0415 - a client does not pay for the server side

    return serve_sync.serve(
        server,
        app=app,
        address=address,
        metadata=metadata,
        unit=unit,
        zone=zone,
        weight=weight,
        bootstrap=loaded(bootstrap),
        **options,
    )


def announce(
    *,
    app: str,
    address: str,
    metadata: Mapping[str, str] | None = None,
    unit: str = "",
    zone: str = "",
    weight: int = 1,
    bootstrap: engine.Bootstrap = None,
    **options: Any,
) -> Service:
    """Registers an instance whose server is not of grpc, and drains it on SIGTERM; see `lifecycle.web.announce`.

    Stopping the server, once `service.wait()` has returned, is the caller's. Raises ConfigurationError, BootstrapError.
    """
    if options.get("depends_on"):
        options.setdefault("dependencies", dependencies(bootstrap))
    from meshsdk.lifecycle.web import announce as announcing  # noqa: PLC0415 - a client does not pay for the server side

    return announcing.announce(
        app=app,
        address=address,
        metadata=metadata,
        unit=unit,
        zone=zone,
        weight=weight,
        bootstrap=loaded(bootstrap),
        **options,
    )


def loaded(bootstrap: engine.Bootstrap) -> LoadedBootstrap | None:
    """Reads a bootstrap that was given; None stays None: the lifecycle reads the environment then."""
    from meshsdk.bootstrap import load_bootstrap  # noqa: PLC0415 - a client does not pay for the server side

    return None if bootstrap is None else load_bootstrap(bootstrap, os.environ)


def dependencies(bootstrap: engine.Bootstrap) -> EngineDependencies:
    """Returns what resolves the targets that a service depends on: the process's mesh, or one of `bootstrap`."""
    from meshsdk.lifecycle.dependencies import EngineDependencies  # noqa: PLC0415 - see above

    if bootstrap is None:
        return EngineDependencies(default_mesh()._engine, owned=False)  # noqa: SLF001 - the same module
    return EngineDependencies(engine.load(bootstrap), owned=True)
