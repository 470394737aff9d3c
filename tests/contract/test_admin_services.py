"""gRPC's admin services on a server of either kind, asked by stock stubs while a mesh is in use."""

from __future__ import annotations

import asyncio
from concurrent import futures

import grpc
import pytest
from envoy.admin.v3 import config_dump_shared_pb2 as dump_pb2
from envoy.config.route.v3 import route_pb2
from envoy.service.status.v3 import csds_pb2, csds_pb2_grpc
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc

import meshsdk
from meshsdk import testing
from tests.contract.server_drivers import loop_thread

YAML = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: orders}
spec:
  hosts: [orders]
  ports: [{number: 80, name: grpc, protocol: GRPC}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {grpc: 9}}]
"""
ROUTES = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"


def serve_sync():
    """A grpc.server with the admin services."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    meshsdk.add_admin_services(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


def serve_aio():
    """A grpc.aio.server with the admin services."""
    with loop_thread() as loop:

        async def start():
            server = grpc.aio.server()
            meshsdk.add_admin_services(server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            return server, port

        server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
        yield port
        asyncio.run_coroutine_threadsafe(server.stop(None), loop).result(20)


@pytest.fixture(params=[serve_sync, serve_aio], ids=["sync", "aio"])
def operator(request):
    """A channel to a server of either kind."""
    running = request.param()
    channel = grpc.insecure_channel(f"127.0.0.1:{next(running)}")
    yield channel
    channel.close()
    assert next(running, None) is None


@pytest.fixture
def orders():
    """A mesh that has resolved one service and asks in vain for another."""
    with testing.control_plane(YAML) as plane, plane.mesh(app="web") as mesh:
        channels = [mesh.channel("xds:///orders"), mesh.channel("xds:///nobody")]
        for channel in channels:
            with pytest.raises(grpc.RpcError):
                channel.unary_unary("/x.Y/Z")(b"", timeout=5)
        yield plane


def by_name(response):
    """The resources of the mesh of the test's own, by type and name."""
    config = next(one for one in response.config if one.node.cluster == "web")
    return config, {(one.type_url, one.name): one for one in config.generic_xds_configs}


def test_each_resource_with_its_state(orders, operator):
    """Resources in force come with version, time and bytes; one that is not there is DOES_NOT_EXIST, with words."""
    stub = csds_pb2_grpc.ClientStatusDiscoveryServiceStub(operator)
    config, found = by_name(stub.FetchClientStatus(csds_pb2.ClientStatusRequest(), timeout=10))
    routes = found[ROUTES, "orders"]
    assert routes.client_status == dump_pb2.ACKED
    assert routes.version_info
    assert routes.last_updated.seconds > 1_700_000_000
    parsed = route_pb2.RouteConfiguration()
    assert routes.xds_config.Unpack(parsed)
    assert parsed.name == "orders"
    assert config.node.user_agent_name.startswith("meshsdk")
    missing = found["type.googleapis.com/envoy.config.listener.v3.Listener", "nobody"]
    assert missing.client_status == dump_pb2.DOES_NOT_EXIST
    assert "nobody" in missing.error_state.details


def test_a_stream_answers_each_request(orders, operator):
    """The streaming form gives one answer for each question; the contents are left out where asked."""
    stub = csds_pb2_grpc.ClientStatusDiscoveryServiceStub(operator)
    questions = [csds_pb2.ClientStatusRequest(exclude_resource_contents=bare) for bare in (True, False)]
    bare, whole = [by_name(one)[1][ROUTES, "orders"] for one in stub.StreamClientStatus(iter(questions), timeout=10)]
    assert (bare.HasField("xds_config"), whole.HasField("xds_config")) == (False, True)


def test_node_matchers_are_refused(operator):
    """A40 lets a client refuse them: INVALID_ARGUMENT says so."""
    stub = csds_pb2_grpc.ClientStatusDiscoveryServiceStub(operator)
    request = csds_pb2.ClientStatusRequest()
    request.node_matchers.add().node_id.exact = "x"
    with pytest.raises(grpc.RpcError) as failed:
        stub.FetchClientStatus(request, timeout=10)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_channelz_is_there(operator):
    """The server that answers is among those that channelz lists."""
    stub = channelz_pb2_grpc.ChannelzStub(operator)
    assert stub.GetServers(channelz_pb2.GetServersRequest(), timeout=10).server
