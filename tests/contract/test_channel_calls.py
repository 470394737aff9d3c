"""What a call gives, on every channel: answers, status, metadata, errors."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.contract import channel_tls
from tests.contract.channel_backend import INITIAL, SHAPES, TRAILING, Backend
from tests.contract.channel_wire import Relay

ANSWERS = {
    "unary_unary": [b"012"],
    "unary_stream": [b"0", b"1", b"2"],
    "stream_unary": [b"0|1|2|x"],
    "stream_stream": [b"0", b"1", b"2", b"x"],
}


@pytest.fixture(params=SHAPES)
def shape(request) -> str:
    """Each of the four call shapes."""
    return request.param


def test_answers(lab, shared, shape):
    """A call of each shape gives the handler's answers and OK."""
    requests = [b"count:3"] if shape.startswith("unary") else [b"count:3", b"say:x"]
    answers = [b"0|1|2"] if shape == "unary_unary" else ANSWERS[shape]
    ended = lab.open(shared.address).ask(shape, *requests)
    assert (ended.answers, ended.code, ended.details) == (answers, grpc.StatusCode.OK, "")


def test_metadata_of_the_server(lab, shared, shape):
    """Initial and trailing metadata arrive, binary values as bytes."""
    ended = lab.open(shared.address).ask(shape, b"metadata:")
    assert [pair for pair in ended.initial if pair in INITIAL] == list(INITIAL)
    assert [pair for pair in ended.trailing if pair in TRAILING] == list(TRAILING)


def test_metadata_of_the_request(lab, backend, shape):
    """Metadata of the application reaches the handler as given, binary values and repeated keys too."""
    given = (("key", "one"), ("key", "two"), ("key-bin", b"\x00\xff\x01"))
    assert lab.open(backend.address).ask(shape, b"say:x", metadata=given).code is grpc.StatusCode.OK
    assert tuple(pair for pair in backend.script.metadata[0] if pair[0].startswith("key")) == given


def test_abort(lab, shared, shape):
    """A call that the handler aborts raises an error with its status, words and trailing metadata."""
    ended = lab.open(shared.address).ask(shape, b"abort:")
    assert isinstance(ended.error, grpc.RpcError)
    assert (ended.code, ended.details) == (grpc.StatusCode.FAILED_PRECONDITION, "not päng")
    assert [pair for pair in ended.trailing if pair in TRAILING] == list(TRAILING)


def test_rich_error(lab, shared, shape):
    """`grpc_status.rpc_status.from_call` reads a rich error from what the call raises."""
    ended = lab.open(shared.address).ask(shape, b"rich:")
    assert (ended.code, ended.details) == (grpc.StatusCode.ABORTED, "rich")
    if lab.facade == "sync":
        info = error_details_pb2.ErrorInfo()
        assert rpc_status.from_call(ended.call).details[0].Unpack(info)
        assert info.reason == "SCRIPTED"


def test_status_without_abort(lab, shared, shape):
    """A handler that sets a code and returns ends the call with that code."""
    ended = lab.open(shared.address).ask(shape, b"code:")
    assert (ended.code, ended.details) == (grpc.StatusCode.DATA_LOSS, "lost")
    assert isinstance(ended.error, grpc.RpcError)


def test_handler_that_raises(lab, shared, shape):
    """An exception in the handler is UNKNOWN, with its words."""
    ended = lab.open(shared.address).ask(shape, b"raise:")
    assert ended.code is grpc.StatusCode.UNKNOWN
    assert "scripted" in ended.details


def test_unimplemented(lab, shared, shape):
    """A method that the server lacks is UNIMPLEMENTED."""
    ended = lab.open(shared.address).ask(shape, b"say:x", made={"method": "/contract.Channel/No"})
    lost = {grpc.StatusCode.INTERNAL} if (lab.facade, shape) == ("aio", "stream_stream") else set()
    assert ended.code in {grpc.StatusCode.UNIMPLEMENTED, *lost}  # grpc.aio's race of the answer with a write


@pytest.mark.parametrize("shape", ["stream_unary", "stream_stream"])
def test_no_requests(lab, shared, shape):
    """A stream of no requests is a call."""
    ended = lab.open(shared.address).ask(shape)
    assert ended.code is grpc.StatusCode.OK
    assert b"".join(ended.answers) == b""


def test_serializers(lab, shared, shape):
    """Requests and answers pass the serializers that the stub was made with."""
    made = {"request_serializer": str.encode, "response_deserializer": bytes.decode}
    assert lab.open(shared.address).ask(shape, "say:grüß", made=made).answers == ["grüß"]


def test_large_messages(lab, shared, shape):
    """Messages beyond the 4 MiB default pass both ways where the options allow them."""
    caller = lab.open(shared.address, options=[("grpc.max_receive_message_length", 16 << 20)])
    assert [len(answer) for answer in caller.ask(shape, b"size:8000000").answers] == [8_000_000]
    request = b"say:" + b"x" * 8_000_000
    assert [len(answer) for answer in caller.ask(shape, request).answers] == [8_000_000]


def test_answer_over_the_limit(lab, shared, shape):
    """An answer over the channel's limit is RESOURCE_EXHAUSTED."""
    ended = lab.open(shared.address, options=[("grpc.max_receive_message_length", 1000)]).ask(shape, b"size:1001")
    assert ended.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "1001 vs. 1000" in ended.details


def test_request_over_the_limit(lab, backend, shape):
    """A request over the channel's limit is RESOURCE_EXHAUSTED and reaches no handler."""
    ended = lab.open(backend.address, options=[("grpc.max_send_message_length", 100)]).ask(shape, b"say:" + bytes(100))
    lost = (lab.facade, shape) == ("aio", "stream_stream")  # grpc.aio reports the refused write instead
    assert ended.code is (grpc.StatusCode.INTERNAL if lost else grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert backend.executed == []


@pytest.mark.parametrize("where", ["call", "channel", "none"])
def test_compression(lab, shared, shape, where):
    """Requests are compressed where the call or the channel says so."""
    chosen = grpc.Compression.Gzip
    with Relay(shared.port) as relay:
        caller = lab.open(relay.address, compression=chosen if where == "channel" else None)
        ended = caller.ask(shape, b"say:" + b"x" * 500_000, compression=chosen if where == "call" else None)
        assert ended.code is grpc.StatusCode.OK
        compressed = where == "call" or (where == "channel" and not lab.differs("channel compression"))
        assert (relay.sent < 100_000) is compressed


class Token(grpc.AuthMetadataPlugin):
    """Adds a header to each call."""

    def __call__(self, context, callback):
        """See grpc.AuthMetadataPlugin."""
        callback((("authorization", "token"), ("service", context.service_url)), None)


def test_call_credentials(lab, shape):
    """Per-call credentials add their metadata on a TLS channel, whose certificate is checked for the target's name."""
    with Backend(credentials=channel_tls.server()) as backend:
        caller = lab.open(backend.address, channel_tls.client())
        credentials = grpc.metadata_call_credentials(Token())
        assert caller.ask(shape, b"say:x", credentials=credentials).code is grpc.StatusCode.OK
        assert ("authorization", "token") in backend.script.metadata[0]
