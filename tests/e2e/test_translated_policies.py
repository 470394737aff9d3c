"""What our YAML becomes, judged by the clients we did not write: Envoy, grpcio and grpc-js take it and act on it."""

from __future__ import annotations

import base64
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from controlplane import embedded
from tests.e2e.peers import envoy as envoy_peer
from tests.e2e.peers.envoy import Envoy
from tests.e2e.peers.grpc_process import grpc_js, stock_grpcio
from tests.e2e.processes import Process, until

SERVICE = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: orders}}
spec:
  hosts: [orders]
  ports: [{{number: 50051, name: grpc}}]
  resolution: STATIC
  endpoints:
  - {{address: 127.0.0.1, ports: {{grpc: {a}}}, locality: eu/a, labels: {{version: v1}}}}
  - {{address: 127.0.0.1, ports: {{grpc: {b}}}, locality: eu/b, labels: {{version: v2}}}}
---
"""
EVERYTHING = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: orders}}
spec:
  host: orders
  trafficPolicy:
    loadBalancer: {balancer}
    outlierDetection:
      {{consecutive5xxErrors: 5, consecutiveGatewayErrors: 3, consecutiveLocalOriginFailures: 2,
       splitExternalLocalOriginErrors: true, interval: 10s, baseEjectionTime: 30s, minHealthPercent: 20,
       maxEjectionPercent: 50}}
    connectionPool:
      tcp:
        {{connectTimeout: 2s, maxConnections: 10, maxConnectionDuration: 1h,
         tcpKeepalive: {{probes: 3, time: 10s, interval: 5s}}}}
      http:
        {{http1MaxPendingRequests: 100, http2MaxRequests: {limit}, idleTimeout: 5m, maxRequestsPerConnection: 1000,
         maxRetries: 4, maxConcurrentStreams: 100}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: orders}}
spec:
  hosts: [orders]
  http:
  - match:
    - uri: {{regex: "/a[.]B/.*"}}
      headers: {{x-none: {{exact: a}}}}
      withoutHeaders: {{x-b: {{exact: c}}, x-d: {{}}}}
    - {{uri: {{prefix: /none/}}, ignoreUriCase: true}}
    route: [{{destination: {{host: orders}}}}]
  - timeout: 3s
    retries: {{attempts: 2, perTryTimeout: 1s, retryOn: "unavailable,503,connect-failure", backoff: 10ms}}
    route: [{{destination: {{host: orders}}, weight: 1}}, {{destination: {{host: orders}}, weight: 0}}]
"""
BALANCERS = [
    "{simple: ROUND_ROBIN, warmup: {duration: 1s, aggression: 2, minimumPercent: 10}}",
    "{simple: ROUND_ROBIN, localityLbSetting: {enabled: true}}",
    "{simple: LEAST_REQUEST, warmup: {duration: 1s}}",
    "{simple: LEAST_REQUEST, localityLbSetting: {enabled: true}}",
    "{simple: RANDOM}",
    "{consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 64}}}",
    "{consistentHash: {httpHeaderName: x-user, maglev: {tableSize: 251}}}",
]
FIELD_RULE = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders}
spec: {host: orders, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http:
  - match: [{params: {user.tier: {exact: gold}}}]
    route: [{destination: {host: orders, subset: v2}}]
  - match: [{sourceLabels: {app: web}}]
    route: [{destination: {host: orders, subset: v2}}]
  - route: [{destination: {host: orders, subset: v1}}]
"""


@pytest.fixture(scope="module")
def mesh() -> Iterator[embedded.Embedded]:
    """A control plane in this process."""
    with embedded.start() as running:
        yield running


def port(mesh: embedded.Embedded) -> int:
    """Returns the xDS port."""
    return int(mesh.xds_address.rpartition(":")[2])


def cluster_versions(mesh: embedded.Embedded) -> dict[str, str]:
    """Returns the version of the clusters that each client has acknowledged; fails where one refuses them."""
    found = {}
    for client in mesh.clients():
        for each in client.subscriptions:
            if each.type_url.endswith(".Cluster"):
                if each.rejected:
                    pytest.fail(f"{client.node.id}: {each.nack}")
                found[client.node.id] = each.version_acked
    return found


def taken(mesh: embedded.Embedded, before: dict[str, str]) -> bool:
    """Tells whether every client has acknowledged newer clusters than `before`."""
    now = cluster_versions(mesh)
    return now.keys() == before.keys() and all(now[node] != version for node, version in before.items())


@pytest.mark.envoy
@pytest.mark.node
def test_every_policy_is_taken_by_every_client(
    mesh: embedded.Embedded, backends: dict[str, int], tmp_path: Path
) -> None:
    """Each load balancer, with every other field set, is accepted by all clients, and calls go to both backends."""
    mesh.apply(SERVICE.format(**backends) + EVERYTHING.format(balancer="{simple: ROUND_ROBIN}", limit=99))
    peers = [
        Envoy(port(mesh), "envoy", tmp_path, delta=True, lds=False),
        stock_grpcio("sync", port(mesh), "grpcio"),
        grpc_js(port(mesh), "grpc-js"),
    ]
    try:
        for number, balancer in enumerate(BALANCERS):
            for peer in peers:
                until(lambda peer=peer: not peer.call("orders", 1)[1], f"{peer.node} to call before {balancer}")
            before = cluster_versions(mesh)
            assert len(before) == len(peers)
            mesh.apply(EVERYTHING.format(balancer=balancer, limit=100 + number))
            until(lambda before=before: taken(mesh, before), f"all clients to take {balancer}")
            for peer in peers:
                answers, errors = peer.call("orders", 40)
                assert (set(answers), dict(errors)) == ({"a", "b"}, {}), (peer.node, balancer)
    finally:
        for peer in peers:
            peer.stop()


def messages() -> tuple[type, bytes]:
    """Returns the class of test.Request, with a field user.tier, and the descriptors it comes from."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="tier.proto", package="test", syntax="proto3")
    user = file.message_type.add(name="User")
    user.field.add(name="tier", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    request = file.message_type.add(name="Request")
    request.field.add(
        name="user", number=1, type=kinds.TYPE_MESSAGE, type_name=".test.User", label=kinds.LABEL_OPTIONAL
    )
    method = file.service.add(name="Echo").method.add(name="Say")
    method.input_type = method.output_type = ".test.Request"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Request"))
    return made, descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()


@pytest.mark.envoy
def test_envoy_decides_on_request_fields(
    mesh: embedded.Embedded, backends: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An Envoy with its field extraction filter routes on the decoded request by the rule in our YAML."""
    request, descriptors = messages()
    extension = "type.googleapis.com/envoy.extensions.filters.http"
    extraction = {
        "@type": f"{extension}.grpc_field_extraction.v3.GrpcFieldExtractionConfig",
        "descriptor_set": {"inline_bytes": base64.b64encode(descriptors).decode()},
        "extractions_by_method": {"test.Echo.Say": {"request_field_extractions": {"user.tier": {}}}},
    }
    # Envoy chose a route when the headers came; without this it keeps it, whatever was extracted.
    again = {"@type": f"{extension}.set_filter_state.v3.Config", "clear_route_cache": True}
    listener = envoy_peer._orders()
    filters = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    filters[:0] = [{"name": "extraction", "typed_config": extraction}, {"name": "again", "typed_config": again}]
    monkeypatch.setattr(envoy_peer, "_orders", lambda: listener)
    mesh.apply(SERVICE.format(**backends) + FIELD_RULE)
    peer = Envoy(port(mesh), "envoy-fields", tmp_path, delta=True, lds=False)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{peer.ports()['orders']}") as channel:
            call = channel.unary_unary("/test.Echo/Say")

            def answers(tier: str) -> Counter[bytes]:
                message = request(user={"tier": tier}).SerializeToString()
                return Counter(call(message, timeout=5) for _ in range(5))

            def decided() -> bool:
                try:
                    return (answers("gold"), answers("silver")) == ({b"b": 5}, {b"a": 5})
                except grpc.RpcError as error:
                    raise AssertionError(str(error)) from error

            until(decided, "gold to b and silver to a")
    finally:
        peer.stop()


@pytest.mark.parametrize(("app", "answer"), [("web", "b"), ("shop", "a")])
def test_stock_client_follows_rules_for_its_application(
    mesh: embedded.Embedded, backends: dict[str, int], app: str, answer: str
) -> None:
    """A stock client gets the rules of its application, and never those on fields that it would take for every call."""
    mesh.apply(SERVICE.format(**backends) + FIELD_RULE)
    code = (
        "import grpc, sys\n"
        "call = grpc.insecure_channel('xds:///orders').unary_unary('/test.Echo/Say')\n"
        "print({call(b'', timeout=5).decode() for _ in range(10)}, flush=True)\n"
    )
    bootstrap = {
        "xds_servers": [{"server_uri": mesh.xds_address, "channel_creds": [{"type": "insecure"}]}],
        "node": {"id": f"stock-{app}", "metadata": {"LABELS": {"app": app}}},
    }
    with Process(sys.executable, "-c", code, env={"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)}) as client:
        assert client.line() == str({answer})
