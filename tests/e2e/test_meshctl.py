"""Every command of `meshctl`, as processes, against a real `meshctl serve`."""

from __future__ import annotations

import http.client
import json
import os
import queue
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import yaml
from envoy.service.discovery.v3 import discovery_pb2

from meshsdk.discovery import registration_pb2 as pb
from tests.e2e.control_planes import Served, meshctl
from tests.e2e.processes import Process, until

ORDERS = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: orders}
spec:
  hosts: [orders]
  ports: [{number: 50051, name: grpc}]
  resolution: STATIC
  endpoints:
  - {address: 10.0.0.1, labels: {version: v1}, locality: eu/eu-1, weight: 3}
  - {address: 10.0.0.2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders}
spec:
  host: orders
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http:
  - name: gold
    match: [{params: {user.tier: {exact: gold}}}]
    timeout: 2s
    route: [{destination: {host: orders, subset: v2}}]
  - route:
    - {destination: {host: orders, subset: v1}, weight: 90}
    - {destination: {host: orders, subset: v2}, weight: 10}
"""
USERS = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: users}
spec: {hosts: [users], ports: [{number: 50051, name: grpc}], exportTo: ['*']}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the service orders."""
    folder = tmp_path_factory.mktemp("config")
    (folder / "orders.yaml").write_text(ORDERS)
    return folder


@pytest.fixture(scope="module")
def served(config: Path) -> Iterator[Served]:
    """A control plane on that directory."""
    made = Served(config)
    yield made
    assert made.process.stop() == 0


def test_ready_line_names_the_bound_addresses(served: Served, config: Path) -> None:
    """Port 0 is allowed, and the one line printed says what it became."""
    assert served.ready == f"meshctl: ready: xds {served.xds}, admin {served.admin}, config {config}"
    assert not served.xds.endswith(":0")


def test_get_in_every_form(served: Served, config: Path) -> None:
    """`get` shows a table, the YAML as it was written, and JSON; kinds have short and plural names."""
    table = served.ask("get", "all").stdout.splitlines()
    assert table[0].split() == ["KIND", "NAMESPACE", "NAME", "HOSTS", "FROM"]
    assert [line.split()[:4] for line in table[1:]] == [
        [kind, "default", "orders", "orders"] for kind in ("DestinationRule", "ServiceEntry", "VirtualService")
    ]
    assert table[1].endswith(f"{config}/orders.yaml:12")
    text = served.ask("get", "vs", "orders", "-o", "yaml").stdout
    assert list(yaml.safe_load_all(text)) == [list(yaml.safe_load_all(ORDERS))[2]]
    (listed,) = json.loads(served.ask("get", "serviceentries", "-o", "json").stdout)
    assert listed == json.loads(served.ask("get", "se", "orders", "-o", "json").stdout)
    assert listed["spec"]["hosts"] == ["orders"]


def test_routes_and_endpoints(served: Served) -> None:
    """`routes` shows the rules in order and in words; `endpoints` what clients are told."""
    routes = json.loads(served.ask("routes", "orders", "-o", "json").stdout)
    assert [(row["route"], row["match"], row["to"], row["timeout"]) for row in routes] == [
        ("gold", "field user.tier exact gold", "orders|v2", "2s"),
        ("", "every call", "orders|v1 90%, orders|v2 10%", ""),
    ]
    lines = served.ask("endpoints", "orders").stdout.splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["CLUSTER", "ADDRESS", "HEALTH", "WEIGHT", "LOCALITY", "LABELS"],
        ["orders", "10.0.0.2:50051", "HEALTHY", "1", "version=v2"],
    ]
    assert "orders|v1  10.0.0.1:50051  HEALTHY  3       eu/eu-1   version=v1" in lines


def test_apply_and_delete(served: Served, tmp_path: Path) -> None:
    """`apply` tells outcome and warnings, `delete` removes, and both are in force when they return."""
    file = tmp_path / "users.yaml"
    file.write_text(USERS)
    first = served.ask("apply", "-f", str(file))
    assert (first.returncode, first.stdout) == (0, "ServiceEntry/users created\n")
    assert first.stderr == f"meshctl: warning: {file}:4: spec.exportTo: has no effect in this version\n"
    assert served.ask("apply", "-f", "-", stdin=USERS).stdout == "ServiceEntry/users unchanged\n"
    changed = USERS.replace("50051", "50052")
    assert served.ask("apply", "-f", "-", stdin=changed).stdout == "ServiceEntry/users changed\n"
    assert served.ask("routes", "users").returncode == 0
    assert served.ask("delete", "se", "users").stdout == "ServiceEntry/users deleted\n"
    gone = served.ask("delete", "se", "users")
    assert (gone.returncode, gone.stderr) == (1, "meshctl: there is no ServiceEntry/users\n")
    assert served.ask("routes", "users").returncode == 1


def test_refused_apply(served: Served, config: Path) -> None:
    """What is refused says file, line and path, exits with 1, and changes nothing."""
    before = served.status()
    bad = served.ask("apply", "-f", "-", stdin=USERS.replace("number", "numbr"))
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr == "meshctl: (stdin):4: spec.ports[0].numbr: unknown field, did you mean number?\n"
    owned = served.ask("apply", "-f", "-", stdin=ORDERS.split("---", maxsplit=1)[0])
    assert (
        owned.stderr == f"meshctl: (stdin):1: ServiceEntry/orders is kept in {config}/orders.yaml:1; change it there\n"
    )
    assert served.ask("delete", "se", "orders").returncode == 1
    assert served.status() == before


def test_validate_needs_no_control_plane(tmp_path: Path) -> None:
    """`validate` checks a file or a directory by itself; every finding is a line."""
    (tmp_path / "a.yaml").write_text(ORDERS)
    good = meshctl("validate", str(tmp_path))
    assert (good.returncode, good.stdout) == (0, f"{tmp_path}: 3 resources, valid\n")
    (tmp_path / "a.yaml").write_text(ORDERS.replace("subset: v2", "subset: v3"))
    bad = meshctl("validate", str(tmp_path / "a.yaml"))
    assert bad.returncode == 1
    assert bad.stderr.splitlines() == [
        f"{tmp_path}/a.yaml:{line}: spec.http[{route}].route[{number}].destination: unknown subset v3 of orders; "
        f"DestinationRule/orders in {tmp_path}/a.yaml:16 has: v1, v2"
        for line, route, number in ((28, 0, 0), (31, 1, 1))
    ]
    warned = meshctl("validate", "-", stdin=USERS)
    assert (warned.returncode, warned.stdout) == (0, "-: 1 resources, valid, 1 warnings\n")
    assert warned.stderr == "warning: (stdin):4: spec.exportTo: has no effect in this version\n"


def test_status_and_clients(served: Served) -> None:
    """`status` counts and says that all is in force; `clients` shows a stream with what it has acknowledged."""
    text = served.ask("status").stdout
    assert "resources: 1 ServiceEntry, 0 WorkloadEntry, 1 VirtualService, 1 DestinationRule" in text
    assert text.rstrip().endswith("configuration: in force")
    bootstrap = {
        "xds_servers": [{"server_uri": served.xds, "channel_creds": [{"type": "insecure"}]}],
        "node": {"id": "stock-1", "cluster": "web"},
    }
    code = (
        "import grpc, sys\n"
        "call = grpc.insecure_channel('xds:///orders').unary_unary('/a/b')\n"
        "call.future(b'', timeout=60)\n"
        "sys.stdin.read()\n"
    )
    with Process(sys.executable, "-c", code, env={"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)}):
        row = until(
            lambda: next((row for row in served.over_http("/v1/clients") if len(row["subscriptions"]) == 4), None),
            "the client with four subscriptions",
        )
        assert (row["node"], row["app"], row["service"]) == ("stock-1", "web", "ADS")
        lines = served.ask("clients").stdout.splitlines()
        assert lines[0].split() == ["NODE", "APP", "AGENT", "PEER", "SERVICE", "TRANSPORT", "SENT", "STATE", "NACKS"]
        assert lines[1].startswith("stock-1  web")
        assert "Listener 1 acknowledged" in lines[1]


def test_refusals_of_clients_are_shown_and_counted(served: Served) -> None:
    """A client that refuses twice is listed with its words, the version and the count; metrics count by type."""
    type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    requests: queue.SimpleQueue[discovery_pb2.DiscoveryRequest | None] = queue.SimpleQueue()
    first = discovery_pb2.DiscoveryRequest(type_url=type_url, resource_names=["orders"])
    first.node.id = "refusing"
    requests.put(first)
    with grpc.insecure_channel(served.xds) as channel:
        call = channel.stream_stream(
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=discovery_pb2.DiscoveryResponse.FromString,
        )(iter(requests.get, None))
        names = ["orders"]
        for words in ("first reason", "no such\npolicy"):
            answer = next(call)
            request = discovery_pb2.DiscoveryRequest(type_url=type_url, response_nonce=answer.nonce)
            request.resource_names.extend(names)
            request.error_detail.message = words
            requests.put(request)
            names.append("orders|v1")  # asks for more, and so gets another response
            more = discovery_pb2.DiscoveryRequest(type_url=type_url, response_nonce=answer.nonce)
            more.resource_names.extend(names)
            requests.put(more)
        version = answer.version_info
        rows = lambda: [row for row in served.over_http("/v1/clients") if row["node"] == "refusing"]  # noqa: E731
        (nack,) = until(lambda: [nack for row in rows() for nack in row["nacks"] if nack["count"] == 2], "two NACKs")
        assert (nack["type"], nack["text"], nack["version"]) == ("Cluster", "no such\npolicy", version)
        assert f") refuses Cluster {version}, 2 times: no such policy" in served.ask("clients").stdout
        metrics = served.metrics()
        assert metrics['meshsdk_xds_nacks_total{type="Cluster"}'] == 2
        assert metrics["meshsdk_xds_rejecting_streams"] == 1
        assert metrics['meshsdk_xds_streams{transport="sotw"}'] >= 1
        assert metrics['meshsdk_resources{kind="ServiceEntry"}'] == 1
        assert metrics["meshsdk_configuration_in_force"] == 1
        requests.put(None)
        call.cancel()


def test_change_is_followed_and_bad_yaml_is_not(tmp_path: Path) -> None:
    """A changed file comes into force; a bad one is reported with its line, and the last good one stays."""
    file = tmp_path / "users.yaml"
    file.write_text(USERS)
    served = Served(tmp_path)
    try:
        file.write_text(USERS.replace("users", "people"))
        until(lambda: served.over_http("/v1/services") == ["people"], "the new service")
        file.write_text(USERS.replace("50051", "x"))
        problem = f"{file}:4: spec.ports[0].number: expected a whole number, got the string x"
        until(lambda: served.over_http("/v1/status")["problems"] == [problem], "the problem")
        assert served.over_http("/v1/services") == ["people"]
        assert "the last good one is in force" in served.ask("status").stdout
        assert f"the last good one stays in force: {problem}" in served.process.errors
        file.write_text(USERS)
        until(lambda: served.over_http("/v1/services") == ["users"], "the mended service")
        assert served.over_http("/v1/status")["problems"] == []
    finally:
        assert served.process.stop() == 0


def test_sqlite_survives_a_restart(tmp_path: Path) -> None:
    """What was applied, and who is registered with which lease, is there after a kill; a lease still renews."""
    (tmp_path / "conf").mkdir()
    store = ("--store", f"sqlite:{tmp_path}/plane.db")
    served = Served(tmp_path / "conf", *store)
    assert served.ask("apply", "-f", "-", stdin=USERS).returncode == 0
    with grpc.insecure_channel(served.xds) as channel:
        lease = unary(channel, "Register", pb.RegisterRequest(instance=instance("1"), ttl_seconds=60), pb.Lease)
    os.kill(served.process.pid, signal.SIGKILL)
    served.process.stop()
    again = Served(tmp_path / "conf", *store)
    try:
        assert again.over_http("/v1/services") == ["stock", "users"]
        assert [row["address"] for row in again.over_http("/v1/endpoints/stock")] == ["127.0.0.1:5001"]
        with grpc.insecure_channel(again.xds) as channel:
            assert unary(channel, "Renew", pb.RenewRequest(lease_id=lease.id), pb.Lease).ttl_seconds == 60
        second = meshctl("serve", "--config", str(tmp_path / "conf"), *store, "--xds", "127.0.0.1:0", "--admin",
                         "127.0.0.1:0")  # fmt: skip
        assert second.returncode == 1
        assert "another control plane uses it" in second.stderr
    finally:
        assert again.process.stop() == 0


def instance(identifier: str) -> pb.Instance:
    """Returns an instance to register."""
    return pb.Instance(app="stock", id=identifier, address=f"127.0.0.1:500{identifier}")


def unary(channel: grpc.Channel, name: str, request: object, answer: type) -> object:
    """Calls a method of the registration service."""
    call = channel.unary_unary(
        f"/meshsdk.registration.v1.Registration/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer.FromString,
    )
    return call(request, timeout=10, wait_for_ready=True)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--store", "paper"), "unknown store 'paper'; expected memory, sqlite:PATH or etcd://HOST:PORT"),
        (("--registry", "paper"), "--registry paper: expected NAME=URL"),
        (("--registry", "a=paper://x"), "--registry a=paper://x: 'paper://x' is not a registry"),
        (("--registry", "a=memory://x", "--registry", "a=memory://y"), "the name a was given before"),
        (("--store", "etcd://h:1?x=1"), "parameter 'x' is none of ca, cert, grace, key"),
        (("--source", "http://x"), "--source: 'http://x' is not xds://HOST:PORT"),
        (("--source", "xds://"), "--source: 'xds://' is not xds://HOST:PORT"),
        (("--source", "xds://h"), "--source: 'xds://h' is not xds://HOST:PORT"),
        (("--xds", "nowhere"), "'nowhere' is not HOST:PORT"),
        (("--xds", "192.0.2.1:1"), "the xDS server cannot listen on '192.0.2.1:1'"),
        (("--admin", "192.0.2.1:1"), "the admin interface cannot listen on 192.0.2.1:1"),
    ],
)
def test_serve_refuses_what_it_cannot_do(tmp_path: Path, arguments: tuple[str, ...], reason: str) -> None:
    """What this version lacks, and addresses that cannot be had, end with 1 and one clear line."""
    defaults = ("--xds", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    ended = meshctl("serve", "--config", str(tmp_path), *defaults, *arguments)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert next(line for line in ended.stderr.splitlines() if line.startswith("meshctl: ")).count(reason) == 1


def test_serve_refuses_bad_yaml_at_the_start(tmp_path: Path) -> None:
    """With nothing to fall back to, a control plane on bad files does not start."""
    (tmp_path / "a.yaml").write_text(USERS.replace("hosts", "host"))
    ended = meshctl("serve", "--config", str(tmp_path), "--xds", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    assert ended.returncode == 1
    assert ended.stderr == f"meshctl: {tmp_path}/a.yaml:4: spec.host: unknown field, did you mean hosts?\n"
    missing = meshctl("serve", "--config", str(tmp_path / "gone"), "--xds", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
    assert "cannot read the configuration directory" in missing.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("dance",),
        ("serve",),
        ("apply",),
        ("get",),
        ("get", "pods"),
        ("status", "-o", "xml"),
        ("serve", "--config", ".", "--debounce", "500,20"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...]) -> None:
    """Wrong usage is said on stderr and exits with 2."""
    ended = meshctl(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "usage: meshctl" in ended.stderr


def test_no_control_plane_is_one_clear_line() -> None:
    """A command without a control plane to ask says where it asked."""
    ended = meshctl("status", "--server", "127.0.0.1:9")
    assert ended.returncode == 1
    assert ended.stderr == (
        "meshctl: no control plane answers at 127.0.0.1:9: Connection refused (start one with meshctl serve, or name "
        "it with --server)\n"
    )


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Host": "rebound.example:18001"}, 403),
        ({"Content-Length": "99999999999"}, 413),
        ({"Content-Length": "many"}, 411),
        ({"Transfer-Encoding": "chunked"}, 411),
    ],
)
def test_web_pages_and_floods_are_refused(served: Served, headers: dict[str, str], status: int) -> None:
    """What a browser could be made to send, and bodies without a sensible length, are refused unread."""
    connection = http.client.HTTPConnection(served.admin, timeout=5)
    connection.putrequest("POST", "/v1/resources", skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()
