"""Targets that are a cluster: what they want, and where their calls go."""

from __future__ import annotations

import pytest

from meshsdk.bootstrap import load_bootstrap
from meshsdk.errors import ConfigurationError
from meshsdk.model.endpoints import Endpoint, EndpointMap
from meshsdk.model.resources import (
    Cluster,
    ClusterEndpoints,
    EdsSource,
    Forward,
    Kind,
    Locality,
    LocalityEndpoints,
    WeightedCluster,
)
from meshsdk.model.snapshot import BrokenCluster, Key, Resolution, ResolvedCluster, Snapshot
from meshsdk.xds_client.cluster_target import cluster_authority, cluster_target, read_cluster_target, resolve_target
from meshsdk.xds_client.direct import is_mesh_target, read_target
from meshsdk.xds_client.names import Target
from meshsdk.xds_client.store import Entry, EntryStatus, Store

NAME = "outbound|80|v1|limits.shop"
CDS, EDS = Key(Kind.CLUSTER, NAME), Key(Kind.ENDPOINTS, "e")
SERVERS = {"xds_servers": [{"server_uri": "127.0.0.1:1", "channel_creds": [{"type": "insecure"}]}]}


def target() -> Target:
    """The target of the cluster."""
    found = read_cluster_target(cluster_target(NAME))
    assert found is not None
    return found


def put(store: Store, resource: Cluster | ClusterEndpoints) -> None:
    """Puts a resource in force."""
    key = CDS if isinstance(resource, Cluster) else EDS
    store.put(Entry(key, EntryStatus.PRESENT, resource))


def endpoints(address: str) -> ClusterEndpoints:
    """One endpoint."""
    return ClusterEndpoints("e", (LocalityEndpoints(Locality(), 0, 1, EndpointMap.of([Endpoint(address)])),))


def walk(store: Store, before: Resolution | None = None, *changed: Key) -> Resolution:
    """Resolves once more."""
    return resolve_target(store, target(), before, frozenset(changed))


def test_name():
    """A cluster's name is the :authority, as far as one can hold it; no channel of an application means a cluster."""
    assert target().listener == NAME
    assert cluster_authority("limits.shop:80") == "limits.shop:80"
    assert cluster_authority(NAME) == "outbound%7C80%7Cv1%7Climits.shop"
    assert read_cluster_target("xds:///limits") is None
    assert not is_mesh_target(cluster_target(NAME))


def test_steps():
    """The cluster is asked for, then its endpoints, and no listener; then every call goes there."""
    store = Store()
    first = walk(store)
    assert (first.snapshot, first.wanted) == (None, {CDS})
    put(store, Cluster(NAME, EdsSource("e")))
    second = walk(store, first, CDS)
    assert (second.snapshot, second.wanted) == (None, {CDS, EDS})
    put(store, endpoints("10.0.0.1:80"))
    third = walk(store, second, EDS)
    assert isinstance(third.snapshot, Snapshot)
    (route,) = third.snapshot.virtual_host.routes
    assert isinstance(route.action, Forward)
    assert route.action.clusters == (WeightedCluster(NAME, 1),)
    assert isinstance(third.snapshot.clusters[NAME], ResolvedCluster)


def test_change():
    """A change of the endpoints costs the cluster and leaves the way to it the very object it was."""
    store = Store()
    put(store, Cluster(NAME, EdsSource("e")))
    put(store, endpoints("10.0.0.1:80"))
    before = walk(store)
    put(store, endpoints("10.0.0.2:80"))
    after = walk(store, before, EDS)
    assert isinstance(before.snapshot, Snapshot)
    assert isinstance(after.snapshot, Snapshot)
    assert after.snapshot.virtual_host is before.snapshot.virtual_host
    assert after.snapshot.clusters != before.snapshot.clusters


def test_absent():
    """A cluster that the server does not have is told in words."""
    store = Store()
    store.put(Entry(CDS, EntryStatus.ABSENT, problem="it has none"))
    found = walk(store).snapshot
    assert isinstance(found, Snapshot)
    broken = found.clusters[NAME]
    assert isinstance(broken, BrokenCluster)
    assert "it has none" in broken.problem


def test_needs_servers():
    """Without a control plane there are no clusters."""
    assert read_target(cluster_target(NAME), load_bootstrap({**SERVERS, "node": {"id": "n"}}, {})) == target()
    registries = {"node": {"id": "n"}, "meshsdk": {"registries": {"default": {"url": "memory://"}}}}
    with pytest.raises(ConfigurationError, match="xds_servers"):
        read_target(cluster_target(NAME), load_bootstrap(registries, {}))
