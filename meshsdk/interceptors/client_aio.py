"""Client interceptors for a `grpc.aio` channel of the application's own; see `client_sync` for what they do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from meshsdk.interceptors.aio_shapes import of_every_shape
from meshsdk.interceptors.client_sync import Paths, less_time
from meshsdk.interceptors.continuation import of_aio


class AioMeshPath(Protocol):
    """The mesh channel as the interceptor sees it: a `grpc.aio.Channel` that knows whether it can be used."""

    name: str

    async def configured(self, timeout: float) -> bool:
        """Tells whether there is a configuration; waits for the first one, `timeout` seconds at most."""


class _Router:
    """What the four interceptors share."""

    def __init__(self, mesh: Any) -> None:
        self._mesh: AioMeshPath = mesh
        self._paths = Paths(mesh)

    async def route(self, shape: str, continuation: Callable[..., Any], details: Any, argument: Any) -> Any:
        began = time.monotonic()
        if not await self._mesh.configured(self._paths.patience(details.timeout)):
            return await continuation(less_time(details, time.monotonic() - began), argument)
        method = details.method.decode() if isinstance(details.method, bytes) else details.method
        stub = self._paths.stub(shape, method, of_aio(continuation))
        if stub is None:
            return await continuation(details, argument)
        return stub(
            argument,
            timeout=details.timeout,
            metadata=details.metadata,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
        )


def aio_client_interceptors(mesh: Any) -> Sequence[Any]:
    """Returns the interceptors for `grpc.aio.insecure_channel(..., interceptors=...)`, over a mesh channel."""
    return of_every_shape(_Router(mesh))
