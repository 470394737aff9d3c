"""Warm-up: an instance that has just come online gets few calls, and more by the curve, however it is configured."""

from __future__ import annotations

import http.client
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import pytest

import meshsdk
from meshsdk.model.instance import InstanceState
from tests.e2e.lifecycles import Registered, registered
from tests.e2e.processes import until
from tests.e2e.test_serve import CALL

# (age / 4 s) ** 2, and a tenth at least: beside two warm ones that is 5% at first, 11% at half time, then a third.
WINDOW, AGGRESSION = 4, 0.5
RULE = f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: orders}}
spec:
  host: orders
  trafficPolicy:
    loadBalancer: {{simple: ROUND_ROBIN, warmup: {{duration: {WINDOW}s, aggression: {AGGRESSION}}}}}
"""


@pytest.fixture
def world(tmp_path) -> Iterator[Registered]:
    """A registry and what runs with it."""
    with registered(tmp_path) as running:
        yield running


def body(address: str) -> str:
    """What the probe of a process says."""
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", "/livez")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def share_of(channel: grpc.Channel, port: int, calls: int = 100) -> float:
    """The share of the next calls that a server answers."""
    get = channel.unary_unary(CALL)
    answers = Counter(get(b"1", timeout=10) for _ in range(calls))
    return answers[str(port).encode()] / calls


def check_warms_up(channel: grpc.Channel, warm: list[int], start) -> None:
    """Starts one more server and follows its share of the calls."""
    until(lambda: all(share_of(channel, port, 20) > 0.2 for port in warm), "the others take calls")
    begun = time.time()
    until(lambda: time.time() > begun + WINDOW, "the others are warm")
    fresh = start()
    first = until(lambda: share_of(channel, fresh), "it takes calls")
    assert first < 0.2
    until(lambda: share_of(channel, fresh) > 0.25, "it has warmed up")


def test_an_instance_warms_up_straight_from_the_registry(world):
    """`mesh:///orders?warmup=...`: its `started_at` in the registry is when it came online, from there it grows."""
    warm = [world.start(answer="port") for _ in range(2)]
    late = world.start(wait=False, answer="port", serve={"ready": False})  # its process is old when it goes online
    until(lambda: world.state(late.address) is InstanceState.STARTING, "it is registered")

    def start() -> int:
        late.process.say("ready")
        return late.port

    target = f"mesh:///orders?warmup={WINDOW}&aggression={AGGRESSION}"
    with meshsdk.Mesh(world.bootstrap) as mesh, mesh.channel(target) as channel:
        check_warms_up(channel, [one.port for one in warm], start)


def test_an_instance_warms_up_through_the_control_plane(world, tmp_path):
    """A DestinationRule's `warmup` and the instances' `started_at` reach the SDK over xDS."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "rule.yaml").write_text(RULE)
    with ExitStack() as stack:
        plane = world.control_plane(tmp_path / "config")
        server = {"server_uri": plane.xds, "channel_creds": [{"type": "insecure"}]}
        bootstrap = {"xds_servers": [server], "node": {"id": "test"}}
        environment = {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)}

        def start() -> int:
            return world.start(wait=False, environment=environment, answer="port").port

        warm = [start(), start()]
        mesh = stack.enter_context(meshsdk.Mesh(bootstrap))
        channel = stack.enter_context(mesh.channel("xds:///orders"))
        check_warms_up(channel, warm, start)


def test_an_instance_waits_for_what_it_depends_on(world, tmp_path):
    """`depends_on`: STARTING while the control plane knows no such service, ONLINE once one has registered."""
    (tmp_path / "config").mkdir()
    plane = world.control_plane(tmp_path / "config")
    server = {"server_uri": plane.xds, "channel_creds": [{"type": "insecure"}]}
    bootstrap = {"xds_servers": [server], "node": {"id": "test"}}
    environment = {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)}
    options = {"depends_on": ["xds:///payments"], "health_port": 0}
    waiting = world.start(wait=False, environment=environment, serve=options)
    until(lambda: "payments" in json.loads(body(waiting.health))["waiting_for"], "it says what it waits for")
    assert json.loads(body(waiting.health))["state"] == "STARTING"
    world.start(wait=False, environment=environment, app="payments")
    until(lambda: json.loads(body(waiting.health))["state"] == "ONLINE", "it is online")
