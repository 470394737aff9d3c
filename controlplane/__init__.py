"""The control plane. `ResourceCache` and `XdsServer` stand on their own: an xDS server for any Python program.

    cache = ResourceCache()
    cache.set([listener, route_configuration, cluster, assignment])
    server = XdsServer(cache)
    port = server.start("127.0.0.1:0")

Loaded lazily, so that the pure parts of the package can be imported without grpc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controlplane.server.service import XdsServer
    from controlplane.snapshot import ResourceCache

__all__ = ["ResourceCache", "XdsServer"]


def __getattr__(name: str) -> object:
    if name == "ResourceCache":
        from controlplane.snapshot import ResourceCache  # noqa: PLC0415 - lazy, see above

        return ResourceCache
    if name == "XdsServer":
        from controlplane.server.service import XdsServer  # noqa: PLC0415 - lazy, see above

        return XdsServer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
