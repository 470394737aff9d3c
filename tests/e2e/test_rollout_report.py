"""`meshctl rollout-report` over real processes: our SDK's counts, stock gRPC's, and who is missing in them."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.control_planes import Served, meshctl
from tests.e2e.peers.grpc_process import bootstrap, stock_grpcio
from tests.e2e.processes import Process, python, until

ORDERS = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: orders}}
spec:
  hosts: [orders]
  ports: [{{number: {port}, name: grpc}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
"""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a backend."""
    with python("tests/e2e/peers/backend.py", "a") as backend:
        yield json.loads(backend.line())["a"]


@pytest.fixture
def config(tmp_path: Path, port: int) -> Path:
    """A configuration directory with one service."""
    (tmp_path / "orders.yaml").write_text(ORDERS.format(port=port))
    return tmp_path


def client(plane: Served, flavour: str, node: str) -> Process:
    """A process of our SDK."""
    environment = bootstrap(int(plane.xds.rpartition(":")[2]), node)
    return Process(sys.executable, "-m", "tests.e2e.peers.counted_client", flavour, env=environment)


def end(process: Process) -> None:
    """Lets a client end by itself, as at the end of a program."""
    process._child.stdin.close()
    assert process._child.wait(30) == 0, process.errors


def report(plane: Served, app: str = "orders", *, since: float) -> dict:
    """The report of one control plane."""
    return plane.over_http(f"/v1/rollout-report?app={app}&since={since:.0f}")


def started() -> float:
    """A whole second after which everything that is to be counted happens."""
    time.sleep(1.0 - time.time() % 1.0)
    return time.time() // 1


def test_two_clients_of_two_control_planes(config: Path) -> None:
    """Clients that end as programs do are counted in full; reports of two control planes make one statement."""
    with Served(config) as one, Served(config) as two:
        since = started()
        with client(one, "sync", "web-1") as web, client(two, "aio", "web-2") as shop:
            assert json.loads(web.ask("xds:///orders 60")) == {"OK": 60}
            assert json.loads(shop.ask("xds:///orders 40")) == {"OK": 40}
            end(web)
            end(shop)
        servers = ("--server", one.admin, "--server", two.admin)
        began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since))
        asked = meshctl("rollout-report", "orders", "--since", began, "-o", "json", *servers)
        assert asked.returncode == 0, asked.stderr
        found = json.loads(asked.stdout)
        assert found["statement"].startswith(
            "zero failed: 100 calls through the mesh to orders from 2 clients between "
        )
        assert found["statement"].endswith(": 0 failed, 0 cancelled, 0 retried, 0 moved, 0 doubled")
        assert (found["complete"], found["zero_failed"], found["doubts"]) == (True, True, [])
        assert {row["client"]: row["calls"] for row in found["clients"]} == {"web-1": 60, "web-2": 40}
        status = one.ask("status").stdout
        assert "traffic of the last minute, as clients report it:\n" in status
        assert re.search(r"^orders +1 +60 +\d+\.\d +100 % +0 +0 +0$", status, re.MULTILINE), status
        table = one.ask("rollout-report", "--since", "1d").stdout.splitlines()
        assert table[0].split()[:4] == ["CLIENT", "CLUSTER", "CALLS", "FAILED"]
        assert table[1].split()[:3] == ["all", "60", "0"]
        assert "This is not all: nothing is known of calls before" in table[4]
        refused = one.ask("rollout-report", "--since", "1m", "--until", "2m")
        assert (refused.returncode, "is not before" in refused.stderr) == (1, True)


def test_failures_and_a_killed_client(config: Path) -> None:
    """What failed is told with client, service and status; a client that was killed is told to be missing."""
    with Served(config) as plane:
        since = started()
        with client(plane, "sync", "web-1") as web, client(plane, "sync", "killed") as killed:
            assert json.loads(web.ask("xds:///orders 5")) == {"OK": 5}
            assert json.loads(web.ask("xds:///nowhere 3")) == {"UNAVAILABLE": 3}
            assert json.loads(killed.ask("xds:///orders 5")) == {"OK": 5}
            end(web)
            until(lambda: len(plane.over_http("/v1/clients")) == 1, "only the other client is left")
            os.kill(killed.pid, signal.SIGKILL)
        until(lambda: report(plane, "", since=since)["doubts"], "it is missed")
        found = report(plane, "", since=since)
        assert (found["total"]["calls"], found["total"]["failed"], found["zero_failed"]) == (8, 3, False)
        assert "failed: 3 of web-1 to nowhere (3 UNAVAILABLE)" in found["statement"]
        (doubt,) = found["doubts"]
        assert doubt.startswith("killed ")
        assert report(plane, since=since)["zero_failed"]


def test_control_plane_that_was_away(config: Path) -> None:
    """Calls made while the control plane is down are told to the next one, which says that it knows of none before."""
    first = Served(config)
    with first, client(first, "aio", "web-1") as web:
        assert json.loads(web.ask("xds:///orders 5")) == {"OK": 5}
        first.process.stop()
        assert json.loads(web.ask("xds:///orders 7")) == {"OK": 7}
        with Served(config, xds=first.xds) as second:
            until(lambda: second.over_http("/v1/clients"), "the client is back")
            assert json.loads(web.ask("xds:///orders 4")) == {"OK": 4}
            end(web)
            found = report(second, since=time.time() - 60)
            assert 11 <= found["total"]["calls"] <= 16  # the first five were told to the first, if it asked in time
            assert [text.partition(" before ")[0] for text in found["doubts"]] == ["nothing is known of calls"]


def test_stock_grpc(config: Path) -> None:
    """Stock gRPC's own load reports are counted where all clients are asked for them, and it is missed where not."""
    with Served(config, "--load-reports", "all") as asking, Served(config) as silent:
        since = started()
        peers = [stock_grpcio("sync", int(plane.xds.rpartition(":")[2]), "stock") for plane in (asking, silent)]
        try:
            for peer in peers:
                assert peer.call("orders", 20)[0].total() == 20
            # It reports at the interval, so a part may come first.
            until(lambda: report(asking, since=since)["total"]["calls"] == 20, "its report")
            found = report(asking, since=since)
            assert (found["total"]["succeeded"], found["total"]["failed"], found["doubts"]) == (20, 0, [])
            assert [(row["client"], row["cluster"]) for row in found["clients"]] == [("stock", "orders")]
            missed = until(lambda: report(silent, since=since)["doubts"], "it is missed")
            assert missed[0].startswith("stock (gRPC")
        finally:
            for peer in peers:
                peer.stop()
