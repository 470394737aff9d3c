"""`mesh:` targets: how they are read, and the configuration that instances alone make."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshsdk.bootstrap import load_bootstrap
from meshsdk.errors import ConfigurationError
from meshsdk.model.endpoints import Endpoint, EndpointMap
from meshsdk.model.policy import LeastRequest, RpcDefaults
from meshsdk.model.resources import (
    Cluster,
    ClusterEndpoints,
    EdsSource,
    Locality,
    LocalityEndpoints,
    RegistrySource,
)
from meshsdk.model.snapshot import Leaf, ResolvedCluster, Snapshot, Unresolvable
from meshsdk.routing.router import RouteTable
from meshsdk.xds_client.direct import is_mesh_target, read_target, resolve_direct
from meshsdk.xds_client.instances import instances_key
from meshsdk.xds_client.store import Entry, EntryStatus, Store

REGISTRIES = {"default": {"url": "etcd://h:1"}, "central/1": {"url": "etcd://h:2"}}
BOOTSTRAP = load_bootstrap({"meshsdk": {"registries": REGISTRIES}}, {})
ENDPOINTS = ClusterEndpoints("x", (LocalityEndpoints(Locality(), 0, 1, EndpointMap.of([Endpoint("h:1")])),))


@pytest.mark.parametrize(
    ("text", "source", "host", "listener"),
    [
        ("mesh:///orders", RegistrySource("default", interface="orders"), "orders", "mesh://default/orders"),
        (
            "mesh:///shop.Orders?unit=hz",
            RegistrySource("default", interface="shop.Orders", unit="hz"),
            "shop.Orders",
            "mesh://default/shop.Orders?unit=hz",
        ),
        (
            "mesh://central%2F1/a%20b",
            RegistrySource("central/1", interface="a b"),
            "a%20b",
            "mesh://central%2F1/a%20b",
        ),
    ],
)
def test_targets(text, source, host, listener):
    """Registry, name and unit; the name is the :authority of calls."""
    target = read_target(text, BOOTSTRAP)
    assert (target.text, target.source, target.host, target.listener) == (text, source, host, listener)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mesh:///", "write mesh:///NAME"),
        ("mesh:", "write mesh:///NAME"),
        ("mesh:orders", "write mesh:///NAME"),
        ("mesh://orders", "write mesh:///NAME"),
        ("mesh:///orders/Get", "write mesh:///NAME"),
        ("mesh:///or%0Aders", "write mesh:///NAME"),
        ("mesh:///" + "o" * 254, "write mesh:///NAME"),
        ("mesh:///orders?zone=a", "'zone' is not known"),
        ("mesh:///orders?unit=a&unit=b", "'unit' is there twice"),
        ("mesh://other/orders", r"meshsdk.registries has no 'other' \(it has: central/1, default\)"),
        ("xds:///orders", 'bootstrap has no "xds_servers" to ask; write mesh:///NAME'),
        ("dns:///orders", "not an xds: target"),
    ],
)
def test_targets_that_cannot_be_meant(text, words):
    """Each is refused when the channel is made, with what to write."""
    with pytest.raises(ConfigurationError, match=words):
        read_target(text, BOOTSTRAP)


def test_other_targets_are_those_of_a_control_plane():
    """With servers `xds:` is read as ever; what neither scheme names is grpc's own."""
    servers = [{"server_uri": "h:1", "channel_creds": [{"type": "insecure"}]}]
    assert read_target("xds:///orders", load_bootstrap({"xds_servers": servers}, {})).listener == "orders"
    assert [is_mesh_target(text) for text in ("xds:///a", "mesh:///a", "dns:///a", "h:1")] == [True, True, False, False]


def test_keys_differ_by_all_but_the_mode():
    """Sources that are followed apart have keys apart; the migration mode of one may change."""
    base = {"registry": "r", "app": "a", "unit": "u", "interface": "i", "labels": (("v", "1"),)}
    keys = {instances_key(RegistrySource(**base)).name}
    for field, value in [("registry", "x"), ("app", ""), ("unit", ""), ("interface", ""), ("labels", (("v", ""),))]:
        keys.add(instances_key(RegistrySource(**{**base, field: value})).name)
    assert len(keys) == 6
    odd = RegistrySource("r", app="a&unit=u"), RegistrySource("r", app="a", unit="u")
    assert instances_key(odd[0]) != instances_key(odd[1])


def test_resolution():
    """Awaited, out of reach, there: as for an `xds:` target; what stays the same is the same object."""
    target = read_target("mesh:///orders", BOOTSTRAP)
    key = instances_key(target.source)
    store = Store()
    assert resolve_direct(store, target, target.source).snapshot is None
    store.put(Entry(key))
    assert resolve_direct(store, target, target.source).snapshot is None
    store.put(Entry(key, EntryStatus.UNREACHABLE, problem="registry 'default': down"))
    resolution = resolve_direct(store, target, target.source)
    words = "instances 'mesh://default/orders': registry 'default': down"
    assert resolution.snapshot == Unresolvable("mesh:///orders", words)
    assert resolution.missing == resolution.wanted == {key}
    store.put(Entry(key, EntryStatus.PRESENT, ENDPOINTS))
    first = resolve_direct(store, target, target.source).snapshot
    assert isinstance(first, Snapshot)
    (cluster,) = first.clusters.values()
    assert cluster.cluster.lb.policy == LeastRequest()
    assert cluster.leaves[0].endpoints is ENDPOINTS
    again = resolve_direct(store, target, target.source)
    assert again.snapshot.virtual_host is first.virtual_host
    assert again.missing == frozenset()


def test_why_there_is_no_instance():
    """A registry that has answered with none says so beside the endpoints; a word on some is no reason."""
    target = read_target("mesh:///orders", BOOTSTRAP)
    key = instances_key(target.source)
    store = Store()
    for endpoints, words in ((ClusterEndpoints("x", ()), "registry 'default': none"), (ENDPOINTS, "")):
        store.put(Entry(key, EntryStatus.PRESENT, endpoints, problem="none", server="registry 'default'"))
        (cluster,) = resolve_direct(store, target, target.source).snapshot.clusters.values()
        assert (cluster.leaves[0].endpoints, cluster.leaves[0].problem) == (endpoints, words)


def test_the_one_route():
    """Every method goes to the one cluster, without a timeout and without retries."""
    target = read_target("mesh:///orders", BOOTSTRAP)
    store = Store()
    store.put(Entry(instances_key(target.source), EntryStatus.PRESENT, ENDPOINTS))
    host = resolve_direct(store, target, target.source).snapshot.virtual_host
    route = RouteTable(host).plan("/any.Service/Method").unconditional
    assert route.single == "mesh://default/orders"
    assert (route.forward.retry, route.forward.max_duration) == (None, None)


def test_what_servers_say_reaches_the_snapshot():
    """Options of methods, as the registry has them, stand beside the cluster they hold for."""
    target = read_target("mesh:///orders", BOOTSTRAP)
    said = {"/s/m": RpcDefaults(idempotent=True)}
    store = Store()
    store.put(Entry(instances_key(target.source), EntryStatus.PRESENT, replace(ENDPOINTS, methods=said)))
    (cluster,) = resolve_direct(store, target, target.source).snapshot.clusters.values()
    assert cluster.methods == said


def test_leaves_that_say_different_things():
    """Calls to an aggregate may reach any of its leaves: only what all say alike holds."""
    one, two = RpcDefaults(idempotent=True), RpcDefaults(timeout=1.0)
    ours = replace(ENDPOINTS, methods={"/s/a": one, "/s/b": one})
    theirs = replace(ENDPOINTS, methods={"/s/a": one, "/s/b": two})
    cluster = Cluster("c", EdsSource("c"))
    leaves = [Leaf(cluster, endpoints) for endpoints in (ours, theirs, ENDPOINTS)]
    assert ResolvedCluster(cluster, tuple(leaves[:2])).methods == {"/s/a": one}
    assert ResolvedCluster(cluster, tuple(leaves)).methods == {}
    assert ResolvedCluster(cluster, (Leaf(cluster, None, "gone"),)).methods == {}
