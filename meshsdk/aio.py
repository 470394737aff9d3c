"""meshsdk for asyncio: the names of `meshsdk` that differ there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from meshsdk.engine import Bootstrap, start_telemetry
from meshsdk.facade import default_mesh, dependencies, loaded
from meshsdk.model.server_limits import ServerLimits

if TYPE_CHECKING:
    from meshsdk.interceptors.drain_notice import AioDrainNotice
    from meshsdk.lifecycle.serve_aio import AioService

__all__ = ["channel", "client_interceptors", "draining", "serve", "server_interceptors"]


def channel(
    target: str,
    options: Sequence[tuple[str, Any]] | None = None,
    *,
    credentials: grpc.ChannelCredentials | None = None,
    compression: grpc.Compression | None = None,
) -> grpc.aio.Channel:
    """`Mesh.aio_channel` of the process's mesh, which starts on first use."""
    return default_mesh().aio_channel(target, options, credentials=credentials, compression=compression)


def client_interceptors(target: str) -> Sequence[Any]:
    """`Mesh.aio_client_interceptors` of the process's mesh."""
    return default_mesh().aio_client_interceptors(target)


def server_interceptors(limits: ServerLimits | None = None) -> list[grpc.aio.ServerInterceptor]:
    """Returns the interceptors of a `grpc.aio.server`: they count calls, announce the drain and keep `limits`."""
    from meshsdk.interceptors import server_aio  # noqa: PLC0415 - a client does not pay for the server side

    start_telemetry()
    return server_aio.server_interceptors(limits)


def draining(context: Any) -> AioDrainNotice:
    """Tells a coroutine handler whether its server drains, and lets it wait for that; see `meshsdk.draining`."""
    from meshsdk.interceptors import drain_notice  # noqa: PLC0415 - a client does not pay for the server side

    return drain_notice.aio_draining(context)


def serve(  # noqa: PLR0913 - the public entry: everything but the server is given by name
    server: grpc.aio.Server,
    *,
    app: str,
    address: str,
    metadata: Mapping[str, str] | None = None,
    unit: str = "",
    zone: str = "",
    weight: int = 1,
    bootstrap: Bootstrap = None,
    **options: Any,
) -> AioService:
    """Registers and runs a server inside `async with`; see `meshsdk.lifecycle.serve_aio.serve` for further `options`.

    `address`: `host:port` as peers dial it. `metadata`: labels of the instance. `bootstrap`: as for `Mesh`.
    Raises ConfigurationError and BootstrapError before anything is started.
    """
    if options.get("depends_on"):
        options.setdefault("dependencies", dependencies(bootstrap))
    from meshsdk.lifecycle import serve_aio  # noqa: PLC0415 - a client does not pay for the server side

    return serve_aio.serve(
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
