"""uvicorn, with the application as an instance in the registry: drains before the server stops taking connections.

    from meshsdk.lifecycle.web.uvicorn_hooks import MeshServer
    MeshServer(uvicorn.Config("shop:app", port=8000), app="web", address="10.0.0.7:8000").run()

Imported by applications that use uvicorn, never by meshsdk itself. One process: for several workers, use gunicorn.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn

from meshsdk.errors import ConfigurationError
from meshsdk.interceptors.activity import ServerActivity
from meshsdk.lifecycle.service import Service
from meshsdk.lifecycle.web.activity import CountedAsgi
from meshsdk.lifecycle.web.announce import announce

_GLANCE = 0.1  # seconds between looks at whether uvicorn is in a hurry (a second Ctrl-C)


class MeshServer(uvicorn.Server):
    """A `uvicorn.Server`. On SIGTERM and SIGINT: DRAINING, quiet, gone from the registry; then uvicorn shuts down."""

    def __init__(self, config: uvicorn.Config, **instance: Any) -> None:
        """`instance`: the arguments of `announce`. Raises ConfigurationError."""
        super().__init__(config)
        if config.workers > 1:
            raise ConfigurationError("MeshServer is one process; run several workers under gunicorn (gunicorn_hooks)")
        self._activity = ServerActivity()
        self._instance = {"handle_signals": False, "activity": self._activity, **instance}
        self._service: Service | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; then, with the server listening, registers."""
        self.config.loaded_app = CountedAsgi(self.config.loaded_app, self._activity)
        await super().startup(sockets)
        if self.started:
            self._service = await asyncio.to_thread(announce, **self._instance)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains, while uvicorn still serves, then shuts down as uvicorn does. A second Ctrl-C cuts it short."""
        if self._service is not None:
            self._service.drain(wait=False)
            while not await asyncio.to_thread(self._service.wait, _GLANCE):
                if self.force_exit:
                    await asyncio.to_thread(self._service.stop)
        await super().shutdown(sockets)
