"""`mesh:` targets: calls straight to the instances in a service registry, with no control plane. Pure.

`mesh:///NAME` and `mesh://REGISTRY/NAME`; NAME is a gRPC service or an application. There is one route for every call,
no retries, no timeout of its own, and the balancing of `LB`: least_request over all instances alike, wherever they are.
With `?warmup=SECONDS&aggression=A` instances that have just come online get less at first (`SlowStart`).
Called by the session in place of `resolve`, and by whoever reads targets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Protocol
from urllib.parse import parse_qsl, quote, unquote

from meshsdk.bootstrap import Bootstrap
from meshsdk.errors import ConfigurationError
from meshsdk.model.matching import PathKind, PathMatch, RouteMatch
from meshsdk.model.policy import LbConfig, LeastRequest, SlowStart
from meshsdk.model.resources import (
    Cluster,
    ClusterEndpoints,
    Forward,
    Listener,
    RegistrySource,
    Route,
    VirtualHost,
    WeightedCluster,
)
from meshsdk.model.snapshot import Key, Leaf, Resolution, ResolvedCluster, Snapshot, Unresolvable
from meshsdk.xds_client.cluster_target import read_cluster_target
from meshsdk.xds_client.instances import instances_key, why_none
from meshsdk.xds_client.names import Target, parse_target
from meshsdk.xds_client.store import Entry, EntryStatus

LB = LbConfig(LeastRequest(), locality_weighted=False)

_DEFAULT = "default"  # the registry of mesh:///NAME
_NAME_MAX = 253  # characters, as for an application in a registry
_HOST_SAFE = "-._~!$&'()*+,;=:[]@"  # RFC 3986 section 3.2: what an :authority may hold
_KEPT = 1024  # targets whose fixed parts are kept, so that an unchanged one stays the same object
_SHAPE = "write mesh:///NAME or mesh://REGISTRY/NAME, with ?unit=UNIT to stay in a unit, ?warmup=SECONDS to warm up"
_SETTINGS = ("unit", "warmup", "aggression")
_LONGEST_WARMUP = 86_400.0  # seconds
_AGGRESSION = (0.01, 100.0)  # as in a DestinationRule


class Entries(Protocol):
    """What is seen of the store."""

    def get(self, key: Key) -> Entry | None:
        """Returns what is known about a key, None for one that nothing asked for yet."""


def read_target(text: str, bootstrap: Bootstrap) -> Target:
    """Reads an `xds:` or a `mesh:` target, or a cluster's. Raises ConfigurationError for one that cannot be meant."""
    if text.startswith("mesh:"):
        return _read_direct(text, bootstrap)
    target = read_cluster_target(text) or parse_target(text, bootstrap)
    if not bootstrap.servers and not target.listener.startswith("xdstp:"):
        raise ConfigurationError(
            f'target {text!r}: {bootstrap.origin} has no "xds_servers" to ask; write mesh:///NAME for a registry'
        )
    return target


def _read_direct(text: str, bootstrap: Bootstrap) -> Target:
    place, _, query = text.removeprefix("mesh:").partition("?")
    registry, slash, path = place[2:].partition("/") if place.startswith("//") else ("", "", "")
    name = unquote(path)
    if not slash or not name or "/" in name or len(name) > _NAME_MAX or not name.isprintable():
        raise ConfigurationError(f"target {text!r}: {_SHAPE}")
    registry = unquote(registry) or _DEFAULT
    if registry not in bootstrap.mesh.registries:
        known = ", ".join(sorted(bootstrap.mesh.registries)) or "none"
        raise ConfigurationError(
            f"target {text!r}: {bootstrap.origin}: meshsdk.registries has no {registry!r} (it has: {known})"
        )
    settings = _settings(text, query)
    _slow_start(text, settings)
    source = RegistrySource(registry, interface=name, unit=settings.get("unit", ""))
    return Target(text, instances_key(source).name, quote(name, safe=_HOST_SAFE), source)


def _settings(text: str, query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    if unknown := [key for key, _ in pairs if key not in _SETTINGS]:
        raise ConfigurationError(f"target {text!r}: {min(unknown)!r} is not known; {_SHAPE}")
    settings = dict(pairs)
    if len(settings) < len(pairs):
        twice = next(key for key in settings if [name for name, _ in pairs].count(key) > 1)
        raise ConfigurationError(f"target {text!r}: {twice!r} is there twice; {_SHAPE}")
    return settings


def _slow_start(text: str, settings: Mapping[str, str]) -> SlowStart | None:
    if "warmup" not in settings:
        if "aggression" in settings:
            raise ConfigurationError(f"target {text!r}: 'aggression' means nothing without 'warmup'; {_SHAPE}")
        return None
    try:
        window, aggression = float(settings["warmup"]), float(settings.get("aggression", "1"))
    except ValueError:
        window = aggression = math.nan
    least, most = _AGGRESSION
    if not (0 < window <= _LONGEST_WARMUP and least <= aggression <= most):
        raise ConfigurationError(
            f"target {text!r}: 'warmup' is seconds above 0 and up to a day, 'aggression' from {least} to {most:g}"
        )
    return SlowStart(window, aggression)


@dataclass(frozen=True, slots=True)
class _Fixed:
    """What stays the same of a target's configuration."""

    listener: Listener
    host: VirtualHost
    cluster: Cluster


@lru_cache(maxsize=_KEPT)
def _fixed(target: Target, source: RegistrySource) -> _Fixed:
    name = instances_key(source).name
    route = Route("all", RouteMatch(PathMatch(PathKind.PREFIX, "")), Forward((WeightedCluster(name, 1),)))
    balancing = replace(LB, slow_start=_slow_start(target.text, _settings(target.text, target.text.partition("?")[2])))
    return _Fixed(Listener(name), VirtualHost(target.host, ("*",), (route,)), Cluster(name, source, balancing))


def resolve_direct(store: Entries, target: Target, source: RegistrySource) -> Resolution:
    """Returns the configuration of a `mesh:` target, as `resolve` does of an `xds:` one."""
    key = instances_key(source)
    wanted = frozenset({key})
    entry = store.get(key)
    if entry is None or (entry.resource is None and entry.status is EntryStatus.REQUESTED):
        return Resolution(None, wanted, wanted)
    if not isinstance(entry.resource, ClusterEndpoints):
        return Resolution(Unresolvable(target.text, f"instances {key.name!r}: {entry.problem}"), wanted, wanted)
    fixed = _fixed(target, source)
    cluster = ResolvedCluster(fixed.cluster, (Leaf(fixed.cluster, entry.resource, why_none(entry)),))
    clusters = MappingProxyType({key.name: cluster})
    return Resolution(Snapshot(target.text, fixed.listener, fixed.host, clusters), wanted, frozenset())


def is_mesh_target(target: str) -> bool:
    """Tells whether the mesh itself handles a target; any other is grpc's."""
    return target.startswith(("xds:", "mesh:"))
