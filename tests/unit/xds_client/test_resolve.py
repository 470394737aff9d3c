"""resolve: what a target needs, what is lacking, and what is published (gRFC A37, A74, A88)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.model.collection import EndpointCollection, Member
from meshsdk.model.endpoints import Endpoint, EndpointMap
from meshsdk.model.matching import PathKind, PathMatch, RouteMatch
from meshsdk.model.resources import (
    AggregateSource,
    Cluster,
    ClusterEndpoints,
    DnsSource,
    EdsSource,
    Forward,
    Kind,
    Listener,
    Locality,
    LocalityEndpoints,
    NoForward,
    Resource,
    Route,
    RouteConfiguration,
    StaticSource,
    VirtualHost,
    WeightedCluster,
)
from meshsdk.model.snapshot import BrokenCluster, Key, Leaf, Resolution, ResolvedCluster, Snapshot, Unresolvable
from meshsdk.xds_client.resolve import resolve
from meshsdk.xds_client.store import Entry, EntryStatus, Store

EVERY = RouteMatch(PathMatch(PathKind.PREFIX, ""))
LDS, RDS, CDS, EDS, LEDS = Kind.LISTENER, Kind.ROUTE, Kind.CLUSTER, Kind.ENDPOINTS, Kind.LB_ENDPOINTS
KINDS = {Listener: LDS, RouteConfiguration: RDS, Cluster: CDS, ClusterEndpoints: EDS}
LISTENER = Listener("orders", route_config_name="routes")


def host(*clusters: str, name: str = "all", domain: str = "*") -> VirtualHost:
    """Returns a virtual host that routes everything to clusters of equal weight."""
    action = Forward(tuple(WeightedCluster(cluster, 1) for cluster in clusters))
    return VirtualHost(name, (domain,), (Route("", EVERY, action),))


def routes(*hosts: VirtualHost) -> RouteConfiguration:
    """Returns the RDS resource of the tests."""
    return RouteConfiguration("routes", hosts)


def endpoints(name: str) -> ClusterEndpoints:
    """Returns an EDS resource with one endpoint."""
    place = LocalityEndpoints(Locality(zone="a"), 0, 1, EndpointMap.of([Endpoint(f"{name}:80")]))
    return ClusterEndpoints(name, (place,))


def eds(name: str) -> tuple[Cluster, ClusterEndpoints]:
    """Returns an EDS cluster with its endpoints."""
    return Cluster(name, EdsSource(name)), endpoints(name)


def aggregate(name: str, *clusters: str) -> Cluster:
    """Returns an aggregate cluster."""
    return Cluster(name, AggregateSource(clusters))


def store(*resources: Resource, entries: Iterable[Entry] = ()) -> Store:
    """Returns a store in which these resources are in force."""
    filled = Store()
    for resource in resources:
        filled.put(Entry(Key(KINDS[type(resource)], resource.name), EntryStatus.PRESENT, resource))
    for entry in entries:
        filled.put(entry)
    return filled


def walk(filled: Store, authority: str = "orders") -> Resolution:
    """Resolves the target of the tests."""
    return resolve(filled, "xds:///orders", "orders", authority)


def snapshot(filled: Store) -> Snapshot:
    """Resolves what must be complete."""
    resolution = walk(filled)
    assert isinstance(resolution.snapshot, Snapshot)
    assert not resolution.missing
    return resolution.snapshot


def keys(*names: tuple[Kind, str]) -> frozenset[Key]:
    """Returns keys."""
    return frozenset(Key(*name) for name in names)


def test_asks_step_by_step() -> None:
    """Each answer leads to the next question, and nothing is published before the last answer."""
    filled = store()
    cluster, assignment = eds("a")
    wanted: set[Key] = set()
    for resource in (LISTENER, routes(host("a")), cluster, assignment):
        key = Key(KINDS[type(resource)], resource.name)
        wanted.add(key)
        assert walk(filled) == Resolution(None, frozenset(wanted), frozenset({key}))
        filled.put(Entry(key))  # requested, nothing heard: the same
        assert walk(filled) == Resolution(None, frozenset(wanted), frozenset({key}))
        filled.put(Entry(key, EntryStatus.PRESENT, resource))
    resolution = walk(filled)
    assert resolution == Resolution(
        Snapshot("xds:///orders", LISTENER, host("a"), {"a": ResolvedCluster(cluster, (Leaf(cluster, assignment),))}),
        frozenset(wanted),
        frozenset(),
    )


def test_only_clusters_of_the_virtual_host() -> None:
    """Clusters that other virtual hosts name are not asked for; those of weight or order do not matter."""
    filled = store(
        LISTENER,
        routes(host("x", name="other", domain="other"), host("b", "a", "b", name="mine", domain="orders")),
        *eds("a"),
        *eds("b"),
    )
    found = snapshot(filled)
    assert found.virtual_host.name == "mine"
    assert list(found.clusters) == ["b", "a"]


def test_routes_that_do_not_forward_want_nothing() -> None:
    """A route that no client can follow names no cluster."""
    filled = store(LISTENER, routes(VirtualHost("all", ("*",), (Route("", EVERY, NoForward("x")),))))
    assert snapshot(filled).clusters == {}


def test_inlined_routes() -> None:
    """Routes inside the listener are used, and no RDS resource is asked for."""
    listener = Listener("orders", route_config=RouteConfiguration("", (host("a"),)))
    resolution = walk(store(listener, *eds("a")))
    assert isinstance(resolution.snapshot, Snapshot)
    assert resolution.wanted == keys((LDS, "orders"), (CDS, "a"), (EDS, "a"))


@pytest.mark.parametrize(
    ("listener", "where"),
    [
        (LISTENER, "route configuration 'routes'"),
        (Listener("orders", route_config=routes(host("a", domain="other"))), "listener 'orders'"),
    ],
)
def test_no_virtual_host(listener: Listener, where: str) -> None:
    """Without a virtual host for the target, calls fail in words that say where to look."""
    filled = store(listener, routes(host("a", domain="other")))
    assert walk(filled).snapshot == Unresolvable(
        "xds:///orders", f"{where}: no virtual host has a domain that matches 'orders'"
    )


@pytest.mark.parametrize("status", [EntryStatus.ABSENT, EntryStatus.INVALID])
@pytest.mark.parametrize(
    ("present", "key", "words"),
    [
        ((), Key(LDS, "orders"), "listener 'orders'"),
        ((LISTENER,), Key(RDS, "routes"), "route configuration 'routes'"),
    ],
)
def test_no_listener_or_route(status: EntryStatus, present: tuple[Resource, ...], key: Key, words: str) -> None:
    """A listener or route that is not there or not valid makes the target unresolvable, in the server's words."""
    filled = store(*present, entries=[Entry(key, status, problem="10.0.0.1:18000 says no")])
    resolution = walk(filled)
    assert resolution.snapshot == Unresolvable("xds:///orders", f"{words}: 10.0.0.1:18000 says no")
    assert not resolution.missing
    assert key in resolution.wanted


def test_last_good_resource_counts() -> None:
    """A88: what was once good stays in force, whatever became of its newer version."""
    cluster, assignment = eds("a")
    good: tuple[Resource, ...] = (LISTENER, routes(host("a")), cluster, assignment)
    for status in EntryStatus:
        entries = [Entry(Key(KINDS[type(one)], one.name), status, one, problem="bad") for one in good]
        found = snapshot(store(entries=entries))
        assert found.clusters == {"a": ResolvedCluster(cluster, (Leaf(cluster, assignment),))}


def test_missing_cluster_breaks_only_itself() -> None:
    """A74: calls to a cluster that does not exist fail; the others go on."""
    gone = Entry(Key(CDS, "gone"), EntryStatus.ABSENT, problem="server s has no cluster 'gone'")
    found = snapshot(store(LISTENER, routes(host("a", "gone")), *eds("a"), entries=[gone]))
    assert found.clusters["gone"] == BrokenCluster("gone", "cluster 'gone': server s has no cluster 'gone'")
    assert isinstance(found.clusters["a"], ResolvedCluster)


def test_missing_endpoints_leave_an_empty_leaf() -> None:
    """A74: a cluster without its EDS resource is there, without endpoints, with the reason."""
    cluster = Cluster("a", EdsSource("eds-a"))
    gone = Entry(Key(EDS, "eds-a"), EntryStatus.ABSENT, problem="nothing there")
    found = snapshot(store(LISTENER, routes(host("a")), cluster, entries=[gone]))
    leaf = Leaf(cluster, None, "endpoints 'eds-a': nothing there")
    assert found.clusters == {"a": ResolvedCluster(cluster, (leaf,))}


@pytest.mark.parametrize("kind", [LDS, RDS, CDS, EDS])
def test_unreachable_server(kind: Kind) -> None:
    """Without a server the answer says so at once; the key is in `missing`, so that better configuration stays."""
    cluster, assignment = eds("a")
    resources = {LDS: LISTENER, RDS: routes(host("a")), CDS: cluster, EDS: assignment}
    lost = resources.pop(kind)
    entry = Entry(Key(kind, lost.name), EntryStatus.UNREACHABLE, problem="s: connection refused")
    resolution = walk(store(*resources.values(), entries=[entry]))
    assert resolution.missing == {entry.key}
    if kind in (LDS, RDS):
        assert isinstance(resolution.snapshot, Unresolvable)
        assert resolution.snapshot.problem.endswith("s: connection refused")
    else:
        assert isinstance(resolution.snapshot, Snapshot)
        assert "s: connection refused" in str(resolution.snapshot.clusters["a"])


def test_whom_to_report_to() -> None:
    """A27: counts go to the server that the cluster came from, if it asked; a copy from the disk came from none."""

    def told(server: str, *, reports: bool = True) -> str:
        cluster, load = eds("a")
        entry = Entry(Key(CDS, "a"), EntryStatus.PRESENT, replace(cluster, reports=reports), server=server)
        found = snapshot(store(LISTENER, routes(host("a")), load, entries=[entry])).clusters["a"]
        return found.leaves[0].report_to

    assert told("10.0.0.1:18000") == "10.0.0.1:18000"
    assert told("10.0.0.1:18000", reports=False) == ""
    assert told("cache") == ""


def test_awaited_beside_unreachable() -> None:
    """As long as anything is merely awaited, nothing is published."""
    cluster, _ = eds("a")
    lost = Entry(Key(CDS, "b"), EntryStatus.UNREACHABLE, problem="refused")
    resolution = walk(store(LISTENER, routes(host("a", "b")), cluster, entries=[lost]))
    assert resolution.snapshot is None
    assert resolution.missing == keys((CDS, "b"), (EDS, "a"))


def test_logical_dns() -> None:
    """A37: a DNS cluster is one endpoint that the channel resolves; it stays the same object from walk to walk."""
    cluster = Cluster("a", DnsSource("orders.local", 80))
    filled = store(LISTENER, routes(host("a")), cluster)
    found, again = snapshot(filled).clusters["a"], snapshot(filled).clusters["a"]
    assert isinstance(found, ResolvedCluster)
    assert isinstance(again, ResolvedCluster)
    (leaf,) = found.leaves
    assert leaf.endpoints is not None
    assert [one.address for place in leaf.endpoints.localities for one in place.endpoints] == ["dns:///orders.local:80"]
    assert again.leaves[0].endpoints is leaf.endpoints


def test_dns_of_a_v6_address() -> None:
    """An IPv6 address as the name of a DNS cluster is dialled in brackets."""
    cluster = Cluster("a", DnsSource("::1", 80))
    found = snapshot(store(LISTENER, routes(host("a")), cluster)).clusters["a"]
    assert "dns:///[::1]:80" in str(found)


def test_static() -> None:
    """Inlined endpoints are taken as they are."""
    cluster = Cluster("a", StaticSource(endpoints("a")))
    found = snapshot(store(LISTENER, routes(host("a")), cluster)).clusters["a"]
    assert found == ResolvedCluster(cluster, (Leaf(cluster, endpoints("a")),))


def leaves(filled: Store, name: str = "top") -> list[str]:
    """Returns the names of a cluster's leaves."""
    found = snapshot(filled).clusters[name]
    assert isinstance(found, ResolvedCluster), found
    return [leaf.cluster.name for leaf in found.leaves]


def test_aggregate() -> None:
    """A37: leaves come depth first, each once, and only the aggregate has an entry among the clusters."""
    filled = store(
        LISTENER,
        routes(host("top")),
        aggregate("top", "a", "inner", "b", "inner"),
        aggregate("inner", "c", "a", "d"),
        *(resource for name in "abcd" for resource in eds(name)),
    )
    assert leaves(filled) == ["a", "c", "d", "b"]
    assert list(snapshot(filled).clusters) == ["top"]


def test_aggregate_goes_on_without_a_missing_leaf() -> None:
    """A37: a leaf that does not exist is passed over for the next priority, with the reason at hand."""
    gone = Entry(Key(CDS, "gone"), EntryStatus.ABSENT, problem="not there")
    filled = store(LISTENER, routes(host("top")), aggregate("top", "gone", "a"), *eds("a"), entries=[gone])
    found = snapshot(filled).clusters["top"]
    assert isinstance(found, ResolvedCluster)
    assert found.leaves[0].endpoints is None
    assert found.leaves[0].problem == "cluster 'gone': not there"
    assert found.leaves[1].cluster.name == "a"


def test_aggregate_waits_for_its_leaves() -> None:
    """A leaf that is merely awaited holds the snapshot back, and its siblings are asked for at the same time."""
    resolution = walk(store(LISTENER, routes(host("top")), aggregate("top", "a", "b")))
    assert resolution.snapshot is None
    assert resolution.missing == keys((CDS, "a"), (CDS, "b"))


@pytest.mark.parametrize(
    ("clusters", "words"),
    [
        ([aggregate("top", "top")], "top -> top"),
        ([aggregate("top", "a", "x"), aggregate("x", "y"), aggregate("y", "a", "x")], "top -> x -> y -> x"),
    ],
)
def test_cycle(clusters: list[Cluster], words: str) -> None:
    """A graph that leads back into itself breaks the cluster, and the words show the way."""
    found = snapshot(store(LISTENER, routes(host("top")), *clusters, *eds("a")))
    problem = f"cluster 'top': aggregate clusters form a cycle: {words}"
    assert found.clusters["top"] == BrokenCluster("top", problem)


def test_depth() -> None:
    """A37: a graph of 16 levels, the leaf included, is followed; one of 17 breaks the cluster."""

    def chain(depth: int) -> Store:
        names = ["top", *(f"level-{i}" for i in range(2, depth)), "leaf"]
        steps = [aggregate(name, names[i + 1]) for i, name in enumerate(names[:-1])]
        return store(LISTENER, routes(host("top")), *steps, *eds("leaf"))

    assert leaves(chain(16)) == ["leaf"]
    found = snapshot(chain(17)).clusters["top"]
    assert found == BrokenCluster("top", "cluster 'top': aggregate clusters are nested more than 16 deep")


def test_wide_graphs_are_walked_once() -> None:
    """A graph in which every level names the next one twice is walked in steps, not in powers of two."""
    levels = [aggregate(f"l{i}", f"l{i + 1}", f"l{i + 1}x") for i in range(14)]
    twins = [aggregate(f"l{i + 1}x", f"l{i + 1}") for i in range(13)]
    filled = store(LISTENER, routes(host("l0")), *levels, *twins, *eds("l14"), *eds("l14x"))
    looks = 0
    get = filled.get

    class Counting:
        def get(self, key: Key) -> Entry | None:
            nonlocal looks
            looks += 1
            return get(key)

    found = resolve(Counting(), "xds:///orders", "orders", "orders").snapshot
    assert isinstance(found, Snapshot)
    top = found.clusters["l0"]
    assert isinstance(top, ResolvedCluster)
    assert [leaf.cluster.name for leaf in top.leaves] == ["l14", "l14x"]
    assert looks < 200


def collections(*names: str) -> ClusterEndpoints:
    """Returns an EDS resource `a` with a locality for each of these collections, beside one that lists an endpoint."""
    (inline,) = endpoints("inline").localities
    places = [LocalityEndpoints(Locality(zone=f"z{name}"), 0, 1, EndpointMap(), name) for name in names]
    return ClusterEndpoints("a", (inline, *places))


def collection(name: str, *addresses: str) -> EndpointCollection:
    """Returns a LEDS collection with members at these addresses."""
    return EndpointCollection(name).updated([Member(one, Endpoint(one), "1") for one in addresses])


def places(found: Snapshot) -> list[EndpointMap]:
    """Returns the endpoints of cluster `a`, locality by locality."""
    cluster = found.clusters["a"]
    assert isinstance(cluster, ResolvedCluster)
    assert cluster.leaves[0].endpoints is not None
    return [one.endpoints for one in cluster.leaves[0].endpoints.localities]


def test_collections_are_asked_for_and_awaited() -> None:
    """Localities that name collections are complete when all of these are here."""
    filled = store(LISTENER, routes(host("a")), Cluster("a", EdsSource("a")), collections("x", "y"))
    assert walk(filled).missing == keys((LEDS, "x"), (LEDS, "y"))
    filled.put(Entry(Key(LEDS, "x"), EntryStatus.PRESENT, collection("x", "x1:1", "x2:1")))
    assert walk(filled).snapshot is None
    filled.put(Entry(Key(LEDS, "y"), EntryStatus.PRESENT, collection("y")))
    found = walk(filled)
    assert isinstance(found.snapshot, Snapshot)
    assert sorted(len(one) for one in places(found.snapshot)) == [0, 1, 2]
    assert keys((LEDS, "x"), (LEDS, "y")) <= found.wanted


def test_unchanged_collections_are_the_same_objects() -> None:
    """A change of one collection leaves the endpoints of the other the very object that it was."""
    filled = store(LISTENER, routes(host("a")), Cluster("a", EdsSource("a")), collections("x", "y"))
    x, y = collection("x", "x1:1"), collection("y", "y1:1")
    for one in (x, y):
        filled.put(Entry(Key(LEDS, one.name), EntryStatus.PRESENT, one))
    before = places(snapshot(filled))
    filled.put(Entry(Key(LEDS, "x"), EntryStatus.PRESENT, x.updated([Member("x2", Endpoint("x2:1"), "1")])))
    after = places(snapshot(filled))
    assert [a is b for a, b in zip(before, after, strict=True)] == [True, False, True]


@pytest.mark.parametrize("status", [EntryStatus.ABSENT, EntryStatus.UNREACHABLE])
def test_collection_that_does_not_come(status: EntryStatus) -> None:
    """A collection that is known to lack is empty; where nothing else is left, the leaf tells why."""
    parts = [LISTENER, routes(host("a")), Cluster("a", EdsSource("a"))]
    lacking = Entry(Key(LEDS, "x"), status, problem="it did not arrive")
    found = walk(store(*parts, collections("x"), entries=[lacking]))
    assert isinstance(found.snapshot, Snapshot)
    assert sorted(len(one) for one in places(found.snapshot)) == [0, 1]
    only = ClusterEndpoints("a", collections("x").localities[1:])
    found = walk(store(*parts, only, entries=[lacking]))
    assert isinstance(found.snapshot, Snapshot)
    assert isinstance(cluster := found.snapshot.clusters["a"], ResolvedCluster)
    assert cluster.leaves == (Leaf(parts[2], None, "LEDS collection 'x': it did not arrive"),)


def test_last_good_members_count_whatever_came_after() -> None:
    """A88: a collection with refused members or an unreachable server is what it last was."""
    filled = store(LISTENER, routes(host("a")), Cluster("a", EdsSource("a")), collections("x"))
    filled.put(Entry(Key(LEDS, "x"), EntryStatus.INVALID, collection("x", "x1:1"), problem="one is bad"))
    assert sorted(len(one) for one in places(snapshot(filled))) == [1, 1]


NAMES = ["a", "b", "c", "d"]


@st.composite
def worlds(draw: st.DrawFn) -> Store:
    """Returns a store with some clusters, some of them aggregates, in any state."""
    filled = store(LISTENER, routes(host(*draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3)))))
    for name in NAMES:
        source = st.one_of(
            st.just(EdsSource(name)),
            st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(lambda names: AggregateSource(tuple(names))),
        )
        for key, resource in (
            (Key(CDS, name), Cluster(name, draw(source))),
            (Key(EDS, name), endpoints(name)),
        ):
            status = draw(st.sampled_from(EntryStatus))
            present = status is EntryStatus.PRESENT or draw(st.booleans())
            filled.put(Entry(key, status, resource if present else None, problem="why"))
    return filled


@given(worlds())
def test_whatever_the_store(filled: Store) -> None:
    """The walk ends, repeats itself, publishes all clusters that routes name or nothing, and asks for what it lacks."""
    found = walk(filled)
    assert found == walk(filled)
    assert found.missing <= found.wanted
    for key in found.wanted:
        entry = filled.get(key)
        lacking = entry is None or entry.resource is None
        open_ = entry is None or entry.status in (EntryStatus.REQUESTED, EntryStatus.UNREACHABLE)
        assert (key in found.missing) == (lacking and open_)
    if found.snapshot is None:
        assert found.missing
    else:
        assert isinstance(found.snapshot, Snapshot)
        named = {
            cluster.name
            for route in found.snapshot.virtual_host.routes
            if isinstance(route.action, Forward)
            for cluster in route.action.clusters
        }
        assert found.snapshot.clusters.keys() == named


@st.composite
def any_entry(draw: st.DrawFn, key: Key) -> Entry:
    """Returns an entry in any state, with any resource of its kind or none."""
    if key.kind is LDS:
        resource: Resource = LISTENER
    elif key.kind is RDS:
        resource = routes(host(*draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3))))
    elif key.kind is EDS:
        resource = draw(st.sampled_from([endpoints("a"), endpoints("b"), collections("x"), collections("x", "y")]))
    elif key.kind is LEDS:
        resource = collection(key.name, *draw(st.sets(st.sampled_from(["x:1", "y:1"]))))
    else:
        names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3)
        source = st.one_of(st.sampled_from(NAMES).map(EdsSource), names.map(lambda some: AggregateSource(tuple(some))))
        resource = Cluster(key.name, draw(source))
    present = draw(st.booleans()) or key.kind in (LDS, RDS)
    status = EntryStatus.PRESENT if present else draw(st.sampled_from(EntryStatus))
    return Entry(key, status, resource if present or draw(st.booleans()) else None, problem="why")


KEYS = [Key(LDS, "orders"), Key(RDS, "routes"), Key(LEDS, "x"), Key(LEDS, "y")]
KEYS += [Key(kind, name) for kind in (CDS, EDS) for name in NAMES]


@given(st.data())
def test_a_walk_that_knows_the_last_one(data: st.DataObject) -> None:
    """After any changes, the walk that looks only at them finds what a walk from scratch finds."""
    members = [Entry(Key(LEDS, name), EntryStatus.PRESENT, collection(name, "z:1")) for name in "xy"]
    rest = [one for name in NAMES[1:] for one in eds(name)]
    parts = [LISTENER, routes(host("a", "b")), Cluster("a", EdsSource("a")), collections("x", "y"), *rest]
    filled = store(*parts, entries=members)
    previous = walk(filled)
    for _ in range(data.draw(st.integers(1, 12))):
        changed = data.draw(st.sets(st.sampled_from(KEYS), max_size=3))
        for key in sorted(changed, key=lambda one: (one.kind.name, one.name)):
            filled.put(data.draw(any_entry(key)))
        stepped = resolve(filled, "xds:///orders", "orders", "orders", previous, changed)
        assert stepped == walk(filled)
        previous = stepped


def test_a_change_costs_its_own_cluster() -> None:
    """Of a thousand clusters, the one whose endpoints moved is looked at; all others are the very objects they were."""
    names = [f"c{number}" for number in range(1000)]
    filled = store(LISTENER, routes(host(*names)), *(one for name in names for one in eds(name)))
    before = walk(filled)
    key = Key(EDS, "c7")
    filled.put(Entry(key, EntryStatus.PRESENT, endpoints("moved")))
    looks: list[Key] = []

    class Counting:
        def get(self, key: Key) -> Entry | None:
            looks.append(key)
            return filled.get(key)

    after = resolve(Counting(), "xds:///orders", "orders", "orders", before, {key})
    assert looks == [Key(CDS, "c7"), key]
    assert isinstance(before.snapshot, Snapshot)
    assert isinstance(after.snapshot, Snapshot)
    old, new = before.snapshot.clusters, after.snapshot.clusters
    assert [name for name in names if old[name] is not new[name]] == ["c7"]
    assert after.wanted is before.wanted
