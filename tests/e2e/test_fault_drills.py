"""Fault drills with etcd: killed, frozen and compacted during churn, out of reach, and everything away at once.

No call fails in any of them, and at the end every client uses what is registered.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from meshsdk.discovery.etcd.client import EtcdClient
from meshsdk.discovery.etcd.place import Place
from tests.e2e.control_planes import Served
from tests.e2e.drills import LEASE, Drill, truth_of_etcd
from tests.e2e.processes import until
from tests.e2e.relays import Relay
from tests.servers.etcd import EtcdServer

OURS = ("sync=xds:///orders", "aio=xds:///orders")  # those that are told of a drain by the server itself
LAPSE = 2 * LEASE + 1.0  # seconds until every lease that is not renewed has lapsed


class EtcdDrill(Drill):
    """A drill with etcd, and a way to it that can be cut."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.etcd = EtcdServer()
        stack.callback(self.etcd.remove)
        self.etcd.start()
        self.relay = stack.enter_context(Relay(self.etcd.address))
        self.relayed = f"etcd://{self.relay.address}?tls=0&timeout=1"
        url = f"etcd://{self.etcd.address}?tls=0&timeout=1"
        super().__init__(stack, folder, url, lambda: truth_of_etcd(self.etcd.address))

    def fed(self, url: str = "", xds: str = "") -> Served:
        """Starts a control plane that follows etcd as a registry."""
        return self.plane("--registry", f"main={url or self.url}", xds=xds)

    def replica(self, xds: str = "") -> Served:
        """Starts a control plane that has etcd as its store, and so what is registered there."""
        return self.plane("--store", f"{self.url}&grace={2 * LEASE}", xds=xds)

    def forget(self) -> None:
        """Has etcd forget all its past."""
        client = EtcdClient(Place((self.etcd.address,)))
        try:
            client.compact(client.list("/").revision)
        finally:
            client.close()


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[EtcdDrill]:
    """A drill without servers and clients."""
    with ExitStack() as stack:
        yield EtcdDrill(stack, tmp_path)


def test_etcd_killed_and_back_during_churn(drill: EtcdDrill) -> None:
    """Servers come and go before, while and after etcd is away; one that drains can tell nobody but its callers."""
    first, second, _ = drill.start(drill.fed, drill.fed, lambda: drill.serve(4))
    drill.start(drill.direct, lambda: drill.through(first, second, callers=OURS))
    drill.check_truth()
    drill.churn()
    drill.etcd.kill()
    drill.churn()
    drill.goes_on()
    drill.etcd.start()
    drill.churn()
    drill.check_truth()
    drill.check_accounts()


def test_etcd_frozen_for_longer_than_leases_last(drill: EtcdDrill) -> None:
    """Thawed, etcd ends all leases; servers register again by themselves, and none is missed by a client."""
    first, second, _ = drill.start(drill.fed, drill.replica, lambda: drill.serve(4))
    drill.start(drill.direct, lambda: drill.through(first), lambda: drill.through(second))
    drill.check_truth()
    drill.churn()
    drill.etcd.freeze()
    time.sleep(LAPSE)
    drill.goes_on()
    drill.etcd.thaw()
    drill.churn()
    drill.check_truth()
    drill.check_accounts()


def test_servers_that_cannot_reach_etcd_for_longer_than_leases_last(drill: EtcdDrill) -> None:
    """All leases lapse while etcd is well: it says that nobody is there, and everybody is."""
    plane, _ = drill.start(drill.fed, lambda: drill.serve(3, drill.relayed))
    drill.start(drill.direct, lambda: drill.through(plane))
    drill.check_truth()
    drill.relay.cut()
    until(lambda: drill.truth() == {}, "all leases have lapsed")
    drill.goes_on()
    drill.relay.heal()
    drill.check_truth()
    drill.check_accounts()


def test_watchers_cut_off_silently_while_etcd_forgets(drill: EtcdDrill) -> None:
    """Their connections say nothing any more; meanwhile servers come and go, and etcd forgets how."""
    blind, plane, _ = drill.start(lambda: drill.fed(drill.relayed), drill.fed, lambda: drill.serve(4))
    drill.start(
        lambda: drill.direct(drill.relayed),
        lambda: drill.through(blind, callers=OURS),
        lambda: drill.through(plane),
    )
    drill.check_truth()
    drill.relay.cut()
    drill.churn()
    drill.churn()
    drill.forget()
    drill.relay.heal()
    drill.check_truth()
    drill.check_accounts()


def test_a_control_plane_killed_under_load(drill: EtcdDrill) -> None:
    """One of two over one etcd dies with clients on both; servers come and go; then it is back."""
    first, second, _ = drill.start(drill.replica, drill.replica, lambda: drill.serve(3))
    drill.start(lambda: drill.through(first, second), lambda: drill.through(second, first))
    drill.check_truth()
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.stop()
    drill.churn()
    drill.check_truth()
    drill.replica(xds=first.xds)
    drill.churn()
    drill.check_truth()
    drill.check_accounts()


def test_everything_away_and_back(drill: EtcdDrill) -> None:
    """etcd and both control planes are killed, for longer than leases last, and come back in turn."""
    first, second, _ = drill.start(drill.fed, drill.replica, lambda: drill.serve(3))
    drill.start(drill.direct, lambda: drill.through(first, second), lambda: drill.through(second, first))
    drill.check_truth()
    for plane in (first, second):
        os.kill(plane.process.pid, signal.SIGKILL)
        plane.process.stop()
    drill.etcd.kill()
    time.sleep(LAPSE)
    drill.goes_on()
    drill.start(lambda: drill.fed(xds=first.xds), drill.etcd.start)
    drill.replica(xds=second.xds)
    drill.churn()
    drill.check_truth()
    drill.check_accounts()
