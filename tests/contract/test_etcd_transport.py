"""Calls to an etcd cluster when its members fail in every way: scripted gRPC servers in place of etcd."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
import pytest

from meshsdk.discovery.etcd import etcd_pb2 as pb
from meshsdk.discovery.etcd import methods, transport
from meshsdk.discovery.etcd.place import Place
from meshsdk.discovery.etcd.transport import Transport
from meshsdk.discovery.following import RegistryClosed
from meshsdk.discovery.registry import LeaseLapsed
from meshsdk.errors import RegistryError
from tests.e2e.relays import Relay

Script = Callable[[str, grpc.ServicerContext], bytes]


class Member(grpc.GenericRpcHandler):
    """One member: answers every method by a script, and keeps what it was asked."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[str] = []
        self.metadata: list[dict[str, str]] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Finds the handler of a method: the same for all."""
        self.asked.append(details.method)
        self.metadata.append(dict(details.invocation_metadata))
        if details.method.endswith("KeepAlive"):
            return grpc.stream_stream_rpc_method_handler(lambda requests, context: self._stream(details, context))
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self.script(details.method, context))

    def _stream(self, details: grpc.HandlerCallDetails, context: grpc.ServicerContext) -> Iterator[bytes]:
        if answer := self.script(details.method, context):
            yield answer

    def stop(self) -> None:
        """Ends it."""
        self._server.stop(None).wait()


def well(method: str, context: grpc.ServicerContext) -> bytes:
    """Answers with an empty message."""
    return pb.RangeResponse(header=pb.ResponseHeader(revision=5)).SerializeToString()


def failing(code: grpc.StatusCode, details: str) -> Script:
    """Fails every call."""

    def script(method: str, context: grpc.ServicerContext) -> bytes:
        context.abort(code, details)

    return script


@pytest.fixture
def members() -> Iterator[Callable[..., list[Member]]]:
    """Starts members with scripts."""
    started: list[Member] = []

    def start(*scripts: Script) -> list[Member]:
        started.extend(Member(script) for script in scripts)
        return started

    yield start
    for member in started:
        member.stop()


@pytest.fixture
def client() -> Iterator[Callable[..., Transport]]:
    """Makes transports."""
    made: list[Transport] = []

    def make(*endpoints: str, timeout: float = 10.0, **settings: str) -> Transport:
        made.append(Transport(Place(endpoints, timeout=timeout, **settings)))
        return made[-1]

    yield make
    for one in made:
        one.close()


UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def test_what_may_be_repeated_is_asked_of_the_next_member(members, client):
    """A read that a member failed is answered by the next, which is asked first from then on."""
    bad, good = members(failing(UNAVAILABLE, "going away"), well)
    link = client(bad.address, good.address)
    assert link.ask("read from", methods.RANGE, pb.RangeRequest()).header.revision == 5
    link.ask("read from", methods.RANGE, pb.RangeRequest())
    assert (len(bad.asked), len(good.asked)) == (1, 2)
    assert all(metadata["hasleader"] == "true" for metadata in bad.metadata + good.metadata)


def test_what_may_have_been_done_is_not_repeated(members, client):
    """A transaction that was lost on its way fails; the next call goes to the next member."""
    bad, good = members(failing(UNAVAILABLE, "Socket closed"), well)
    link = client(bad.address, good.address)
    with pytest.raises(
        methods.OutcomeUnknown, match=rf"cannot write to etcd {bad.address}: UNAVAILABLE: Socket closed"
    ):
        link.ask("write to", methods.TXN, pb.TxnRequest())
    assert good.asked == []
    link.ask("write to", methods.TXN, pb.TxnRequest())
    assert (len(bad.asked), len(good.asked)) == (1, 1)


def test_what_surely_was_not_done_is_asked_of_the_next(members, client):
    """No leader, or no connection at all: also a transaction goes to the next member."""
    bad, good = members(failing(UNAVAILABLE, "etcdserver: no leader"), well)
    client(bad.address, good.address).ask("write to", methods.TXN, pb.TxnRequest())
    client("127.0.0.1:1", good.address).ask("write to", methods.TXN, pb.TxnRequest())
    assert len(good.asked) == 2
    with pytest.raises(RegistryError, match="failed to connect") as refused:
        client("127.0.0.1:1").ask("write to", methods.TXN, pb.TxnRequest())
    assert not isinstance(refused.value, methods.OutcomeUnknown)


def test_a_silent_member_costs_its_share_of_the_time(members, client):
    """A member that takes requests and never answers is left in time for another one."""
    over = threading.Event()

    def silent(method: str, context: grpc.ServicerContext) -> bytes:
        over.wait(30)
        return b""

    dumb, good = members(silent, well)
    try:
        link = client(dumb.address, good.address, timeout=1.0)
        link.ask("read from", methods.RANGE, pb.RangeRequest())
        assert (len(dumb.asked), len(good.asked)) == (1, 1)
        alone = client(dumb.address, timeout=0.3)
        with pytest.raises(RegistryError, match="DEADLINE_EXCEEDED"):
            alone.ask("read from", methods.RANGE, pb.RangeRequest())
    finally:
        over.set()


def test_a_dead_connection_is_given_up(members, client):
    """A connection swallows everything and nobody says so: one call fails, the next goes over a new connection."""
    (member,) = members(well)
    with Relay(member.address) as relay:
        link = client(relay.address, timeout=0.5)
        link.ask("read from", methods.RANGE, pb.RangeRequest())
        relay.cut()
        relay.heal()  # what was cut stays so
        with pytest.raises(RegistryError, match="DEADLINE_EXCEEDED"):
            link.ask("read from", methods.RANGE, pb.RangeRequest())
        link.ask("read from", methods.RANGE, pb.RangeRequest())
    assert len(member.asked) == 2


def test_a_call_without_an_answer_ends_no_stream(members, client):
    """A member that is slow with one call keeps the stream that is open to it; its connection goes with the stream."""
    go = threading.Event()

    def slow(method: str, context: grpc.ServicerContext) -> bytes:
        go.wait(30)
        return pb.LeaseKeepAliveResponse(TTL=7).SerializeToString()

    (member,) = members(slow)
    link = client(member.address, timeout=0.3)
    stream = link.open(methods.LEASE_KEEP_ALIVE, [])
    answers = stream.answers("renew a lease at")
    with futures.ThreadPoolExecutor(1) as reader:
        told = reader.submit(next, answers)
        try:
            for _ in range(2):
                with pytest.raises(RegistryError, match="DEADLINE_EXCEEDED"):
                    link.ask("read from", methods.RANGE, pb.RangeRequest())
            assert len(link._set_aside) == 1
        finally:
            go.set()
        assert told.result(10).TTL == 7
    assert list(answers) == []
    assert (link._set_aside, link._streams) == (set(), {})
    member.script = well
    link.ask("read from", methods.RANGE, pb.RangeRequest())


def test_all_members_away_is_told_of_the_last(client):
    """Every member is tried once, and the error names one of them."""
    with pytest.raises(RegistryError, match=r"cannot read from etcd 127\.0\.0\.1:2: UNAVAILABLE"):
        client("127.0.0.1:1", "127.0.0.1:2").ask("read from", methods.RANGE, pb.RangeRequest())


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found", LeaseLapsed),
        (grpc.StatusCode.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted", methods.Compacted),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", RegistryError),
        (grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied", RegistryError),
        (grpc.StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token", RegistryError),
    ],
)
def test_failures_say_what_they_mean(members, client, code, details, kind):
    """etcd's own refusals are told at once, by the one that refused."""
    bad, good = members(failing(code, details), well)
    with pytest.raises(RegistryError) as failed:
        client(bad.address, good.address).ask("read from", methods.RANGE, pb.RangeRequest())
    assert type(failed.value) is kind
    assert details in str(failed.value)
    assert good.asked == []


def test_an_answer_that_is_too_large_is_told_apart(members, client, monkeypatch):
    """More in one message than is accepted: the client can ask for less."""
    monkeypatch.setattr(transport, "_OPTIONS", (("grpc.max_receive_message_length", 1000),))

    def large(method: str, context: grpc.ServicerContext) -> bytes:
        return pb.RangeResponse(kvs=[pb.KeyValue(value=b"x" * 5000)]).SerializeToString()

    (member,) = members(large)
    with pytest.raises(methods.TooLarge):
        client(member.address).ask("list", methods.RANGE, pb.RangeRequest())


def test_a_renewal_that_gets_no_answer_is_an_error(members, client):
    """The stream of a renewal ends without a word."""
    (member,) = members(lambda method, context: b"")
    with pytest.raises(RegistryError, match="LeaseKeepAlive ended without an answer"):
        client(member.address).ask("renew a lease at", methods.LEASE_KEEP_ALIVE, pb.LeaseKeepAliveRequest(ID=1))


def test_an_old_login_is_renewed_once(members, client, tmp_path):
    """A token that the server no longer knows: logged in again, asked again; refused twice it is an error."""
    secret = tmp_path / "secret"
    secret.write_text("word")
    valid = "token-1"

    def guarded(method: str, context: grpc.ServicerContext) -> bytes:
        if method.endswith("Authenticate"):
            return pb.AuthenticateResponse(token=valid).SerializeToString()
        if dict(context.invocation_metadata()).get("token") != valid:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token")
        return well(method, context)

    (member,) = members(guarded)
    link = client(member.address, user="me", password_file=str(secret))
    link.ask("read from", methods.RANGE, pb.RangeRequest())
    link.ask("read from", methods.RANGE, pb.RangeRequest())
    assert [method.rpartition("/")[2] for method in member.asked] == ["Authenticate", "Range", "Range"]
    valid = "token-2"
    link.ask("read from", methods.RANGE, pb.RangeRequest())
    assert [method.rpartition("/")[2] for method in member.asked[3:]] == ["Range", "Authenticate", "Range"]
    assert member.metadata[-1]["hasleader"] == "true"
    member.script = lambda method, context: (
        guarded(method, context)
        if method.endswith("Authenticate")
        else context.abort(grpc.StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token")
    )
    with pytest.raises(RegistryError, match="invalid auth token"):
        link.ask("read from", methods.RANGE, pb.RangeRequest())


def test_a_closed_client_says_so(members, client):
    """Calls and streams after close are refused in words; closing twice is no error."""
    (member,) = members(well)
    link = client(member.address)
    link.ask("read from", methods.RANGE, pb.RangeRequest())
    link.close()
    link.close()
    with pytest.raises(RegistryClosed, match="closed"):
        link.ask("read from", methods.RANGE, pb.RangeRequest())
    with pytest.raises(RegistryClosed, match="closed"):
        link.open(methods.WATCH, [])
