"""Metrics that are read from what a mesh holds, on both façades alike: endpoints, calls by cluster, breakers."""

from __future__ import annotations

import grpc
import pytest

from meshsdk.channel import mesh_metrics
from meshsdk.model.policy import RetryPolicy
from tests.contract.channel_callers import PATIENCE
from tests.contract.channels import TARGET, resolved, route, snapshot, snapshot_of
from tests.contract.test_telemetry_calls import limited, until

POLICY = RetryPolicy(frozenset({"UNAVAILABLE"}), num_retries=2, base_interval=0.001, max_interval=0.002)


class NoClient:
    """An XdsClient that watches nothing."""

    running = None


class Metered:
    """The mesh of a lab, as metrics see one."""

    closed = False
    client = NoClient()

    def __init__(self, lab) -> None:
        self._lab = lab

    def scopes(self):
        """The lab's only one."""
        return self._lab.scopes


@pytest.fixture
def lab(mesh_lab, monkeypatch):
    """A lab whose mesh is read, with sums of its own."""
    mesh = Metered(mesh_lab)
    monkeypatch.setattr(mesh_metrics, "_READING", mesh_metrics._Reading())
    monkeypatch.setattr(mesh_metrics, "_meshes", {mesh})
    return mesh_lab


def read(name: str) -> dict[tuple[str, ...], float]:
    """A metric's values by the values of its labels."""
    family = next(one for one in mesh_metrics.families() if one.name == f"meshsdk.{name}")
    return {tuple(point.labels.values()): point.value for point in family.points}


def test_endpoints(lab, backend):
    """Endpoints count by the state of their connection; none of a state is 0, not missing."""
    lab.open(backend.address).ask("unary_unary", b"who:")
    states = {"idle": 0, "connecting": 0, "ready": 1, "failed": 0}
    until(lambda: read("cluster.endpoints") == {(TARGET, "c", state): count for state, count in states.items()})
    assert read("cluster.ejected") == {(TARGET, "c"): 0}


def test_calls(lab, backend):
    """Calls count where they end, as in load reports."""
    caller = lab.open(backend.address, first=snapshot(backend.address, retry=POLICY))
    for script in (b"who:", b"fail:1", b"abort:"):
        caller.ask("unary_unary", script)
    assert read("cluster.calls.succeeded") == {("c", ""): 2}
    assert read("cluster.calls.errors") == {("c", ""): 1}
    assert read("cluster.calls.retried") == {("c", ""): 1}
    assert read("cluster.running") == {("c", ""): 0}


def test_calls_of_a_cluster_that_has_gone(lab, backend):
    """A counter does not fall when its cluster goes, nor when it comes back."""
    caller = lab.open(backend.address)
    caller.ask("unary_unary", b"who:")
    assert read("cluster.calls.succeeded") == {("c", ""): 1}
    for cluster in ("d", "c"):
        lab.source.push(snapshot_of([route(cluster)], resolved(cluster, [backend.address])))
        until(lambda cluster=cluster: list(read("cluster.ejected")) == [(TARGET, cluster)])
        caller.ask("unary_unary", b"who:")
        found = read("cluster.calls.succeeded")
    assert found == {("c", ""): 2, ("d", ""): 1}


def test_what_a_breaker_refused_stays_counted(lab, backend):
    """Its cluster goes, and the breaker with it: the counter does not fall."""
    caller = lab.open("", first=limited(backend.address, 1))
    running = caller.start("unary_unary", b"hang:0")
    assert backend.script.began.acquire(timeout=PATIENCE)
    assert caller.ask("unary_unary", b"who:").code is grpc.StatusCode.UNAVAILABLE
    refused = read("breaker.refused")
    backend.script.release.set()
    running.end()
    del running
    lab.source.push(snapshot_of([route("d")], resolved("d", [backend.address])))
    until(lambda: list(read("cluster.ejected")) == [(TARGET, "d")] and not read("breaker.open"))
    assert read("breaker.refused") == refused


def test_breakers(lab, backend):
    """A breaker tells whether it is open, what runs, and what it refused."""
    caller = lab.open("", first=limited(backend.address, 1))
    running = caller.start("unary_unary", b"hang:0")
    assert backend.script.began.acquire(timeout=PATIENCE)
    assert read("breaker.open") == {("c", "default"): 1}
    assert read("breaker.running") == {("c", "default"): 1}
    assert caller.ask("unary_unary", b"who:").code is grpc.StatusCode.UNAVAILABLE
    assert read("breaker.refused")["c", "default"] >= 1
    backend.script.release.set()
    running.end()
    until(lambda: read("breaker.open") == {("c", "default"): 0})
