"""What can be read from a grpc server of the grpcio that is installed, and what happens where it cannot."""

from __future__ import annotations

import asyncio
from concurrent import futures

import grpc
import grpc.aio
import pytest

from meshsdk.errors import ConfigurationError
from meshsdk.interceptors import server_aio, server_sync
from meshsdk.lifecycle.server_parts import aio_parts, named_handlers, sync_parts


class Servicer:
    """Two methods."""

    def Get(self, request, context):
        """Serves."""

    def List(self, request, context):
        """Serves."""


class Opaque(grpc.GenericRpcHandler):
    """A handler that does not say what it serves."""

    def service(self, handler_call_details):
        """Serves nothing."""


def add_services(server, servicer) -> None:
    """Adds services in the two ways that generated code of various ages does."""
    generic = {"Get": grpc.unary_unary_rpc_method_handler(servicer.Get)}
    registered = {"List": grpc.stream_stream_rpc_method_handler(servicer.List)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", generic),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", registered),))
    server.add_registered_method_handlers("a.B", registered)


def test_a_sync_server_is_read():
    """Handlers of both kinds, our interceptor among others, and generic handlers that cannot be listed."""
    servicer, ours = Servicer(), server_sync.server_interceptors()

    class Other(grpc.ServerInterceptor):
        def intercept_service(self, continuation, details):
            return continuation(details)

    server = grpc.server(futures.ThreadPoolExecutor(1), interceptors=[Other(), *ours])
    add_services(server, servicer)
    server.add_generic_rpc_handlers((Opaque(),))
    parts = sync_parts(server)
    assert parts.handlers == {"/a.B/Get": servicer.Get, "/a.B/List": servicer.List}
    assert parts.unlisted == ("Opaque",)
    assert parts.activity is ours[0].activity


def test_an_aio_server_is_read():
    """The same for grpc.aio, with and without interceptors."""

    async def read():
        servicer, ours = Servicer(), server_aio.server_interceptors()
        server, bare = grpc.aio.server(interceptors=ours), grpc.aio.server()
        add_services(server, servicer)
        server.add_generic_rpc_handlers((Opaque(),))
        parts = aio_parts(server)
        assert parts.handlers == {"/a.B/Get": servicer.Get, "/a.B/List": servicer.List}
        assert parts.unlisted == ("Opaque",)
        assert parts.activity is ours[0].activity
        assert aio_parts(bare).activity is None
        assert aio_parts(bare).handlers == {}

    asyncio.run(read())


def test_what_is_no_known_server_is_told_apart():
    """An object with other insides, such as a later grpcio's server, gives None and no guess."""
    assert sync_parts(object()) is None
    assert aio_parts(object()) is None
    assert sync_parts(type("Later", (), {"_state": object()})()) is None


def test_named_services_stand_in():
    """With services= the methods are those of the servicer; one without methods is refused."""
    servicer = Servicer()
    assert named_handlers({"a.B": servicer}) == {"/a.B/Get": servicer.Get, "/a.B/List": servicer.List}
    with pytest.raises(ConfigurationError, match=r"'a\.B' has no public methods"):
        named_handlers({"a.B": object()})
