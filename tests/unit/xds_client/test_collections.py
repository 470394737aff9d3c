"""LEDS in AdsMachine: a collection is subscribed by its glob, and each of its members is a resource (xRFC TP1)."""

from __future__ import annotations

import pytest

from meshsdk.bootstrap import ServerConfig, Transport
from meshsdk.model.collection import EndpointCollection, Member
from meshsdk.model.endpoints import Endpoint
from meshsdk.model.resources import ClusterEndpoints, Locality, LocalityEndpoints
from meshsdk.model.snapshot import Key
from meshsdk.xds_client.messages import Close, DeltaRequest, Open, Received, ServerProblem, SotwRequest
from meshsdk.xds_client.store import EntryStatus
from tests.unit.xds_client.bench import CDS, EDS, LEDS, Bench, opened, raw, received, sent

BASE = "xdstp:///envoy.config.endpoint.v3.LbEndpoint/orders"
GLOB = f"{BASE}/*"
OTHER = "xdstp:///envoy.config.endpoint.v3.LbEndpoint/other/*"
STRICT = ServerConfig("one:1", features=frozenset({"fail_on_data_errors"}))
PAIR = (ServerConfig("one:1"), ServerConfig("two:2"))


def member(identifier: str, address: str = "", version: str = "1", base: str = BASE) -> Received:
    """One resource of a collection; its address is its id unless given."""
    return received(LEDS, f"{base}/{identifier}", address or f"{identifier}:80", version, named=True)


def listed(*servers: ServerConfig, members: str = "abc") -> Bench:
    """A bench that has been told a collection with these members."""
    bench = Bench(*servers, transport=Transport.DELTA)
    bench.want(LEDS, GLOB)
    bench.connect()
    bench.respond(LEDS, *map(member, members))
    return bench


def reconnected(bench: Bench) -> list:
    """Breaks the stream and lets time pass for the next one."""
    bench.run(later=10)
    effects = bench.close()
    bench.connect()
    return effects


def test_collection_is_subscribed_by_its_glob():
    """One name stands for all members; what comes is acknowledged and in force."""
    bench = Bench(transport=Transport.DELTA)
    effects = bench.want(LEDS, GLOB)
    assert sent(effects) == [DeltaRequest(LEDS.value, (GLOB,), initial_versions={}, with_node=True)]
    assert sent(bench.respond(LEDS, member("a"), member("b"))) == [DeltaRequest(LEDS.value, nonce="n1")]
    assert bench.collection(GLOB) == {"a": "a:80", "b": "b:80"}
    assert bench.entry(LEDS, GLOB).status is EntryStatus.PRESENT
    assert bench.changed == {Key(LEDS, GLOB)}


def test_change_of_members():
    """Members come, move and go one by one; the others are the same objects as before."""
    bench = listed()
    before = bench.entry(LEDS, GLOB).resource
    bench.respond(LEDS, member("d"), member("a", "x:1", "2"), removed=(f"{BASE}/b",))
    assert bench.collection(GLOB) == {"a": "x:1", "c": "c:80", "d": "d:80"}
    after = bench.entry(LEDS, GLOB).resource
    assert after.endpoints.get("c:80") is before.endpoints.get("c:80")


def test_new_version_of_the_same_endpoint_moves_no_endpoint():
    """What readers compare by identity stays, while the version is remembered for the next stream."""
    bench = listed()
    before = bench.entry(LEDS, GLOB).resource
    bench.respond(LEDS, member("a", version="2"))
    after = bench.entry(LEDS, GLOB).resource
    assert after.endpoints is before.endpoints
    assert dict(after.versions())[f"{BASE}/a"] == "2"


def test_unknown_members_and_collections_are_left_alone():
    """What nothing wants is not decoded, and the removal of what was never there is no error."""
    bench = listed()
    calls = bench.codec.calls
    other = member("x", base=OTHER[:-2])
    effects = bench.respond(LEDS, other, received(LEDS, "plain", named=True), removed=(f"{BASE}/z", OTHER, "plain"))
    assert sent(effects) == [DeltaRequest(LEDS.value, nonce="n2")]
    assert bench.codec.calls == calls
    assert len(bench.collection(GLOB)) == 3


def test_context_parameters_are_part_of_the_name():
    """A member belongs to the collection with the same parameters, in whatever order, even with a slash in one."""
    bench = Bench(transport=Transport.DELTA)
    bench.want(LEDS, f"{GLOB}?a=1&b=x/y")
    bench.respond(LEDS, received(LEDS, f"{BASE}/m?b=x/y&a=1", "m:80", "1", named=True), member("n"))
    assert bench.collection(f"{GLOB}?a=1&b=x/y") == {"m": "m:80"}
    assert dict(bench.entry(LEDS, f"{GLOB}?b=x/y&a=1").resource.versions()) == {f"{BASE}/m?a=1&b=x/y": "1"}


def test_malformed_member_is_refused_by_name():
    """The others of the response count, its own last good one stays, and the entry tells why."""
    bench = listed()
    effects = bench.respond(LEDS, member("a", "bad port"), member("d"))
    assert sent(effects) == [DeltaRequest(LEDS.value, nonce="n2", error=f"'{BASE}/a': field x: bad port")]
    assert bench.collection(GLOB) == {"a": "a:80", "b": "b:80", "c": "c:80", "d": "d:80"}
    entry = bench.entry(LEDS, GLOB)
    assert entry.status is EntryStatus.INVALID
    assert "1 of its endpoints are not valid: a: field x: bad port" in entry.problem


@pytest.mark.parametrize("better", [{"resources": (member("a", "x:1"),)}, {"removed": (f"{BASE}/a",)}])
def test_refused_member_made_good_or_removed(better):
    """When the last malformed member is mended or gone, nothing is wrong any more."""
    bench = listed()
    bench.respond(LEDS, member("a", "bad"))
    bench.respond(LEDS, *better.get("resources", ()), removed=better.get("removed", ()))
    entry = bench.entry(LEDS, GLOB)
    assert (entry.status, entry.problem) == (EntryStatus.PRESENT, "")


def test_fail_on_data_errors_drops_the_member():
    """With the server feature of A88 a malformed member is gone, and only that one."""
    bench = listed(STRICT)
    bench.respond(LEDS, member("a", "bad"))
    assert set(bench.collection(GLOB)) == {"b", "c"}


def test_listing_of_malformed_members_only():
    """A collection of which nothing is good has been heard of: it is empty, not awaited."""
    bench = Bench(transport=Transport.DELTA)
    bench.want(LEDS, GLOB)
    bench.connect()
    bench.respond(LEDS, *(member(f"m{i}", "bad") for i in range(9)))
    assert bench.collection(GLOB) == {}
    assert bench.entry(LEDS, GLOB).problem.endswith("and 6 more")
    assert bench.machine.deadline() is None


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        (Received("", raw("", "x:1"), LEDS.value), "resource 0: has no name"),
        (received(LEDS, GLOB, "x:1", named=True), "is not the name of one endpoint"),
        (Received(f"{BASE}/a", b"|x:1", CDS.value, named=True), "Cluster"),
    ],
)
def test_what_cannot_be_a_member(resource, words):
    """Nameless resources, the glob itself and other types are refused, and hurt nothing."""
    bench = listed()
    assert words in sent(bench.respond(LEDS, resource))[0].error
    assert len(bench.collection(GLOB)) == 3


def test_member_twice_in_one_response():
    """Of two good resources of one name the last counts."""
    bench = listed(members="")
    bench.respond(LEDS, member("a", "x:1"), member("a", "y:1"))
    assert bench.collection(GLOB) == {"a": "y:1"}
    bench.respond(LEDS, member("a", "x:1"), member("a", "z:1"))
    assert bench.collection(GLOB) == {"a": "z:1"}


def test_too_many_members_are_refused_unread():
    """A response with a huge number of resources is refused before anything is decoded."""
    bench = listed()
    calls, one = bench.codec.calls, member("a")
    assert "at most 1000000" in sent(bench.respond(LEDS, *([one] * 1_000_001)))[0].error
    assert bench.codec.calls == calls


def test_heartbeat_of_a_member():
    """A resource without content says that it is there still (xDS protocol, "TTL"); it is no listing either."""
    bench = listed()
    assert sent(bench.respond(LEDS, Received(f"{BASE}/a", None, LEDS.value, named=True)))[0].error == ""
    assert len(bench.collection(GLOB)) == 3
    reconnected(bench)
    bench.respond(LEDS, Received(f"{BASE}/a", None, LEDS.value, named=True))
    assert len(bench.collection(GLOB)) == 3


def test_empty_collection_is_told_by_its_name():
    """The glob among the removed resources means: no members. That is an answer, and no error."""
    bench = Bench(transport=Transport.DELTA)
    bench.want(LEDS, GLOB)
    bench.connect()
    bench.respond(LEDS, removed=(GLOB,))
    assert bench.collection(GLOB) == {}
    assert bench.entry(LEDS, GLOB).status is EntryStatus.PRESENT
    assert bench.machine.deadline() is None


def test_collection_emptied_and_filled_again():
    """The glob removed takes the members along; what comes next is all there is."""
    bench = listed()
    bench.respond(LEDS, member("z"), removed=(GLOB,))
    assert bench.collection(GLOB) == {"z": "z:80"}
    bench.respond(LEDS, removed=(GLOB,))
    assert bench.collection(GLOB) == {}


def test_collection_that_never_arrives():
    """A57: a server that says nothing of a collection has none, after the resource timeout."""
    bench = Bench(transport=Transport.DELTA)
    bench.want(LEDS, GLOB)
    bench.connect()
    bench.run(later=15)
    assert bench.entry(LEDS, GLOB).status is EntryStatus.ABSENT
    assert bench.changed == {Key(LEDS, GLOB)}
    bench.respond(LEDS, member("a"))
    assert bench.collection(GLOB) == {"a": "a:80"}


def test_members_that_share_an_address():
    """Two members of one address are one endpoint until both are gone, as of an instance under a new id."""
    bench = listed(members="")
    bench.respond(LEDS, member("a", "x:1"), member("b", "x:1"), member("c"))
    assert bench.collection(GLOB) == {"a": "x:1", "b": "x:1", "c": "c:80"}
    for gone, left in (("b", {"a": "x:1", "c": "c:80"}), ("a", {"c": "c:80"})):
        bench.respond(LEDS, removed=(f"{BASE}/{gone}",))
        assert bench.collection(GLOB) == left


def test_members_that_swap_addresses():
    """In one response, an address may pass from one member to another."""
    bench = listed()
    bench.respond(LEDS, member("a", "b:80"), member("b", "a:80"))
    assert bench.collection(GLOB) == {"a": "b:80", "b": "a:80", "c": "c:80"}


def test_reconnect_tells_versions_and_gets_changes():
    """The new stream is told every member's version, so that what comes are changes, not a listing."""
    bench = listed()
    bench.respond(LEDS, member("a", "bad"))
    (request,) = sent(reconnected(bench))
    versions = {f"{BASE}/a": "", f"{BASE}/b": "1", f"{BASE}/c": "1"}  # what was refused is to come again
    assert request == DeltaRequest(LEDS.value, (GLOB,), initial_versions=versions, with_node=True)
    assert bench.machine.deadline() is None
    bench.respond(LEDS, member("a", "x:1"), removed=(f"{BASE}/b",))
    assert bench.collection(GLOB) == {"a": "x:1", "c": "c:80"}
    assert bench.entry(LEDS, GLOB).status is EntryStatus.PRESENT


def test_reconnect_with_a_new_collection_beside_a_known_one():
    """A listing replaces only what the server does not know us to have."""
    bench = listed()
    bench.want(LEDS, OTHER)
    reconnected(bench)
    bench.respond(LEDS, member("d"), member("x", base=OTHER[:-2]))
    assert set(bench.collection(GLOB)) == {"a", "b", "c", "d"}
    assert set(bench.collection(OTHER)) == {"x"}


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"])
def test_server_that_cannot_take_the_versions(code):
    """A server whose limits the versions exceed is asked for a listing from then on, and what it leaves out is gone."""
    bench = listed()
    reconnected(bench)
    bench.run(later=10)
    bench.close(code, "too much")
    (request,) = sent(bench.run(later=10))
    assert request.initial_versions == {}
    bench.respond(LEDS, member("b"), member("d"))
    assert set(bench.collection(GLOB)) == {"b", "d"}


def test_fallback_server_lists_anew():
    """A71: another server's versions mean nothing to it, so its listing replaces the members; so does the first's."""
    bench = listed(*PAIR)
    for _ in range(2):
        bench.close()
        bench.run(later=40)
    bench.want(LEDS, OTHER)
    bench.run(later=1)
    effects = bench.respond(LEDS, member("b"), member("e"), server=1)
    assert sent(effects) == [DeltaRequest(LEDS.value, nonce="n2")]
    assert (set(bench.collection(GLOB)), bench.entry(LEDS, GLOB).server) == ({"b", "e"}, "two:2")


def test_first_server_returns_after_its_versions_were_told():
    """A71: it was told what we had from it, but the fallback's listing came in between: the stream is opened anew."""
    bench = listed(*PAIR)
    bench.run(later=10)
    bench.close()  # reconnects at once, and tells its versions
    bench.close(details="refused")
    effects = bench.run(later=2)
    assert opened(effects) == [Open(0, Transport.DELTA)]
    assert len(sent(effects)[0].initial_versions) == 3
    bench.want(LEDS, OTHER)
    bench.run()
    bench.respond(LEDS, member("e"), server=1)
    effects = bench.respond(LEDS, member("f"), server=0)
    assert [effect for effect in effects if isinstance(effect, Close | Open)] == [Close(0), Open(0, Transport.DELTA)]
    assert sent(effects)[0].initial_versions == {}
    assert set(bench.collection(GLOB)) == {"e"}
    bench.respond(LEDS, member("a"), member("f"), server=0)
    assert set(bench.collection(GLOB)) == {"a", "f"}


def test_what_a_returning_server_says_before_it_gives_anything_does_not_count():
    """A71: a first server that comes back and knows no member yet takes none from the fallback's listing."""
    bench = Bench(*PAIR, transport=Transport.DELTA)
    bench.want(LEDS, GLOB)
    bench.close()
    bench.respond(LEDS, member("a"), server=1)
    bench.run(later=40)
    bench.connect()
    bench.respond(LEDS, member("b", "bad"), removed=(GLOB,), server=0)
    assert bench.collection(GLOB) == {"a": "a:80"}


def test_unwanted_collection_is_unsubscribed_and_forgotten():
    """A collection that nothing needs any more goes; wanted again, it is listed again."""
    bench = listed()
    bench.want(LEDS, OTHER)
    assert sent(bench.unwant(LEDS, GLOB)) == [DeltaRequest(LEDS.value, (), (GLOB,))]
    assert bench.store.get(Key(LEDS, GLOB)) is None
    bench.respond(LEDS, member("a"))
    assert sent(bench.want(LEDS, GLOB)) == [DeltaRequest(LEDS.value, (GLOB,))]
    bench.respond(LEDS, member("d"))
    assert set(bench.collection(GLOB)) == {"d"}


def named_by_endpoints(*names: str) -> Bench:
    """A bench with three members, and EDS resources that name their collection."""
    bench = listed()
    decode = bench.machine._decode
    place = LocalityEndpoints(Locality(), 0, 1, EndpointCollection(GLOB).endpoints, GLOB)
    bench.machine._decode = lambda kind, raw, *rest: (
        (raw.decode()[0], ClusterEndpoints(raw.decode()[0], (place,))) if kind is EDS else decode(kind, raw, *rest)
    )
    bench.want(EDS, *names)
    bench.respond(EDS, *(received(EDS, name, named=True) for name in names))
    return bench


@pytest.mark.parametrize("removed", [(GLOB,), (f"{BASE}/a", f"{BASE}/b", f"{BASE}/c")])
def test_collection_outlives_the_resource_that_names_it(removed):
    """A88: after the EDS resource was taken away its endpoints stay as well; what comes next is all there is."""
    bench = named_by_endpoints("e")
    bench.respond(EDS, removed=("e",))
    bench.respond(LEDS, removed=removed)
    entry = bench.entry(LEDS, GLOB)
    assert (entry.status, set(bench.collection(GLOB))) == (EntryStatus.ABSENT, {"a", "b", "c"})
    assert "and not what names it" in entry.problem
    (_, request) = sent(reconnected(bench))
    assert request == DeltaRequest(LEDS.value, (GLOB,), initial_versions={})
    bench.respond(LEDS, member("d"))
    assert (bench.entry(LEDS, GLOB).status, set(bench.collection(GLOB))) == (EntryStatus.PRESENT, {"d"})


def test_collection_is_listed_anew_when_it_comes_back():
    """The server, which knows us to have none, tells all members on the same stream; the others are gone."""
    bench = named_by_endpoints("e")
    bench.respond(EDS, removed=("e",))
    bench.respond(LEDS, removed=(GLOB,))
    bench.respond(EDS, received(EDS, "e", "2", named=True))
    bench.respond(LEDS, member("c"), member("d"))
    assert set(bench.collection(GLOB)) == {"c", "d"}


def test_collection_is_emptied_while_a_resource_that_is_there_names_it():
    """Only where nothing in force names it are the last members kept; and one member that goes is gone anyway."""
    bench = named_by_endpoints("e", "f")
    bench.respond(EDS, removed=("e",))
    bench.respond(LEDS, removed=(f"{BASE}/a",))
    assert set(bench.collection(GLOB)) == {"b", "c"}
    bench.respond(LEDS, removed=(GLOB,))
    assert bench.collection(GLOB) == {}


def test_errors_that_the_server_reports_for_a_collection():
    """XRFC TP3: what the server says of the collection is told, and its members stay (A88)."""
    bench = listed()
    bench.respond(LEDS, problems=(ServerProblem(GLOB, 7, "not yours"),))
    entry = bench.entry(LEDS, GLOB)
    assert (entry.status, len(bench.collection(GLOB))) == (EntryStatus.ABSENT, 3)
    assert "not yours" in entry.problem


def test_sotw_refuses_endpoints_that_name_collections():
    """State of the world cannot carry collections: such an EDS resource is NACKed, the last good one stays."""
    place = LocalityEndpoints(Locality(), 0, 1, EndpointCollection(GLOB).endpoints, GLOB)
    bench = Bench()
    decode = bench.machine._decode
    bench.machine._decode = lambda kind, raw, *rest: (
        ("c", ClusterEndpoints("c", (place,))) if raw == b"leds" else decode(kind, raw, *rest)
    )
    bench.want(EDS, "c")
    bench.respond(EDS, received(EDS, "c", "1"), version="1")
    (nack,) = sent(bench.respond(EDS, Received("c", b"leds", EDS.value), version="2"))
    assert nack.error.startswith("'c': names LEDS collections, which state-of-the-world xDS cannot carry")
    assert nack.version == "1"
    assert bench.content(EDS, "c") == "1"


def test_sotw_refuses_them_also_where_delta_took_them():
    """After a change of transport the same bytes are looked at again."""
    place = LocalityEndpoints(Locality(), 0, 1, EndpointCollection(GLOB).endpoints, GLOB)
    bench = Bench(transport=Transport.AUTO)
    bench.machine._decode = lambda *_: ("c", ClusterEndpoints("c", (place,)))
    bench.want(EDS, "c")
    assert sent(bench.respond(EDS, Received("c", b"leds", EDS.value, "1", named=True)))[0].error == ""
    bench.run(later=10)
    bench.close()
    bench.close("UNIMPLEMENTED", "no delta any more")
    (nack,) = sent(bench.respond(EDS, Received("c", b"leds", EDS.value)))
    assert "state-of-the-world" in nack.error


def test_sotw_does_not_ask_for_collections_and_does_not_wait_for_ever():
    """Who needs a collection that cannot be asked for learns so when its time is up."""
    bench = Bench()
    bench.want(EDS, "c")
    bench.want(LEDS, GLOB)
    bench.connect()
    bench.want(LEDS, OTHER)
    assert all(request == SotwRequest(EDS.value, ("c",), with_node=True) for request in sent(bench.run()))
    bench.run(later=15)
    assert {bench.entry(LEDS, name).status for name in (GLOB, OTHER)} == {EntryStatus.ABSENT}


def test_collection_from_disk_until_the_server_lists_it():
    """With no server in reach the saved members are used; the first listing replaces them."""
    saved = EndpointCollection(GLOB).updated([Member("a", Endpoint("a:80"), "1"), Member("b", Endpoint("b:80"), "1")])
    bench = Bench(transport=Transport.DELTA, last_good={Key(LEDS, GLOB): saved}.get)
    bench.want(LEDS, GLOB)
    bench.close()
    assert (set(bench.collection(GLOB)), bench.entry(LEDS, GLOB).server) == ({"a", "b"}, "cache")
    (request,) = sent(bench.run(later=10))
    assert request.initial_versions == {}
    bench.respond(LEDS, member("b"))
    assert set(bench.collection(GLOB)) == {"b"}
