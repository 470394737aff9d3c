"""Listings page by page, and transactions, against a scripted transport."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meshsdk.discovery.etcd import client as module
from meshsdk.discovery.etcd import etcd_pb2 as pb
from meshsdk.discovery.etcd.client import EtcdClient
from meshsdk.discovery.etcd.methods import Compacted, TooLarge
from meshsdk.discovery.etcd.place import Place
from meshsdk.discovery.etcd.values import Commit, Delete, Equals, Put, Unchanged
from meshsdk.discovery.registry import LeaseLapsed
from meshsdk.errors import RegistryError

STORE = {f"/p/{n:04}".encode(): b"x" for n in range(1200)}


class Transport:
    """Answers with what a function says, and keeps the requests."""

    name = "etcd h:1"

    def __init__(self, answer: Callable[[object], object]) -> None:
        self._answer = answer
        self.requests: list[object] = []

    def ask(self, verb: str, method: object, request: object) -> object:
        """See the transport."""
        self.requests.append(request)
        return self._answer(request)


def client_of(answer: Callable[[object], object]) -> tuple[EtcdClient, Transport]:
    """Returns a client over a scripted transport."""
    client = EtcdClient(Place(("h:1",)))
    client._transport = transport = Transport(answer)
    return client, transport


def page(request: pb.RangeRequest, revision: int = 42) -> pb.RangeResponse:
    """Answers a range as etcd does."""
    keys = sorted(key for key in STORE if request.key <= key < request.range_end)
    kvs = [pb.KeyValue(key=key, value=STORE[key], mod_revision=7) for key in keys[: request.limit]]
    header = pb.ResponseHeader(cluster_id=1, revision=revision)
    return pb.RangeResponse(header=header, kvs=kvs, more=len(keys) > request.limit)


def test_a_listing_is_read_page_by_page_as_of_one_revision():
    """The first page says the revision, the others ask for it; together they are everything."""
    client, transport = client_of(page)
    listing = client.list("/p/")
    assert len(listing.entries) == len(STORE)
    assert (listing.cluster, listing.revision) == (1, 42)
    assert [request.revision for request in transport.requests] == [0, 42, 42]


def test_pages_that_are_too_large_are_asked_for_in_smaller_ones():
    """What does not fit into one message is read in less at a time, down to one entry."""

    def answer(request: pb.RangeRequest) -> pb.RangeResponse:
        if request.limit > 10:
            raise TooLarge("too large")
        return page(request)

    client, transport = client_of(answer)
    assert len(client.list("/p/").entries) == len(STORE)
    assert [request.limit for request in transport.requests[:4]] == [500, 62, 7, 7]

    def never(request: pb.RangeRequest) -> pb.RangeResponse:
        raise TooLarge("too large")

    client, transport = client_of(never)
    with pytest.raises(TooLarge):
        client.list("/p/")
    assert transport.requests[-1].limit == 1


def test_a_listing_whose_revision_is_compacted_starts_over():
    """Twice; the third time it is an error."""
    compactions = [Compacted("gone")] * 2

    def answer(request: pb.RangeRequest) -> pb.RangeResponse:
        if request.revision and compactions:
            raise compactions.pop()
        return page(request)

    client, _ = client_of(answer)
    assert len(client.list("/p/").entries) == len(STORE)
    compactions.extend([Compacted("gone")] * 3)
    with pytest.raises(Compacted):
        client.list("/p/")


def test_a_listing_has_a_limit(monkeypatch):
    """More entries than could be anybody's instances are refused instead of filling the memory."""
    monkeypatch.setattr(module, "_MAX_ENTRIES", 1000)
    client, _ = client_of(page)
    with pytest.raises(RegistryError, match="more than 1000 entries below '/p/'"):
        client.list("/p/")


def test_a_transaction_goes_out_as_it_is_meant():
    """Conditions and changes are etcd's comparisons and operations; the answer says whether and when they were made."""
    answer = pb.TxnResponse(header=pb.ResponseHeader(revision=9), succeeded=True)
    client, transport = client_of(lambda request: answer)
    changes = [Put("a", b"1", 6), Put("b", b"2"), Delete("c")]
    assert client.commit(changes, [Unchanged("a", 3), Equals("z", b"v")]) == Commit(done=True, revision=9)
    (request,) = transport.requests
    assert [(c.target, c.result, c.key, c.mod_revision, c.value) for c in request.compare] == [
        (pb.Compare.MOD, pb.Compare.EQUAL, b"a", 3, b""),
        (pb.Compare.VALUE, pb.Compare.EQUAL, b"z", 0, b"v"),
    ]
    puts = [operation.request_put for operation in request.success[:2]]
    assert [(put.key, put.value, put.lease) for put in puts] == [(b"a", b"1", 6), (b"b", b"2", 0)]
    assert request.success[2].request_delete_range == pb.DeleteRangeRequest(key=b"c")


def test_a_lease_that_is_gone_has_lapsed():
    """etcd says so by a time to live of 0 or -1."""
    client, _ = client_of(lambda request: pb.LeaseKeepAliveResponse(TTL=0))
    with pytest.raises(LeaseLapsed):
        client.keep_alive(5)
    client, _ = client_of(lambda request: pb.LeaseTimeToLiveResponse(TTL=-1))
    with pytest.raises(LeaseLapsed):
        client.keys_of(5)


def test_a_lease_is_of_whole_seconds():
    """At least one; what etcd grants is what counts."""
    client, transport = client_of(lambda request: pb.LeaseGrantResponse(ID=5, TTL=3))
    assert client.grant(0.2).ttl == 3.0
    assert client.grant(2.6).id == 5
    assert [request.TTL for request in transport.requests] == [1, 3]
    client, _ = client_of(lambda request: pb.LeaseGrantResponse(error="no space"))
    with pytest.raises(RegistryError, match="no space"):
        client.grant(1)
