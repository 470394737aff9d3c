"""LEDS over real gRPC against a scripted ADS server: endpoints as resources of their own, one by one."""

from __future__ import annotations

import grpc
import pytest
from envoy.config.endpoint.v3 import endpoint_pb2
from google.protobuf import any_pb2

from meshsdk import Mesh
from meshsdk.model.snapshot import ResolvedCluster
from meshsdk.xds_client.store import EntryStatus
from tests.e2e.processes import until
from tests.e2e.scripted_ads import (
    CDS,
    EDS,
    LDS,
    LEDS,
    PATIENCE,
    RDS,
    ScriptedAds,
    collected,
    endpoints,
    lb_endpoint,
    leds_service,
    member,
    pack,
    service,
)
from tests.e2e.watchers import QUICK, Clients, Watcher, ports, row

GLOB = member("orders", "z", "*")


@pytest.fixture
def clients():
    """Makes clients that are closed at the end, and leave no thread behind."""
    with Clients() as made:
        yield made


@pytest.fixture
def ads():
    """A server that speaks both variants."""
    with ScriptedAds() as server:
        yield server


def following(ads, clients, *numbers, **fields):
    """A client that has been told the members of one collection; returns it with its watcher and its stream."""
    client = clients(ads.address, transport="delta", **fields)
    watcher = Watcher(client)
    stream = ads.stream()
    stream.answer_all(leds_service("orders", z=numbers))
    assert ports(watcher.snapshot()) == sorted(numbers)
    return client, watcher, stream


def change(stream, *numbers, removed=(), version="2"):
    """The server tells members, each by its port, and ports whose members are gone."""
    names = tuple(member("orders", "z", number) for number in numbers)
    gone = tuple(member("orders", "z", number) for number in removed)
    stream.respond(LEDS, *map(lb_endpoint, numbers), names=names, removed=gone, version=version)


def nacks(stream):
    """The NACKs that came so far."""
    return [request for request in stream.requests if request.HasField("error_detail")]


def first_requests(stream, *types):
    """The first request of each type on a stream."""
    found = {}
    while found.keys() != set(types):
        request = stream.next_request()
        found.setdefault(request.type_url, request)
    return found


def test_a_thousand_endpoints_and_their_changes(ads, clients):
    """A collection of a thousand is one subscription; members come, change and go by messages of one resource each."""
    numbers = range(1, 1001)
    client, watcher, stream = following(ads, clients, *numbers)
    (request,) = [one for one in stream.requests if one.type_url == LEDS and one.resource_names_subscribe]
    assert list(request.resource_names_subscribe) == [GLOB]
    assert dict(request.initial_resource_versions) == {}
    change(stream, 2001)
    assert ports(watcher.snapshot()) == [*numbers, 2001]
    change(stream, removed=[1])
    assert ports(watcher.snapshot()) == [*range(2, 1001), 2001]
    stream.respond(LEDS, lb_endpoint(3001), names=(member("orders", "z", 7),), version="9")
    before, after = watcher.snapshot(), None
    assert ports(before) == sorted({*range(2, 1001), 2001, 3001} - {7})
    change(stream, 7)
    after = watcher.snapshot()
    assert ports(after) == [*range(2, 1001), 2001]
    assert not nacks(stream)
    assert row(client, "LB_ENDPOINTS", GLOB).status is EntryStatus.PRESENT


def test_nothing_is_published_before_all_collections_are_here(ads, clients):
    """A cluster of two localities, one of them empty, is complete when both collections were told of."""
    watcher = Watcher(clients(ads.address, transport="delta"))
    stream = ads.stream()
    resources = leds_service("orders", a=[1, 2], b=[])
    for type_url in (LDS, RDS, CDS, EDS):
        stream.next_request(type_url)
        stream.respond(type_url, resources[type_url, "orders"], names=("orders",))
    asked = stream.next_request(LEDS)
    assert sorted(asked.resource_names_subscribe) == [member("orders", zone, "*") for zone in "ab"]
    stream.respond(LEDS, lb_endpoint(1), names=(member("orders", "a", 1),))
    assert not stream.next_request(LEDS).HasField("error_detail")
    assert watcher.quiet()
    stream.respond(LEDS, removed=(member("orders", "b", "*"),))
    snapshot = watcher.snapshot()
    assert ports(snapshot) == [1]
    assert isinstance(cluster := snapshot.clusters["orders"], ResolvedCluster)
    assert [len(one.endpoints) for one in cluster.leaves[0].endpoints.localities] == [1, 0]


def test_reconnect_tells_versions_and_gets_what_changed(ads, clients):
    """The new stream lists every member with its version; what the server then sends are changes."""
    _, watcher, stream = following(ads, clients, 1, 2, 3)
    change(stream, 4, version="7")
    watcher.snapshot()
    stream.finish()
    again = ads.stream()
    request = first_requests(again, LDS, RDS, CDS, EDS, LEDS)[LEDS]
    versions = {member("orders", "z", number): "1" for number in (1, 2, 3)} | {member("orders", "z", 4): "7"}
    assert dict(request.initial_resource_versions) == versions
    assert watcher.quiet()
    change(again, 5, removed=[2])
    assert ports(watcher.snapshot()) == [1, 3, 4, 5]


def test_malformed_member_is_refused_and_the_rest_is_taken(ads, clients):
    """Of one response the good members count; the NACK names the bad one, whose last good one stays in force."""
    client, watcher, stream = following(ads, clients, 1, 2)
    bad = any_pb2.Any(type_url=LEDS, value=b"\x0a\xff")
    names = (member("orders", "z", 1), member("orders", "z", 3))
    stream.respond(LEDS, bad, lb_endpoint(3), names=names, version="2")
    assert ports(watcher.snapshot()) == [1, 2, 3]
    (nack,) = until(lambda: nacks(stream), "a NACK")
    assert repr(names[0]) in nack.error_detail.message
    assert repr(names[1]) not in nack.error_detail.message
    assert row(client, "LB_ENDPOINTS", GLOB).status is EntryStatus.INVALID
    assert "1: LbEndpoint" in row(client, "LB_ENDPOINTS", GLOB).problem
    stream.respond(LEDS, lb_endpoint(9), names=names[:1], version="3")
    assert ports(watcher.snapshot()) == [2, 3, 9]
    assert row(client, "LB_ENDPOINTS", GLOB).problem == ""


def test_collection_emptied_and_given_up(ads, clients):
    """An emptied collection leaves its cluster without endpoints; one that EDS no longer names is unsubscribed."""
    client, watcher, stream = following(ads, clients, 1, 2)
    stream.respond(LEDS, removed=(GLOB,))
    assert ports(watcher.snapshot()) == []
    change(stream, 3)
    assert ports(watcher.snapshot()) == [3]
    stream.respond(EDS, endpoints("orders", 8), names=("orders",), version="2")
    assert ports(watcher.snapshot()) == [8]
    gone = until(lambda: [r for r in stream.requests if GLOB in r.resource_names_unsubscribe], "it is unsubscribed")
    assert len(gone) == 1
    assert not [one for one in client.ledger() if one.kind.name == "LB_ENDPOINTS"]


def test_collection_that_never_comes(ads, clients):
    """A57: a server that names a collection and never tells of it costs the timeout, then calls fail in words."""
    client = clients(ads.address, transport="delta", timing=QUICK)
    watcher = Watcher(client)
    stream = ads.stream()
    resources = leds_service("orders", z=[])
    for type_url in (LDS, RDS, CDS, EDS):
        stream.next_request(type_url)
        stream.respond(type_url, resources[type_url, "orders"], names=("orders",))
    cluster = watcher.snapshot().clusters["orders"]
    assert isinstance(cluster, ResolvedCluster)
    assert cluster.leaves[0].endpoints is None
    assert f"LEDS collection {GLOB!r}" in cluster.leaves[0].problem
    assert "did not arrive in time" in cluster.leaves[0].problem


def test_state_of_the_world_has_no_collections(clients):
    """A client that fell back to SotW does not announce LEDS, refuses it in words, and takes the next good version."""
    with ScriptedAds(delta=False) as ads:
        client = clients(ads.address, transport="auto")
        watcher = Watcher(client)
        stream = ads.stream()
        first = stream.next_request()
        assert "meshsdk.leds" not in first.node.client_features
        stream.respond(LDS, service("orders")[LDS, "orders"])
        stream.answer_all({**service("orders"), (EDS, "orders"): collected("orders", "z")})
        cluster = watcher.snapshot().clusters["orders"]
        assert isinstance(cluster, ResolvedCluster)
        assert "state-of-the-world xDS cannot carry" in cluster.leaves[0].problem
        (nack,) = until(lambda: nacks(stream), "a NACK")
        assert "state-of-the-world xDS cannot carry" in nack.error_detail.message
        stream.respond(EDS, endpoints("orders", 4), version="2")
        assert ports(watcher.snapshot()) == [4]
        assert row(client, "ENDPOINTS").status is EntryStatus.PRESENT


def test_delta_streams_announce_leds(ads, clients):
    """The node's features tell the server that endpoints may come as collections."""
    Watcher(clients(ads.address, transport="auto"))
    assert "meshsdk.leds" in ads.stream().next_request().node.client_features


def test_collection_of_another_authority(ads, clients):
    """A47: a collection is asked for at the servers of the authority that its name has."""
    with ScriptedAds() as far:
        servers = [{"server_uri": far.address, "channel_creds": [{"type": "insecure"}]}]
        client = clients(ads.address, transport="delta", authorities={"far": {"xds_servers": servers}})
        watcher = Watcher(client)
        parent = endpoint_pb2.ClusterLoadAssignment.FromString(collected("orders", "z").value)
        parent.endpoints[0].leds_cluster_locality_config.leds_collection_name = GLOB.replace("xdstp://", "xdstp://far")
        ads.stream().answer_all({**service("orders"), (EDS, "orders"): pack(parent)})
        stream = far.stream()
        (asked,) = stream.next_request(LEDS).resource_names_subscribe
        assert asked.startswith("xdstp://far/")
        stream.respond(LEDS, lb_endpoint(5), names=(asked.replace("*", "m"),))
        assert ports(watcher.snapshot()) == [5]


def test_start_from_disk_while_the_control_plane_is_dead(tmp_path, clients):
    """Members survive a restart of the client, changes of them too; a server that answers lists them anew."""
    with ScriptedAds() as ads:
        client, watcher, stream = following(ads, clients, 1, 2, 3, meshsdk={"cache_dir": str(tmp_path)})
        change(stream, 4, removed=[1])
        assert ports(watcher.snapshot()) == [2, 3, 4]
        client.close()
    second = clients(ads.address, transport="delta", meshsdk={"cache_dir": str(tmp_path)})
    watcher = Watcher(second)
    assert ports(watcher.snapshot()) == [2, 3, 4]
    assert row(second, "LB_ENDPOINTS", GLOB).server == "cache"
    with ScriptedAds(port=ads.port) as again:
        stream = again.stream()
        stream.answer_all(leds_service("orders", z=[3, 5]))
        assert ports(watcher.snapshot()) == [3, 5]
        asked = [one for one in stream.requests if one.type_url == LEDS and one.resource_names_subscribe]
        assert dict(asked[0].initial_resource_versions) == {}


def test_fallback_server_lists_its_own_members(clients):
    """A71: when the first server is gone and something lacks, the second one's listing replaces the first one's."""
    with ScriptedAds() as second:
        with ScriptedAds() as first:
            client = clients(first.address, second.address, transport="delta")
            watcher = Watcher(client)
            first.stream().answer_all(leds_service("orders", z=[1, 2]))
            assert ports(watcher.snapshot()) == [1, 2]
        Watcher(client, "xds:///other")  # something lacks
        second.stream().answer_all({**leds_service("orders", z=[2, 3]), **service("other", 9)})
        assert ports(watcher.snapshot()) == [2, 3]
        assert row(client, "LB_ENDPOINTS", GLOB).server == second.address


def test_calls_follow_the_collection(ads, backends):
    """A call goes to the member there is; when the server exchanges that one resource, the next calls go elsewhere."""
    servers = [{"server_uri": ads.address, "channel_creds": [{"type": "insecure"}]}]
    with Mesh({"xds_servers": servers, "node": {"id": "n"}}) as mesh:
        channel = mesh.channel("xds:///orders")
        call = channel.unary_unary("/test.Backend/Name", _registered_method=False)
        first = call.future(b"", timeout=PATIENCE)
        stream = ads.stream()
        stream.answer_all(leds_service("orders", z=[backends["a"]]))
        assert first.result() == b"a"
        change(stream, backends["b"], removed=[backends["a"]])
        until(lambda: name(call) == "b", "calls go to the new member")
        assert {name(call) for _ in range(20)} == {"b"}
        stream.respond(LEDS, removed=(GLOB,))
        until(lambda: failure(call) is grpc.StatusCode.UNAVAILABLE, "calls fail without members")


def name(call):
    """Which backend answers."""
    return call(b"", timeout=PATIENCE, wait_for_ready=True).decode()


def failure(call):
    """The status of a call."""
    try:
        call(b"", timeout=PATIENCE)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK
