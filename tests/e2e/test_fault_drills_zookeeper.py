"""Fault drills with ZooKeeper: sessions of servers and of watchers expire.

No call fails in any of them, and at the end every client uses what is registered.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.control_planes import Served
from tests.e2e.drills import LEASE, Drill, frozen, truth_of_zookeeper
from tests.e2e.processes import until
from tests.e2e.relays import Relay
from tests.servers.zookeeper import ZooKeeperServer

OURS = ("sync=xds:///orders", "aio=xds:///orders")


class ZooKeeperDrill(Drill):
    """A drill with ZooKeeper, and a way to it that can be cut."""

    def __init__(self, stack: ExitStack, folder: Path, zookeeper: ZooKeeperServer, chroot: str) -> None:
        self.zookeeper = zookeeper
        self.relay = stack.enter_context(Relay(zookeeper.address))
        rest = f"{chroot}?session_timeout={LEASE}&timeout=1"
        self.relayed = f"zookeeper://{self.relay.address}{rest}"
        url = f"zookeeper://{zookeeper.address}{rest}"
        super().__init__(stack, folder, url, lambda: truth_of_zookeeper(zookeeper.address, chroot))

    def fed(self, url: str = "") -> Served:
        """Starts a control plane that follows ZooKeeper."""
        return self.plane("--registry", f"main={url or self.url}")


@pytest.fixture(scope="module")
def zookeeper() -> Iterator[ZooKeeperServer]:
    """A server for the module."""
    server = ZooKeeperServer().start()
    yield server
    server.remove()


@pytest.fixture
def drill(tmp_path: Path, zookeeper: ZooKeeperServer, request: pytest.FixtureRequest) -> Iterator[ZooKeeperDrill]:
    """A drill without servers and clients, at a place of its own."""
    with ExitStack() as stack:
        yield ZooKeeperDrill(stack, tmp_path, zookeeper, f"/{request.node.name}")
    zookeeper.thaw()


def test_sessions_of_servers_expire(drill: ZooKeeperDrill) -> None:
    """First those of all servers, which cannot reach ZooKeeper; then everybody's, as ZooKeeper is frozen for longer."""
    plane, _ = drill.start(drill.fed, lambda: drill.serve(3, drill.relayed))
    drill.start(drill.direct, lambda: drill.through(plane))
    drill.check_truth()
    drill.relay.refuse()
    until(lambda: drill.truth() == {}, "all sessions have expired")
    drill.goes_on()
    drill.relay.heal()
    drill.check_truth()

    drill.zookeeper.freeze()
    time.sleep(2 * LEASE)
    drill.goes_on()
    drill.zookeeper.thaw()  # those sessions that are heard of before it looks for silent ones live on
    drill.churn()
    drill.check_truth()
    drill.check_accounts()


def test_sessions_of_watchers_expire_during_churn(drill: ZooKeeperDrill) -> None:
    """A client's connection says nothing any more, a control plane is frozen; servers come and go meanwhile."""
    plane, _ = drill.start(drill.fed, lambda: drill.serve(3))
    drill.check_truth()
    others = drill.zookeeper.sessions()
    slow, _ = drill.start(drill.fed, lambda: drill.direct(drill.relayed))
    watchers = drill.zookeeper.sessions() - others
    assert len(watchers) == 2
    drill.start(lambda: drill.through(slow, callers=OURS), lambda: drill.through(plane))
    drill.check_truth()
    with frozen(slow.process):
        drill.relay.cut()
        drill.churn()
        until(lambda: not watchers & drill.zookeeper.sessions(), "the sessions of the watchers expire")
        drill.churn()
        drill.relay.heal()
    drill.check_truth()
    drill.check_accounts()
