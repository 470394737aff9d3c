"""Policies in Envoy's own messages, from a server that shares no code with ours, and what calls then do."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

import meshsdk
from tests.e2e.processes import until
from tests.e2e.scripted_ads import CDS, EDS, LDS, PATIENCE, RDS, ScriptedAds, cluster, endpoints, pack

ORDER = "x-order"


class Server(grpc.GenericRpcHandler):
    """Answers every method, and keeps what `x-order` each call came with."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[tuple[str, list[str]]] = queue.SimpleQueue()
        self._server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[self])
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Handles any unary method."""
        found = [str(value) for key, value in details.invocation_metadata if key == ORDER]

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            context.send_initial_metadata(((ORDER, "server"),))
            self.calls.put((details.method, found))
            return request

        return grpc.unary_unary_rpc_method_handler(answer)

    def stop(self) -> None:
        """Stops at once."""
        self._server.stop(None).wait()


def added(value: str) -> list[base_pb2.HeaderValueOption]:
    """Adds `x-order` beside what is there."""
    return [base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key=ORDER, value=value))]


def listener() -> listener_pb2.Listener:
    """Filters that mutate headers and that inject faults: none, as the listener has it."""
    manager = http_connection_manager_pb2.HttpConnectionManager()
    manager.rds.route_config_name = "orders"
    manager.rds.config_source.ads.SetInParent()
    mutation = header_mutation_pb2.HeaderMutation()
    mutation.mutations.request_mutations.add().append.CopyFrom(added("filter")[0])
    for name, config in (("mutation", mutation), ("fault", fault_pb2.HTTPFault()), ("router", router_pb2.Router())):
        manager.http_filters.add(name=name).typed_config.Pack(config)
    message = listener_pb2.Listener(name="orders")
    message.api_listener.api_listener.Pack(manager)
    return message


def routes() -> route_pb2.RouteConfiguration:
    """One method is aborted; all others are edited at every level, and copied to a second cluster."""
    message = route_pb2.RouteConfiguration(name="orders", request_headers_to_add=added("configuration"))
    host = message.virtual_hosts.add(name="all", domains=["*"], request_headers_to_add=added("host"))
    aborted = host.routes.add(match={"path": "/s/Abort"}, route={"cluster": "orders"})
    abort = fault_pb2.HTTPFault(abort={"grpc_status": 8, "percentage": {"numerator": 100}})
    aborted.typed_per_filter_config["fault"].Pack(abort)
    rest = host.routes.add(match={"prefix": ""}, request_headers_to_add=added("route"))
    rest.response_headers_to_remove.append(ORDER)
    rest.route.weighted_clusters.clusters.add(
        name="orders", weight={"value": 1}, request_headers_to_add=added("cluster")
    )
    rest.route.request_mirror_policies.add(cluster="copies")
    return message


@pytest.fixture
def servers() -> Iterator[dict[str, Server]]:
    """One that is called and one that gets copies."""
    started = {name: Server() for name in ("orders", "copies")}
    yield started
    for server in started.values():
        server.stop()


def copied(call: grpc.UnaryUnaryMultiCallable, mirror: Server) -> bool:
    """Whether a copy of a call has come; makes one more, for a mirror that is not connected yet gets none."""
    assert call(b"1", timeout=PATIENCE) == b"1"
    return not mirror.calls.empty() and mirror.calls.get()[0] == "/s/Get"


def test_wire_to_calls(servers: dict[str, Server]) -> None:
    """Envoy's messages act on calls: edits in Envoy's order, a copy for the mirror, an abort where a route wants it."""
    resources = {(LDS, "orders"): pack(listener()), (RDS, "orders"): pack(routes())}
    for name, server in servers.items():
        resources[CDS, name], resources[EDS, name] = cluster(name), endpoints(name, server.port)
    with ScriptedAds() as ads:
        server = {"server_uri": ads.address, "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}
        with meshsdk.Mesh(bootstrap={"xds_servers": [server], "node": {"id": "n"}}) as mesh:
            channel = mesh.channel("xds:///orders")
            get, abort = channel.unary_unary("/s/Get"), channel.unary_unary("/s/Abort")
            pending = get.future(b"1", timeout=PATIENCE, wait_for_ready=True)
            ads.stream().answer_all(resources)
            assert pending.result() == b"1"
            assert ORDER not in dict(pending.initial_metadata())
            order = ["filter", "cluster", "route", "host", "configuration"]
            assert servers["orders"].calls.get(timeout=PATIENCE) == ("/s/Get", order)
            until(lambda: copied(get, servers["copies"]), "no call was copied")
            while not servers["orders"].calls.empty():
                servers["orders"].calls.get()
            with pytest.raises(grpc.RpcError) as caught:
                abort(b"2", timeout=PATIENCE)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert servers["orders"].calls.empty()
            channel.close()
