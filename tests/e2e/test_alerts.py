"""The alert rules of `deploy/`: by promtool, and fired in a real Prometheus by processes that are really in trouble."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from envoy.config.route.v3 import route_pb2

from tests.e2e.processes import PATIENCE, ROOT, program, until
from tests.e2e.scripted_ads import EDS, RDS, ScriptedAds, pack, route, service
from tests.servers.process import free_port
from tests.servers.prometheus import Prometheus

DEPLOY = ROOT / "deploy" / "prometheus"
RULES = DEPLOY / "meshsdk-alerts.yaml"
CLIENT = """
import meshsdk, time
channel = meshsdk.channel("xds:///orders")
try:
    channel.unary_unary("/shop.Orders/Get")(b"", timeout=5)
except Exception:
    pass
time.sleep(600)
"""


def test_promtool():
    """Prometheus' own tool takes the rules, and each alert fires on the series that it is for and on no others."""
    done = subprocess.run(
        [program("promtool"), "test", "rules", "meshsdk-alerts-test.yaml"],
        cwd=DEPLOY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    alerts = set(re.findall(r"alert: (\w+)", RULES.read_text()))
    tested = set(re.findall(r"alertname: (\w+)", (DEPLOY / "meshsdk-alerts-test.yaml").read_text()))
    assert alerts == tested


@pytest.fixture
def hasty(tmp_path):
    """The rules, with every wait cut to a second."""
    path = tmp_path / "alerts.yaml"
    path.write_text(re.sub(r"for: \d+m", "for: 1s", RULES.read_text()))
    return path


@pytest.fixture
def ads():
    """A control plane that a test plays itself."""
    with ScriptedAds() as running:
        yield running


@pytest.fixture
def client(ads):
    """A process of the mesh with a metrics endpoint; the address of that."""
    bootstrap = {
        "xds_servers": [{"server_uri": ads.address, "channel_creds": [{"type": "insecure"}]}],
        "node": {"id": "web-1"},
    }
    port = free_port()
    own = {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap), "MESHSDK_METRICS_PORT": str(port)}
    process = subprocess.Popen([sys.executable, "-c", CLIENT], env={**os.environ, **own}, cwd=ROOT)
    yield f"127.0.0.1:{port}"
    process.kill()
    process.wait(PATIENCE)


@pytest.fixture
def prometheus(client, hasty):
    """A Prometheus that scrapes the process."""
    server = Prometheus({"web": client}, [hasty])
    try:
        yield server.start()
    finally:
        server.remove()


def test_a_refused_and_a_lost_configuration(ads, prometheus):
    """A NACK fires its alert and the next good version ends it; without a control plane the stale one fires."""
    stream = ads.stream()
    stream.answer_all(service("orders", 1))
    until(lambda: any(one.type_url == EDS for one in stream.requests), "the client has its routes")
    bad = route_pb2.RouteConfiguration(name="orders")
    bad.virtual_hosts.add(name="orders", domains=["*a*b*"])
    stream.respond(RDS, pack(bad), names=("orders",), version="2")
    labels = until(lambda: prometheus.firing().get("MeshConfigurationRefused"), "a NACK is an alert")
    assert labels["grpc_xds_resource_type"] == RDS.removeprefix("type.googleapis.com/")
    assert labels["job"] == "web"
    stream.respond(RDS, route("orders"), names=("orders",), version="3")
    until(lambda: "MeshConfigurationRefused" not in prometheus.firing(), "a good version ends it")
    ads.stop()
    until(lambda: "MeshConfigurationStale" in prometheus.firing(), "no control plane is an alert")


def test_the_dashboard():
    """Every query of the Grafana dashboard is one that a real Prometheus takes."""
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "meshsdk.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) > 20
    server = Prometheus({}, [])
    try:
        server.start()
        for query in queries:
            plain = query.replace("$__rate_interval", "1m").replace("$job", ".*").replace("$target", ".*")
            assert server.takes(plain), query
    finally:
        server.remove()
