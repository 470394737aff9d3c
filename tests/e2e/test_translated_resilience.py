"""Faults, copies, header edits, limits and CallPolicy of our YAML, judged by clients we did not write."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf import json_format

from controlplane import embedded
from controlplane.config.documents import parse
from controlplane.config.merge import merge
from controlplane.translate.listener import listener
from tests.e2e.control_planes import Served
from tests.e2e.peers import envoy as envoy_peer
from tests.e2e.peers.envoy import Envoy
from tests.e2e.peers.grpc_process import bootstrap, grpc_js, stock_grpcio
from tests.e2e.processes import ROOT, Process, until
from tests.e2e.test_translated_policies import SERVICE, port

EVERYTHING = (ROOT / "tests/unit/controlplane/translate/golden/resilience.yaml").read_text()
HEAD = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http:
"""
PLAIN = HEAD + "  - route: [{destination: {host: orders}}]\n"
ABORTED = PLAIN + "    fault: {abort: {percentage: {value: 100}, grpcStatus: DATA_LOSS}}\n"
DELAYED = PLAIN + "    fault: {delay: {percentage: {value: 100}, fixedDelay: 60s}}\n"
EDITED = (
    HEAD
    + """\
  - mirror: {host: shadow}
    headers:
      request: {set: {x-set: mesh, x-new: one}, add: {x-added: mesh}, remove: [x-removed]}
      response: {set: {x-answer: mesh}, remove: [x-internal]}
    route: [{destination: {host: seen}, headers: {request: {set: {x-cluster: seen}}}}]
"""
)
RECORDED = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}]
  ports: [{{number: 50051, name: grpc}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{grpc: {port}}}}}]
---
"""
SESSIONS = """\
apiVersion: meshsdk.io/v1alpha1
kind: CallPolicy
metadata: {name: orders}
spec: {targetRef: {name: orders}, sessionAffinity: {cookie: {name: session}}}
"""
FOLLOW = """\
import grpc, json
say = grpc.insecure_channel("xds:///orders").unary_unary("/test.Echo/Say")
_, first = say.with_call(b"", timeout=30, wait_for_ready=True)
cookie = dict(first.initial_metadata())["set-cookie"].partition(";")[0]
sent = (("cookie", cookie),)
with_cookie = [say(b"", timeout=5, metadata=sent).decode() for _ in range(20)]
print(json.dumps([with_cookie, [say(b"", timeout=5).decode() for _ in range(40)]]), flush=True)
"""
LIMITED = """\
---
apiVersion: meshsdk.io/v1alpha1
kind: CallPolicy
metadata: {{name: orders}}
spec:
  targetRef: {{kind: Service, name: orders}}
  localRateLimit:
    tokenBucket: {{maxTokens: 1000, fillInterval: 1h}}
    descriptors: [{{entries: [{{header: x-user, equals: alice}}], tokenBucket: {{maxTokens: 2, fillInterval: 1h}}}}]
  rateLimit:
    domain: shop
    address: {address}
    timeout: 5s
    failureMode: DENY
    descriptors: [{{entries: [{{header: x-guest, key: guest}}]}}]
  rules:
  - match: {{method: /test.Echo/Limited}}
    localRateLimit: {{tokenBucket: {{maxTokens: 3, fillInterval: 1h}}, status: UNAVAILABLE}}
---
apiVersion: meshsdk.io/v1alpha1
kind: RateLimit
metadata: {{name: shop}}
spec: {{domain: shop, descriptors: [{{key: guest, rateLimit: {{unit: day, requestsPerUnit: 2}}}}]}}
"""


@pytest.fixture
def mesh() -> Iterator[embedded.Embedded]:
    """A control plane in this process."""
    with embedded.start() as running:
        yield running


class Recorder:
    """A server in this process that keeps the metadata of every call, and answers with its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[dict[str, list[str]]] = []  # guarded by the lock
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[self])
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Handles every method alike."""
        found: dict[str, list[str]] = {}
        for key, value in details.invocation_metadata:
            found.setdefault(key, []).append(value)
        with self._lock:
            self.calls.append(found)
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.send_initial_metadata((("x-internal", "secret"), ("x-answer", self.name)))
        return self.name.encode()

    def stop(self) -> None:
        """Ends the server."""
        self._server.stop(0).wait()


@pytest.fixture
def recorders() -> Iterator[dict[str, Recorder]]:
    """Servers that keep what they are sent."""
    made = {name: Recorder(name) for name in ("seen", "shadow")}
    yield made
    for each in made.values():
        each.stop()


def use_our_filters(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Has Envoy's own listener `orders` use the filters of the listener that `text` makes for proxyless clients."""
    made = listener("orders", merge(parse(text, "f.yaml")).configuration)
    manager = http_connection_manager_pb2.HttpConnectionManager()
    assert made.api_listener.api_listener.Unpack(manager)
    own = envoy_peer._orders()
    filters = json_format.MessageToDict(manager)["httpFilters"]
    own["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"] = filters
    monkeypatch.setattr(envoy_peer, "_orders", lambda: own)


def refused(mesh: embedded.Embedded) -> list[str]:
    """Returns what clients say of resources that they refuse."""
    return [each.nack for client in mesh.clients() for each in client.subscriptions if each.rejected]


def test_meshctl_shows_policies_and_says_what_is_wrong(tmp_path: Path) -> None:
    """`get callpolicy` lists it, `routes` has a line for each part, `validate` refuses a second word on one thing."""
    (tmp_path / "all.yaml").write_text(EVERYTHING)
    with Served(tmp_path) as plane:
        assert "orders" in plane.ask("get", "callpolicy").stdout
        lines = plane.ask("routes", "orders").stdout
        other = EVERYTHING.rpartition("---")[2].replace("metadata: {name: orders}", "metadata: {name: second}")
        (tmp_path / "second.yaml").write_text(other)
        refused = plane.ask("validate", str(tmp_path))
    for words in (
        "delay 0.25s for 12.5%",
        "10% to orders|v2",
        "set x-route=tried",
        "hedging: 3 attempts",
        "retry budget",
    ):
        assert words in lines, lines
    assert refused.returncode == 1
    assert "CallPolicy/second and CallPolicy/orders (in " in refused.stderr


@pytest.mark.envoy
@pytest.mark.node
def test_every_part_is_taken_by_every_client(
    mesh: embedded.Embedded, backends: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every policy at once, all filters of ours in Envoy's listener: all clients take it, and go on calling."""
    text = SERVICE.format(**backends) + EVERYTHING
    # No rate limit service runs: calls would be refused by those who ask one.
    text = text.replace("failureMode: DENY", "failureMode: ALLOW")
    use_our_filters(monkeypatch, text)
    mesh.apply(text)
    peers = [
        Envoy(port(mesh), "envoy", tmp_path, delta=True, lds=False),
        stock_grpcio("sync", port(mesh), "grpcio"),
        grpc_js(port(mesh), "grpc-js"),
    ]
    try:
        for peer in peers:
            until(lambda peer=peer: not peer.call("orders", 1)[1], f"{peer.node} to call; refused: {refused(mesh)}")
        assert {client.node.id for client in mesh.clients()} == {peer.node for peer in peers}
        assert refused(mesh) == []
    finally:
        for peer in peers:
            peer.stop()


@pytest.mark.envoy
def test_faults_act_in_stock_grpcio_and_envoy(
    mesh: embedded.Embedded, backends: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An abort gives its status, a long delay runs into the deadline, and without a fault calls go through again."""
    service = SERVICE.format(**backends)
    use_our_filters(monkeypatch, service + ABORTED)
    mesh.apply(service + ABORTED)
    peers = [Envoy(port(mesh), "envoy", tmp_path, delta=False, lds=False), stock_grpcio("sync", port(mesh), "grpcio")]
    try:
        for text, status in ((ABORTED, "DATA_LOSS"), (DELAYED, "DEADLINE_EXCEEDED"), (PLAIN, "")):
            mesh.apply(text)
            for peer in peers:

                def acts(peer: Envoy = peer, status: str = status) -> bool:
                    answers, errors = peer.call("orders", 1)
                    return bool(answers) if not status else any(each.startswith(status) for each in errors)

                until(acts, f"{peer.node} to answer {status or 'normally'}")
    finally:
        for peer in peers:
            peer.stop()


def test_stock_grpcio_keeps_sessions(mesh: embedded.Embedded, backends: dict[str, int]) -> None:
    """Stock grpcio gets a cookie by our `sessionAffinity`; calls that carry it go to one backend, others to both."""
    mesh.apply(SERVICE.format(**backends) + SESSIONS)
    with Process(sys.executable, "-c", FOLLOW, env=bootstrap(port(mesh), "grpcio")) as client:
        with_cookie, without = json.loads(client.line())
    assert len(set(with_cookie)) == 1
    assert set(without) == {"a", "b"}


@pytest.mark.envoy
def test_envoy_copies_edits_and_limits(
    mesh: embedded.Embedded, recorders: dict[str, Recorder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Envoy copies, edits metadata both ways, limits by descriptor and method, and asks the control plane's limits."""
    services = "".join(RECORDED.format(name=name, port=each.port) for name, each in recorders.items())
    text = services + EDITED + LIMITED.format(address=mesh.xds_address)
    use_our_filters(monkeypatch, text)
    mesh.apply(text)
    peer = Envoy(port(mesh), "envoy", tmp_path, delta=True, lds=False)
    try:
        until(lambda: not peer.call("orders", 1)[1], "Envoy to call")
        with grpc.insecure_channel(f"127.0.0.1:{peer.ports()['orders']}") as channel:
            say, limited = channel.unary_unary("/test.Echo/Say"), channel.unary_unary("/test.Echo/Limited")

            def code(call: grpc.UnaryUnaryMultiCallable, *metadata: tuple[str, str]) -> str:
                try:
                    call(b"", timeout=5, metadata=metadata)
                except grpc.RpcError as error:
                    return error.code().name
                return "OK"

            sent = (("x-mark", "1"), ("x-set", "mine"), ("x-added", "mine"), ("x-removed", "mine"))
            _, call = say.with_call(b"", timeout=5, metadata=sent)
            answered = {key: value for key, value in call.initial_metadata() if key.startswith("x-")}
            by_alice = [code(say, ("x-user", "alice")) for _ in range(4)]
            by_bob = [code(say, ("x-user", "bob")) for _ in range(4)]
            by_guest = [code(say, ("x-guest", "eve")) for _ in range(3)]
            to_limited = [code(limited) for _ in range(5)]
            shadow = recorders["shadow"].calls
            until(lambda: any("x-mark" in each for each in shadow), "the copy to arrive")
    finally:
        peer.stop()
    assert (answered["x-answer"], answered.get("x-internal")) == ("mesh", None)
    (marked,) = [each for each in recorders["seen"].calls if "x-mark" in each]
    assert (marked["x-set"], marked["x-new"], marked["x-cluster"]) == (["mesh"], ["one"], ["seen"])
    assert ",".join(marked["x-added"]).replace(" ", "") == "mine,mesh"
    assert "x-removed" not in marked
    assert by_alice == ["OK", "OK", "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED"]
    assert by_bob == ["OK"] * 4
    assert by_guest == ["OK", "OK", "RESOURCE_EXHAUSTED"]
    assert to_limited == ["OK"] * 3 + ["UNAVAILABLE"] * 2
