"""Calls with what an application can do to them give the same on the mesh's channels as on grpcio's own."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest

from tests.contract.channel_cases import Cases, kinds, view

CASES = Cases()


def refuse(_: Any) -> Any:
    """A serializer that raises."""
    raise RuntimeError("refused")


def broken():
    """A request iterator that raises after its first request."""
    yield b"say:x"
    raise RuntimeError("refused")


@CASES.add()
def serializer_raises(caller, shape, backend):
    """A request cannot be serialized."""
    ended = caller.ask(shape, b"say:x", made={"request_serializer": refuse}, timeout=5)
    return view(ended, executed=len(backend.executed))


@CASES.add()
def deserializer_raises(caller, shape, backend):
    """An answer cannot be read."""
    ended = caller.ask(shape, b"say:x", made={"response_deserializer": refuse}, timeout=1)
    return view(ended, executed=len(backend.executed))


@CASES.add()
def metadata_key_refused(caller, shape, backend):
    """A metadata key that HTTP/2 cannot carry."""
    return view(caller.ask(shape, b"say:x", metadata=(("Bad Key", "x"),), timeout=5), ran=list(backend.executed))


@CASES.add()
def metadata_value_refused(caller, shape, backend):
    """A metadata value that HTTP/2 cannot carry."""
    return view(caller.ask(shape, b"say:x", metadata=(("key", "\N{SNOWMAN}"),), timeout=5), ran=list(backend.executed))


@CASES.add()
def metadata_of_no_pairs(caller, shape, backend):
    """Metadata that is not made of pairs."""
    return view(caller.ask(shape, b"say:x", metadata="no pairs", timeout=5), ran=list(backend.executed))


@CASES.add()
def metadata_as_list(caller, shape, backend):
    """Metadata may be a list."""
    return view(caller.ask(shape, b"say:x", metadata=[("key", "one")])) | {
        "got": ("key", "one") in backend.script.metadata[0]
    }


@CASES.add()
def metadata_as_aio(caller, shape, backend):
    """Metadata may be `grpc.aio.Metadata`."""
    ended = caller.ask(shape, b"say:x", metadata=grpc.aio.Metadata(("key", "one")), timeout=5)
    return view(ended, got=[("key", "one") in got for got in backend.script.metadata])


@CASES.add()
def metadata_empty(caller, shape, backend):
    """Metadata may be empty."""
    return view(caller.ask(shape, b"say:x", metadata=()))


@CASES.add()
def plaintext_credentials(caller, shape, backend):
    """Per-call credentials on a plaintext channel."""
    credentials = grpc.access_token_call_credentials("token")
    return view(caller.ask(shape, b"say:x", credentials=credentials), ran=list(backend.executed))


@CASES.add("unary_unary", "stream_stream")
def request_over_limit(caller, shape, backend):
    """A request over what the server takes."""
    return view(caller.ask(shape, bytes(10 << 20), timeout=10), ran=list(backend.executed))


@CASES.add()
def negative_time(caller, shape, backend):
    """A timeout below zero."""
    return view(caller.ask(shape, b"say:x", timeout=-1), ran=list(backend.executed))


@CASES.add()
def aborted(caller, shape, backend):
    """The handler aborts."""
    return view(caller.ask(shape, b"abort:"))


@CASES.add()
def rich(caller, shape, backend):
    """The handler aborts with a rich error."""
    return view(caller.ask(shape, b"rich:"))


@CASES.add()
def types(caller, shape, backend):
    """What a running call is an instance of, and what it is once it has ended."""
    running = caller.start(shape, b"say:x", timeout=20)
    before = kinds(running.call)
    ended = running.end()
    return view(ended, running=before, after=kinds(ended.call))


@CASES.add("stream_unary", "stream_stream")
def iterator_raises(caller, shape, backend):
    """The application's request iterator raises; an answer to what it gave before may or may not have come."""
    return view(caller.start_with(shape, broken(), timeout=5).end(), answers=None)


@pytest.mark.parametrize(("name", "shape"), CASES.all)
@pytest.mark.parametrize("path", ["mesh", "intercepted"])
def test_same_as_grpcio(lab, name, shape):
    """The case gives on this channel what it gives on grpcio's own."""
    seen, native = CASES.compare(lab, name, shape)
    assert seen == native
