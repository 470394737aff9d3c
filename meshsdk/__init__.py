"""meshsdk: a service mesh inside the Python process. Public names only; each loads what it needs on first use.

`channel` and `aio.channel` are drop-in channels whose calls are routed and balanced by the mesh; `server_interceptors`,
`serve` and `rpc` are the server side. Configuration comes from the environment as gRPC's bootstrap (gRFC A27), or from
an own `Mesh`.
"""

from __future__ import annotations

import meshsdk.channel  # noqa: F401 - bound first: the function of this name, below, is the public one
from meshsdk import telemetry
from meshsdk.errors import (
    BootstrapError,
    ConfigurationError,
    InvalidResource,
    LifecycleError,
    MeshError,
    RegistryError,
)
from meshsdk.facade import (
    Mesh,
    add_admin_services,
    announce,
    channel,
    client_interceptors,
    deadline,
    draining,
    no_deadline,
    rpc,
    serve,
    server_interceptors,
    set_migration,
    time_left,
)
from meshsdk.model.migration import Migration
from meshsdk.model.server_limits import MethodLimits, ServerLimits

__all__ = [
    "BootstrapError",
    "ConfigurationError",
    "InvalidResource",
    "LifecycleError",
    "Mesh",
    "MeshError",
    "MethodLimits",
    "Migration",
    "RegistryError",
    "ServerLimits",
    "add_admin_services",
    "announce",
    "channel",
    "client_interceptors",
    "deadline",
    "draining",
    "no_deadline",
    "rpc",
    "serve",
    "server_interceptors",
    "set_migration",
    "telemetry",
    "time_left",
]
