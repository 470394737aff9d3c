"""A method's serializers are found in the continuations of the installed grpcio, and anything else gives None."""

from __future__ import annotations

import asyncio
import functools

import grpc
import grpc.aio
import pytest

from meshsdk.interceptors.continuation import Serializers, of_aio, of_sync

SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def serialize(message: object) -> bytes:
    """A serializer to be found."""
    return bytes(str(message), "ascii")


def deserialize(raw: bytes) -> str:
    """A deserializer to be found."""
    return raw.decode()


class Caught(Exception):
    """Ends the call once its continuation was seen."""


class Catcher(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Reads the serializers from the continuation that it is given."""

    def __init__(self) -> None:
        self.seen: list[Serializers | None] = []

    def intercept_unary_unary(self, continuation, client_call_details, request):
        """Ends the call."""
        self.seen.append(of_sync(continuation))
        raise Caught

    intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = intercept_unary_unary


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", [1, 2], ids=["innermost", "outer"])
@pytest.mark.parametrize("pair", [(serialize, deserialize), (None, None)], ids=["own", "bytes"])
def test_sync(shape, depth, pair):
    """All four shapes, wherever in the chain the interceptor stands."""
    catcher = Catcher()
    with grpc.insecure_channel("127.0.0.1:1") as direct:
        channel = grpc.intercept_channel(direct, *[catcher] * depth)
        stub = getattr(channel, shape)("/s/m", *pair)
        with pytest.raises(Caught):
            list(stub("x" if shape.startswith("unary") else iter("x")))
    assert catcher.seen[0] == Serializers(*pair)


def catching(kind: type, name: str, seen: list) -> grpc.aio.ClientInterceptor:
    """An asyncio interceptor of one shape that reads the serializers."""

    async def intercept(self, continuation, client_call_details, request):
        seen.append(of_aio(continuation))
        raise Caught

    return type("Catching", (kind,), {name: intercept})()


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ("unary_unary", grpc.aio.UnaryUnaryClientInterceptor),
        ("unary_stream", grpc.aio.UnaryStreamClientInterceptor),
        ("stream_unary", grpc.aio.StreamUnaryClientInterceptor),
        ("stream_stream", grpc.aio.StreamStreamClientInterceptor),
    ],
)
@pytest.mark.parametrize("pair", [(serialize, deserialize), (None, None)], ids=["own", "bytes"])
def test_aio(shape, kind, pair):
    """All four shapes of grpc.aio."""
    seen: list[Serializers | None] = []

    async def call() -> None:
        interceptors = [catching(kind, f"intercept_{shape}", seen)]
        async with grpc.aio.insecure_channel("127.0.0.1:1", interceptors=interceptors) as channel:
            made = getattr(channel, shape)("/s/m", *pair)("x" if shape.startswith("unary") else iter("x"))
            with pytest.raises(Caught):
                await (made if shape.endswith("_unary") else made.read())

    asyncio.run(call())
    assert seen == [Serializers(*pair)]


def wrapped(continuation):
    """What another library may put around a continuation."""

    def call(details, request):
        return continuation(details, request)

    return call


class Hidden:
    """A callable without a closure."""

    def __call__(self, details, request):
        """Does nothing."""


@pytest.mark.parametrize("strange", [wrapped(print), Hidden(), print, None, functools.partial(print, 1)])
def test_what_is_not_known(strange):
    """Where grpc's inside looks different there are no serializers, and no error."""
    assert of_sync(strange) is None
    assert of_aio(strange) is None
