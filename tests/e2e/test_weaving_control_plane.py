"""`meshsdk run` with a real `meshctl serve`: unchanged programs find each other, and are switched."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from meshsdk.discovery.opening import open_registry
from meshsdk.model.instance import InstanceState
from tests.contract.registries.follower import Follower
from tests.e2e.control_planes import Served
from tests.e2e.processes import Process, until
from tests.e2e.test_weaving_clients import HOST, RUN, Server, each

SWITCH = """\
apiVersion: meshsdk.io/v1alpha1
kind: TrafficSwitch
metadata: {{name: turned}}
spec: {{app: {app}, {sides}}}
"""


@pytest.fixture
def ending() -> Iterator[ExitStack]:
    """Closes what a test opened, the last first."""
    with ExitStack() as stack:
        yield stack


def woven(ending: ExitStack, served: Served, app: str, *words: str) -> Process:
    """Starts a program under `meshsdk run`, as an instance of an application."""
    server = {"server_uri": served.xds, "channel_creds": [{"type": "insecure"}]}
    bootstrap: dict[str, Any] = {"xds_servers": [server], "node": {"id": f"{app}-1", "cluster": app}}
    process = Process(
        *(sys.executable, "-c", RUN, "run", *words), env={"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)}
    )
    return ending.enter_context(process)


def test_unchanged_programs_find_each_other_and_are_switched(ending, tmp_path):
    """The server registers as its node's application, the client calls it by that name; a TrafficSwitch turns both."""
    served = ending.enter_context(Served(tmp_path))
    direct = Server("direct")
    ending.callback(direct.stop)
    server = woven(ending, served, HOST, "tests/e2e/unwoven/server_sync.py", "default")
    server.line()
    client = woven(ending, served, "web", "tests/e2e/unwoven/client_sync.py", f"{HOST}:{direct.port}")
    assert json.loads(client.line())["name"] == "__main__"
    until(lambda: "direct" not in each(client), "the application is a service of the mesh")
    assert served.apply(SWITCH.format(app="web", sides='client: "off"')) == 200
    until(lambda: each(client) == {"direct"}, "the client is off")
    assert served.ask("delete", "trafficswitch", "turned").returncode == 0
    until(lambda: "direct" not in each(client), "the client is on")

    assert served.apply(SWITCH.format(app=HOST, sides='server: "off"')) == 200
    registry = open_registry(f"grpc://{served.xds}", "the test")
    ending.callback(registry.close)
    follower = Follower(registry, HOST)

    def turned() -> bool:
        return any(
            instance.state is InstanceState.ONLINE and dict(instance.labels) == {"meshsdk.io/interception": "off"}
            for instance in follower.apps.get(HOST, {}).values()
        )

    follower.wait(turned, "the server is online again, with interception off")
