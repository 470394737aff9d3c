"""`meshctl serve --source xds://HOST:PORT`: the configuration of another control plane, below files and apply."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import any_pb2, struct_pb2

from controlplane.snapshot import pack
from controlplane.sources import mcp_pb2
from controlplane.sources.wire import RESOURCE
from tests.e2e.control_planes import Served
from tests.e2e.peers.plane import Plane
from tests.e2e.processes import until
from tests.servers.process import free_port

SERVICE = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {0}, labels: {{team: shop}}}}
spec: {{hosts: [{0}], ports: [{{number: {1}, name: grpc}}], resolution: STATIC, endpoints: [{{address: 10.0.0.1}}]}}
"""
RULE = """\
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: orders}
spec: {host: orders, subsets: [{name: v1, labels: {version: v1}}]}
"""
ROUTES = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec: {hosts: [orders], http: [{timeout: 2.5s, route: [{destination: {host: orders, subset: v1}, weight: 100}]}]}
"""
ENTRIES = "networking.istio.io/v1/ServiceEntry"


class Chain:
    """Control planes in folders of their own, stopped in the end."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack

    def directory(self, name: str) -> Path:
        """Returns the configuration directory of a control plane."""
        found = self._folder / name
        found.mkdir(exist_ok=True)
        return found

    def start(self, name: str, *arguments: str, xds: str = "127.0.0.1:0") -> Served:
        """Starts a control plane."""
        return self._stack.enter_context(Served(self.directory(name), *arguments, xds=xds))


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    """No control plane yet."""
    with ExitStack() as stack:
        yield Chain(tmp_path, stack)


def origins(plane: Served) -> dict[str, str]:
    """Returns where each resource in force comes from."""
    rows = plane.over_http("/v1/resources")
    return {f"{row['kind']}/{row['name']}": row["origin"] for row in rows}


def test_configuration_of_another_control_plane_is_in_force_below_ones_own(chain: Chain) -> None:
    """Its resources come, in order and whole; files and applied ones go before them, and each conflict is said."""
    (chain.directory("upper") / "a.yaml").write_text("---\n".join([SERVICE.format("orders", 80), RULE, ROUTES]))
    upper = chain.start("upper")
    source = f"xds://{upper.xds}"
    lower = chain.start("lower", "--source", source)
    assert origins(lower) == {
        f"{kind}/orders": f"{source}/{kind}/default/orders:1"
        for kind in ("ServiceEntry", "DestinationRule", "VirtualService")
    }
    assert [row["timeout"] for row in lower.over_http("/v1/routes/orders")] == ["2.5s"]
    (row,) = lower.over_http("/v1/resources/ServiceEntry/default/orders")
    assert json.loads(row["text"])["metadata"]["labels"] == {"team": "shop"}
    refused = lower.ask("delete", "ServiceEntry", "orders")
    assert f"ServiceEntry/orders is kept by {source}/ServiceEntry/default/orders; remove it there" in refused.stderr
    assert lower.apply(SERVICE.format("orders", 8080)) == 200
    assert origins(lower)["ServiceEntry/orders"] == "f.yaml:1"
    hidden = f"f.yaml:1: ServiceEntry/orders hides the one in {source}/ServiceEntry/default/orders"
    assert hidden in lower.over_http("/v1/status")["warnings"]
    (chain.directory("lower") / "mine.yaml").write_text(
        ROUTES.replace("name: orders", "name: mine").replace("2.5", "9")
    )
    until(lambda: [row["timeout"] for row in lower.over_http("/v1/routes/orders")] == ["9s"], "the file goes before")
    words = f"VirtualService/mine has a host of VirtualService/orders and hides it: the one in {source}"
    assert "VirtualService/mine" in origins(lower)
    until(lambda: any("VirtualService/mine" in line for line in lower.over_http("/v1/status")["warnings"]), words)
    assert upper.apply(SERVICE.format("users", 80)) == 200
    until(lambda: "users" in lower.over_http("/v1/services"), "what is applied there is in force here")
    assert upper.ask("delete", "ServiceEntry", "users").returncode == 0
    until(lambda: "users" not in lower.over_http("/v1/services"), "and goes with it")
    assert f"source {source}: up, 3 resources" in lower.ask("status").stdout


def test_an_upstream_that_is_away_takes_nothing_out_of_force(chain: Chain) -> None:
    """It is killed and comes back with another configuration: the last one stays meanwhile, then the new one counts."""
    (chain.directory("upper") / "a.yaml").write_text(SERVICE.format("orders", 80))
    upper = chain.start("upper")
    lower = chain.start("lower", "--source", f"xds://{upper.xds}")
    os.kill(upper.process.pid, signal.SIGKILL)
    until(lambda: lower.over_http("/v1/status")["problems"], "the outage is noticed")
    (problem,) = lower.over_http("/v1/status")["problems"]
    assert problem.startswith(f"xds://{upper.xds}: ")
    assert problem.endswith("its last good configuration stays in force")
    assert lower.over_http("/v1/services") == ["orders"]
    (chain.directory("upper") / "a.yaml").write_text(SERVICE.format("stock", 80))
    chain.start("upper", xds=upper.xds)
    until(lambda: lower.over_http("/v1/services") == ["stock"], "the new one is in force")
    until(lambda: lower.over_http("/v1/status")["problems"] == [], "all is well")


def test_an_upstream_that_is_away_for_longer_than_the_patience_is_said(chain: Chain) -> None:
    """The rest is served then, and the problem is on stderr and in status."""
    (chain.directory("lower") / "a.yaml").write_text(SERVICE.format("orders", 80))
    lower = chain.start("lower", "--patience", "0.5", "--source", "xds://127.0.0.1:9")
    assert lower.over_http("/v1/services") == ["orders"]
    assert "meshctl: problem: xds://127.0.0.1:9: UNAVAILABLE" in lower.process.errors
    assert "nothing of it is in force yet" in lower.process.errors
    assert lower.metrics()['meshsdk_upstream_up{upstream="xds://127.0.0.1:9"}'] == 0


def test_two_that_follow_each_other_keep_nothing_alive(chain: Chain) -> None:
    """Each waits for the other's own configuration, and gets it; what is deleted at its origin is gone from both."""
    here, there = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    with ThreadPoolExecutor(1) as meanwhile:
        starting = meanwhile.submit(chain.start, "one", "--source", f"xds://{there}", xds=here)
        two = chain.start("two", "--source", f"xds://{here}", xds=there)
        one = starting.result()
    assert one.apply(SERVICE.format("orders", 80)) == 200
    assert two.apply(SERVICE.format("users", 80)) == 200
    for each in (one, two):
        until(lambda each=each: each.over_http("/v1/services") == ["orders", "users"], "both have both")
    assert one.ask("delete", "ServiceEntry", "orders").returncode == 0
    for each in (one, two):
        until(lambda each=each: each.over_http("/v1/services") == ["users"], "it is gone from both")


@pytest.fixture
def garbage() -> Iterator[Plane]:
    """An xDS server that is no control plane."""
    started = Plane()
    started.start()
    yield started
    started.stop()


def resource(name: str, spec: dict[str, object], body: str = "type.googleapis.com/google.protobuf.Struct") -> object:
    """Returns a ServiceEntry as another control plane sends it."""
    struct = struct_pb2.Struct()
    struct.update(spec)
    message = mcp_pb2.Resource()
    message.metadata.name = name
    message.body.type_url, message.body.value = body, struct.SerializeToString()
    sent = pack(any_pb2.Any(type_url=RESOURCE, value=message.SerializeToString()), name)
    return replace(sent, type_url=ENTRIES)


def test_garbage_is_refused_in_one_line_and_the_last_good_stays(chain: Chain, garbage: Plane) -> None:
    """What cannot be read is NACKed with the reason, said once, and changes nothing; what is good again counts."""
    spec = {"hosts": ["orders"], "ports": [{"number": 80, "name": "grpc"}]}
    garbage.publish(resource("default/orders", spec))
    source = f"xds://127.0.0.1:{garbage.port}"
    lower = chain.start("lower", "--source", source)
    assert lower.over_http("/v1/services") == ["orders"]
    for bad, reason in (
        (resource("default/users", {**spec, "hosts": 1}), "/ServiceEntry/default/users:"),
        (resource("default/users", spec, "type.googleapis.com/istio.networking.v1alpha3.ServiceEntry"), "is read"),
        (resource("users|x", spec), "a name (lower case letters"),
    ):
        garbage.publish(bad)
        until(lambda reason=reason: reason in garbage.refusal_of("meshctl"), "it is refused")
        (problem,) = lower.over_http("/v1/status")["problems"]
        assert problem.startswith(f"{source}: {source}/ServiceEntry/")
        assert problem.endswith(f"the last good {ENTRIES} stay in force")
        assert lower.over_http("/v1/services") == ["orders"]
        garbage.remove(ENTRIES, bad.name)
        until(lambda: lower.over_http("/v1/status")["problems"] == [], "it is good again")
    garbage.publish(resource("default/users", {**spec, "hosts": ["users"]}))
    until(lambda: lower.over_http("/v1/services") == ["orders", "users"], "what is good is in force")
    garbage.publish(resource("default/again", {**spec, "hosts": ["users"]}))
    until(lambda: lower.over_http("/v1/status")["problems"], "two for one host: refused")
    assert "are both for the host users" in str(lower.over_http("/v1/status")["problems"])
    assert lower.over_http("/v1/services") == ["orders", "users"]
