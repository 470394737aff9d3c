"""xDS clusters as things to call, with no listener and no route: services that filters name (`envoy_grpc`). Pure.

Called by the session in place of `resolve` for targets of this kind. Applications cannot make a channel to one.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from urllib.parse import quote

from meshsdk.model.matching import PathKind, PathMatch, RouteMatch
from meshsdk.model.resources import Forward, Kind, Listener, Route, VirtualHost, WeightedCluster
from meshsdk.model.snapshot import Key, Resolution
from meshsdk.xds_client.names import Target
from meshsdk.xds_client.resolve import Entries, resolve_cluster

_SCHEME = "cluster:"
_HOST_SAFE = "-._~!$&'()*+,;=:[]@"  # RFC 3986 section 3.2: what an :authority may hold


def cluster_target(name: str) -> str:
    """Returns the target of a cluster, for a scope to open."""
    return f"{_SCHEME}{name}"


def cluster_authority(name: str) -> str:
    """Returns the :authority of calls to a cluster: its name, as Envoy's gRPC client says."""
    return quote(name, safe=_HOST_SAFE)


def read_cluster_target(text: str) -> Target | None:
    """Reads what `cluster_target` made; None for any other target."""
    if not text.startswith(_SCHEME):
        return None
    name = text.removeprefix(_SCHEME)
    return Target(text, name, cluster_authority(name), kind=Kind.CLUSTER)


def resolve_target(
    store: Entries, target: Target, previous: Resolution | None, changed: AbstractSet[Key]
) -> Resolution:
    """Returns the configuration in which each call goes to the one cluster; as `resolve` otherwise."""
    name = target.listener
    route = Route("all", RouteMatch(PathMatch(PathKind.PREFIX, "")), Forward((WeightedCluster(name, 1),)))
    host = VirtualHost(target.host, ("*",), (route,))
    return resolve_cluster(store, target.text, (Listener(name), host), name, previous, changed)
