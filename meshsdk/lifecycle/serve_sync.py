"""`meshsdk.serve`: puts a `grpc.server` online and takes it offline without losing a call.

It checks the arguments and makes the `Service`, which does the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import grpc

from meshsdk.bootstrap import Bootstrap
from meshsdk.discovery.registry import Registry
from meshsdk.lifecycle.health_sync import health_handler
from meshsdk.lifecycle.offer import Identity, Sources, make_offer
from meshsdk.lifecycle.plan import PlanOptions, make_plan
from meshsdk.lifecycle.presence import Presence
from meshsdk.lifecycle.same_port import leave_shared_port
from meshsdk.lifecycle.server_parts import sync_parts
from meshsdk.lifecycle.service import Service

if TYPE_CHECKING:
    from typing_extensions import Unpack

_LOG = logging.getLogger("meshsdk.lifecycle")
_OVERTIME = 5.0  # seconds past its grace that a stopping server may take

LEASE_SECONDS = 15.0  # a killed instance is gone from the registry after this


def serve(  # noqa: PLR0913 - the public entry: everything but the server is given by name
    server: grpc.Server,
    *,
    app: str,
    address: str,
    metadata: Mapping[str, str] | None = None,
    unit: str = "",
    zone: str = "",
    weight: int = 1,
    bootstrap: Bootstrap | None = None,
    registry: Registry | None = None,
    services: Mapping[str, object] | None = None,
    interceptors: Iterable[object] = (),
    **options: Unpack[PlanOptions],
) -> Service:
    """Adds `grpc.health.v1`, starts `server` (unless it is), and registers it as an instance of `app`.

    Call it when the server's own services are added. `address` is `host:port` as peers dial it (a name is resolved
    once, here); binding is the server's. `metadata` are the instance's labels (text for text), over those of the
    bootstrap's node. The registry is the one given, else the bootstrap's (given, or named by the environment); a
    registry that is away holds nothing up.

    On SIGTERM or SIGINT, and on `drain()`: DRAINING in the registry, `meshsdk-draining` in trailing metadata, a wait
    for quiet, deregistration, stop (`DrainTiming`; at most about 15 s). A second signal stops at once. Handlers
    that were there before are called too.

    Registered as STARTING, it goes ONLINE when the application is ready and what it depends on is resolved (see
    `PlanOptions`, for all further `options`).

    `services` and `interceptors` are for servers whose own list cannot be read; see the error that asks for them.
    Raises ConfigurationError for arguments that cannot be used, before anything is started.
    """
    identity = Identity(app, address, metadata, unit, zone, weight)
    plan = make_plan(options)
    offer = make_offer(identity, sync_parts(server), Sources(bootstrap, registry, services, interceptors))
    presence = Presence(offer, LEASE_SECONDS)
    if presence.has_own_health:
        server.add_generic_rpc_handlers((health_handler(presence.health),))
    return Service(_GrpcHost(server, app, address), presence, plan).start()


class _GrpcHost:
    """A `grpc.server` as a `Host`."""

    def __init__(self, server: grpc.Server, app: str, address: str) -> None:
        self._server = server
        self._app = app
        self._address = address

    def start(self) -> None:
        """See `Host`."""
        try:
            self._server.start()
        except ValueError as error:
            if "already-started" not in str(error):
                raise
            _LOG.debug("the server had been started before serve()")

    def running(self) -> bool:
        """See `Host`."""
        return self._server.wait_for_termination(timeout=0)

    def step_aside(self) -> bool:
        """See `Host`."""
        return leave_shared_port(self._address)

    def stop(self, grace: float | None) -> None:
        """See `Host`."""
        if not self._server.stop(grace).wait((grace or 0.0) + _OVERTIME):
            _LOG.warning("%s: the server has not stopped %s s after its grace", self._app, _OVERTIME)
