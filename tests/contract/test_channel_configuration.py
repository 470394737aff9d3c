"""What configuration means to calls: none yet, gone, broken, changed under load. Mesh channels only."""

from __future__ import annotations

import grpc
import pytest

import meshsdk
from meshsdk.model.endpoints import Endpoint, Health
from meshsdk.model.matching import PathKind, PathMatch, RouteMatch
from meshsdk.model.resources import NoForward, Route
from meshsdk.model.snapshot import BrokenCluster, Snapshot, Unresolvable
from tests.contract.channel_backend import METHODS, SHAPES, Backend
from tests.contract.channel_callers import PATIENCE, AioCaller, SyncCaller
from tests.contract.channels import TARGET, resolved, route, snapshot, snapshot_of
from tests.contract.test_channel_connecting import free_port, wait

pytestmark = pytest.mark.parametrize("path", ["mesh"])


@pytest.fixture(params=SHAPES)
def shape(request) -> str:
    """Each of the four call shapes."""
    return request.param


@pytest.mark.parametrize("ready", [None, False, True])
def test_no_configuration(lab, shape, ready):
    """Without configuration a call waits, and ends UNAVAILABLE at its deadline, telling what it waited for."""
    ended = lab.open("", first=None).ask(shape, b"say:x", timeout=0.05, wait_for_ready=ready)
    assert ended.code is grpc.StatusCode.UNAVAILABLE
    assert ended.details == ("xds:///orders: no configuration yet: waiting for listener orders from scripted.server:1")
    assert (ended.answers, ended.initial, ended.trailing) == ([], (), ())


def test_configuration_that_comes(lab, backend, shape):
    """A call that began without configuration is made when it comes."""
    caller = lab.open("", first=None)
    running = caller.start(shape, b"who:", timeout=PATIENCE)
    wait(lambda: lab.source.watchers)
    lab.source.push(snapshot(backend.address))
    assert running.end().answers == [b"a"]


def test_control_plane_that_is_away(lab, loop_thread, shape):
    """Over a real client whose server does not answer, the error names the resource and the server."""
    server = f"127.0.0.1:{free_port()}"
    servers = [{"server_uri": server, "channel_creds": [{"type": "insecure"}]}]
    with meshsdk.Mesh({"xds_servers": servers, "node": {"id": "n"}}) as mesh:
        if lab.facade == "sync":
            caller = SyncCaller(mesh.channel(TARGET))
        else:

            async def make():
                return mesh.aio_channel(TARGET)

            caller = AioCaller(loop_thread.run(make()), loop_thread)
        ended = caller.ask(shape, b"say:x", timeout=0.3)
        caller.close()
    assert ended.code is grpc.StatusCode.UNAVAILABLE
    assert server in ended.details
    assert "orders" in ended.details.removeprefix(TARGET)


def test_listener_that_is_removed(lab, backend, shape):
    """When the listener goes, new calls fail UNAVAILABLE in its words, a running one finishes; it may come back."""
    caller = lab.open(backend.address)
    running = caller.start(shape, b"hang:0")
    assert backend.script.began.acquire(timeout=PATIENCE)
    lab.source.push(Unresolvable(TARGET, "listener orders does not exist, says scripted.server:1"))
    wait(lambda: caller.ask(shape, b"say:x").code is grpc.StatusCode.UNAVAILABLE)
    ended = caller.ask(shape, b"say:x")
    assert ended.details == "xds:///orders: listener orders does not exist, says scripted.server:1"
    backend.script.release.set()
    assert running.end().answers == [b"released"]
    lab.source.push(snapshot(backend.address))
    assert caller.ask(shape, b"say:y", wait_for_ready=True).answers == [b"y"]


def refused(routes, *clusters) -> Snapshot:
    """A configuration in which the calls of the tests meet `routes`."""
    return snapshot_of(routes, *clusters)


OTHER = RouteMatch(PathMatch(PathKind.EXACT, "/other.Service/Method"))
ANY = RouteMatch(PathMatch(PathKind.PREFIX, "/"))
REFUSALS = {
    "no route": (lambda: snapshot_of([route("c", match=OTHER)], resolved("c", [])), "no route matches"),
    "no forwarding": (
        lambda: snapshot_of([Route("r", ANY, NoForward("route r: redirect is not for clients"))]),
        "redirect is not for clients",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("ready", [None, True])
def test_configuration_that_says_no(lab, shape, case, ready):
    """A call that the routes refuse fails at once, even one that waits for ready (gRFC A28)."""
    first, expected = REFUSALS[case][0](), REFUSALS[case][1]
    ended = lab.open("", first=first).ask(shape, b"say:x", wait_for_ready=ready, timeout=60)
    assert ended.code is grpc.StatusCode.UNAVAILABLE
    assert expected in ended.details


def test_broken_cluster(lab, backend, shape):
    """Calls routed to a cluster that cannot be used fail in its words; calls of other methods pass (gRFC A74)."""
    good = route("c", match=RouteMatch(PathMatch(PathKind.EXACT, METHODS["unary_unary"])))
    first = snapshot_of([good, route("bad")], resolved("c", [backend.address]))
    broken = BrokenCluster("bad", "cluster bad: lb policy unknown, says scripted.server:1")
    first = Snapshot(first.target, first.listener, first.virtual_host, {**first.clusters, "bad": broken})
    caller = lab.open("", first=first)
    ended = caller.ask(shape, b"who:")
    if shape == "unary_unary":
        assert ended.answers == [b"a"]
    else:
        assert (ended.code, ended.details) == (grpc.StatusCode.UNAVAILABLE, f"{TARGET}: {broken.problem}")


def test_cluster_without_endpoints(lab, backend, shape):
    """A cluster without endpoints fails calls; those that wait for ready get the first endpoint that comes."""
    caller = lab.open("", first=snapshot())
    assert caller.ask(shape, b"say:x").code is grpc.StatusCode.UNAVAILABLE
    running = caller.start(shape, b"who:", wait_for_ready=True, timeout=PATIENCE)
    lab.source.push(snapshot(backend.address))
    assert running.end().answers == [b"a"]


def test_unhealthy_endpoints_get_no_calls(lab, backend, shape):
    """An endpoint that is draining or unhealthy in the configuration gets no new calls."""
    with Backend("b") as draining, Backend("c") as sick:
        endpoints = (
            Endpoint(backend.address),
            Endpoint(draining.address, health=Health.DRAINING),
            Endpoint(sick.address, health=Health.UNHEALTHY),
        )
        caller = lab.open("", first=snapshot(*endpoints))
        assert {caller.ask(shape, b"who:").answers[0] for _ in range(20)} == {b"a"}


def test_many_changes_under_calls(lab, backend, shape):
    """Configuration that changes with every call loses none and makes none twice."""
    with Backend("b") as other:
        both, one = snapshot(backend.address, other.address), snapshot(other.address)
        caller = lab.open("", first=both)
        for number in range(40):
            lab.source.push((both, one)[number % 2])
            assert caller.ask(shape, f"id:{number}".encode()).code is grpc.StatusCode.OK
        executed = sorted(backend.executed + other.executed)
        assert executed == sorted(f"id:{number}" for number in range(40))
