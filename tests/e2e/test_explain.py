"""`meshsdk explain`, of a live process and from files, against real servers and a real control plane."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from meshsdk import testing
from tests.e2e.processes import PATIENCE, ROOT, program, until

CLIENT = """
import os, time, meshsdk
channel = meshsdk.channel("xds:///orders")
while True:
    try:
        channel.unary_unary("/shop.Orders/Get")(b"", timeout=5)
        print(os.getpid(), flush=True)
        break
    except Exception:
        time.sleep(0.1)
time.sleep(600)
"""
YAML = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: orders}}
spec:
  hosts: [orders]
  ports: [{{number: 80, name: grpc, protocol: GRPC}}]
  resolution: STATIC
  endpoints:
  - {{address: 127.0.0.1, ports: {{grpc: {up}}}, labels: {{version: v1}}}}
  - {{address: 127.0.0.1, ports: {{grpc: {down}}}, labels: {{version: v1}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: orders}}
spec:
  host: orders
  trafficPolicy:
    loadBalancer: {{simple: LEAST_REQUEST}}
    connectionPool: {{http: {{http2MaxRequests: 7}}}}
    outlierDetection: {{consecutive5xxErrors: 3}}
  subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: orders}}
spec:
  hosts: [orders]
  http:
  - name: gold
    match: [{{params: {{user.tier: {{exact: gold}}}}}}]
    route: [{{destination: {{host: orders, subset: v2}}}}]
    timeout: 2s
    retries: {{attempts: 3, retryOn: unavailable}}
  - name: rest
    route: [{{destination: {{host: orders, subset: v1}}}}]
"""


@pytest.fixture
def backend():
    """A server that answers every method; returns its port."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    answer = grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", {"Get": answer}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


@pytest.fixture
def yaml(backend, tmp_path):
    """Configuration with an endpoint that is up and one where nothing listens."""
    text = YAML.format(up=backend, down=1)
    (tmp_path / "mesh.yaml").write_text(text)
    return text


@pytest.fixture
def surroundings(yaml, tmp_path):
    """The environment of processes of the mesh, with a cache of the last good configuration; and the control plane."""
    with testing.control_plane(yaml) as plane:
        bootstrap = plane.bootstrap("web", node="web-1", section={"cache_dir": str(tmp_path / "cache")})
        own = {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap), "MESHSDK_RUN_DIR": str(tmp_path / "run")}
        yield {**os.environ, **own}, plane


@pytest.fixture
def client(surroundings):
    """A live process that has made a call; its process id."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT], env=surroundings[0], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    yield int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    process.stdout.close()


def explain(env, *words, method="/shop.Orders/Get"):
    """Runs the command; returns its exit code, output and errors."""
    done = subprocess.run(
        [program("meshsdk"), "explain", "xds:///orders", method, *words],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def the_way(out):
    """The one way of a JSON answer, and its policies by name."""
    (view,) = json.loads(out)["views"]
    (way,) = view["ways"]
    return way, {one["name"]: (one["value"], one["origin"]) for one in way["policies"]}


def test_a_live_process(client, surroundings, backend):
    """Route, policies with their origin, breaker, and each endpoint with why it is in or out."""
    env, _ = surroundings

    def settled():
        code, out, err = explain(env, "--pid", str(client), "-o", "json")
        assert (code, err) == (0, "")
        way, policies = the_way(out)
        return (way, policies) if "failed" in str(way["endpoints"]) else None

    way, policies = until(settled, "the second endpoint has been tried")
    assert (way["route"], way["cluster"], way["share"]) == ("rest", "orders|v1", 1.0)
    assert policies["timeout"] == ("the caller's", "default")
    assert policies["retry"][1] == "default"
    assert policies["load balancing"] == ("LbConfig(policy LeastRequest)", "cluster")
    assert policies["outlier detection"][0].startswith("OutlierDetection(consecutive_5xx 3")
    assert [(one["cluster"], one["limit"], one["running"]) for one in way["breakers"]] == [("orders|v1", 7, 0)]
    ends = {one["address"]: (one["takes"], one["why"]) for one in way["endpoints"]}
    assert ends[f"127.0.0.1:{backend}"] == (True, "connected")
    assert ends["127.0.0.1:1"] == (False, "failed: Connection refused")


def test_a_request_field_decides(client, surroundings):
    """With the field that a route wants the call takes that route, with its own timeout and retries."""
    env, _ = surroundings
    code, out, _ = explain(env, "--pid", str(client), "--field", "user.tier=gold", "-o", "json")
    assert code == 0
    way, policies = the_way(out)
    assert (way["route"], way["cluster"]) == ("gold", "orders|v2")
    assert policies["timeout"] == ("2 s, or the caller's where that is shorter", "route")
    assert policies["retry"][1] == "route"
    _, out, _ = explain(env, "--pid", str(client))
    assert "route 'gold': does not match: request field user.tier is not set, must be exact 'gold'" in out
    assert "route 'rest': takes the call" in out


def test_from_yaml(tmp_path, yaml):
    """Without a process and a control plane: from the configuration itself."""
    code, out, err = explain(os.environ, "--config", str(tmp_path / "mesh.yaml"))
    assert (code, err) == (0, "")
    assert "100 % of the calls go to cluster 'orders|v1' by route 'rest'" in out
    _, out, _ = explain(os.environ, "--config", str(tmp_path / "mesh.yaml"), "--field", "user.tier=gold")
    assert "nothing takes calls there now" in out, "no endpoint is of version v2"


def test_from_the_cache(client, surroundings):
    """With the control plane gone, the last good files of the bootstrap's cache explain as well."""
    env, plane = surroundings
    until(lambda: any(path.is_file() for path in _cache(env).rglob("*")), "the cache is written")
    plane.stop()
    code, out, err = explain(env, "--timeout", "15")
    assert code == 0, err
    assert "by route 'rest'" in out
    assert f"no configuration from the control plane: xDS server {plane.address}" in err


def _cache(env):
    return Path(json.loads(env["GRPC_XDS_BOOTSTRAP_CONFIG"])["meshsdk"]["cache_dir"])


@pytest.mark.parametrize(
    ("words", "method", "complaint"),
    [
        (["--header", "tier"], "/shop.Orders/Get", "--header 'tier': give NAME=VALUE"),
        ([], "Get", "the method is 'Get'; give /package.Service/Method"),
        (["--config", "/nowhere.yaml"], "/shop.Orders/Get", "/nowhere.yaml"),
    ],
)
def test_one_clear_line(words, method, complaint, surroundings):
    """What cannot be asked ends with exit code 1 and one line that says what is wrong."""
    code, _, err = explain(surroundings[0], *words, method=method)
    assert (code, err.count("\n")) == (1, 1)
    assert complaint in err


def test_a_target_that_the_process_does_not_use(client, surroundings):
    """A live process knows its own targets, and names them."""
    done = subprocess.run(
        [program("meshsdk"), "explain", "--pid", str(client), "xds:///carts", "/shop.Carts/Get"],
        env=surroundings[0],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "no channel to 'xds:///carts' is open here; open are: xds:///orders" in done.stderr
