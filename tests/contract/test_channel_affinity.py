"""Session affinity by cookie over real connections (gRFC A55, A60). Mesh channels only."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace

import grpc
import pytest

from meshsdk.model.endpoints import Endpoint, EndpointMap, Health
from meshsdk.model.filters import NamedFilter, StatefulSession
from meshsdk.model.policy import LbConfig, OutlierDetection
from meshsdk.model.resources import Drop, Locality, LocalityEndpoints
from meshsdk.model.snapshot import Snapshot
from tests.contract.channel_backend import SHAPES, Backend
from tests.contract.channels import resolved, route, snapshot_of
from tests.contract.outlying import FailingBackend, balancer, configuration, ejected, opened
from tests.contract.test_channel_connecting import wait

FILTER = "envoy.filters.http.stateful_session"
Trio = tuple[FailingBackend, FailingBackend, FailingBackend]


@pytest.fixture
def trio() -> Iterator[Trio]:
    """Three backends of the test's own."""
    with FailingBackend("a") as a, FailingBackend("b") as b, FailingBackend("c") as c:
        yield a, b, c


def session(first: Snapshot, *, strict: bool = False) -> Snapshot:
    """The configuration with a session by the cookie `sid` on top."""
    filters = (NamedFilter(FILTER, StatefulSession("sid", ttl=60.0, strict=strict)),)
    return replace(first, listener=replace(first.listener, http_filters=filters))


def cookie(value: str) -> list[tuple[str, str]]:
    """The metadata of a call with a session."""
    return [("cookie", f"sid={b64encode(value.encode()).decode()}")]


def told(ended) -> list[str]:
    """The cookies that an answer sets."""
    assert ended.code is grpc.StatusCode.OK, ended.details
    return [value for key, value in ended.initial if key == "set-cookie"]


def addresses(backends) -> list[str]:
    """Where they serve."""
    return [backend.address for backend in backends]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_session_stays_where_it_began(mesh_lab, trio: Trio, shape: str) -> None:
    """The first answer sets a cookie; calls that bring it all go to the same endpoint, and are told nothing new."""
    caller = opened(mesh_lab, session(configuration(addresses(trio))))
    first = caller.ask(shape, b"who")
    (line,) = told(first)
    assert line.endswith("; Max-Age=60; Path=/; HttpOnly")
    brought = [("cookie", f"other=1; {line.partition(';')[0]}")]
    for _ in range(6):
        again = caller.ask(shape, b"who", metadata=brought)
        assert again.answers == first.answers
        assert told(again) == []


def test_calls_without_a_session_go_anywhere(mesh_lab, trio: Trio) -> None:
    """Each is told where it was."""
    caller = opened(mesh_lab, session(configuration(addresses(trio))))
    ended = [caller.ask("unary_unary", b"who") for _ in range(9)]
    assert {one.answers[0] for one in ended} == {b"a", b"b", b"c"}
    assert len({told(one)[0] for one in ended}) == 3


def test_an_endpoint_that_is_gone_gives_way(mesh_lab, trio: Trio) -> None:
    """A cookie that names no endpoint of the cluster is replaced."""
    caller = opened(mesh_lab, session(configuration(addresses(trio))))
    ended = caller.ask("unary_unary", b"who", metadata=cookie("127.0.0.1:1"))
    assert len(told(ended)) == 1


def test_a_strict_session_does_not_give_way(mesh_lab, trio: Trio) -> None:
    """Its call fails UNAVAILABLE, in words that name the endpoint."""
    caller = opened(mesh_lab, session(configuration(addresses(trio)), strict=True))
    ended = caller.ask("unary_unary", b"who", metadata=cookie("127.0.0.1:1"))
    assert ended.code is grpc.StatusCode.UNAVAILABLE
    assert "127.0.0.1:1, which the call's session is strictly bound to, cannot be used" in ended.details


def test_an_ejected_endpoint_gives_way(mesh_lab, trio: Trio) -> None:
    """While its endpoint is out the session moves."""
    a = trio[0]
    policy = OutlierDetection(consecutive_5xx=1, base_ejection_time=600.0, max_ejection_time=600.0)
    caller = opened(mesh_lab, session(configuration(addresses(trio), policy)))
    a.script.code = grpc.StatusCode.INTERNAL
    assert caller.ask("unary_unary", b"who", metadata=cookie(a.address)).code is grpc.StatusCode.INTERNAL
    wait(lambda: ejected(mesh_lab) == {a.address})
    ended = caller.ask("unary_unary", b"who", metadata=cookie(a.address))
    assert ended.answers[0] in {b"b", b"c"}
    assert len(told(ended)) == 1


def placed(*groups: list[Endpoint], lb: LbConfig | None = None) -> Snapshot:
    """One cluster with a priority for each group of endpoints."""
    found = resolved("c", [], lb or LbConfig())
    localities = tuple(
        LocalityEndpoints(Locality(zone=str(priority)), priority, 1, EndpointMap.of(group))
        for priority, group in enumerate(groups)
    )
    load = replace(found.leaves[0].endpoints, localities=localities)
    return session(snapshot_of([route("c")], replace(found, leaves=(replace(found.leaves[0], endpoints=load),))))


def test_a_session_may_be_in_a_lower_priority(mesh_lab, trio: Trio) -> None:
    """Its endpoint is connected to although no picker needs it, and let go of with the configuration."""
    a, b, _ = trio
    caller = opened(mesh_lab, placed([Endpoint(a.address)], [Endpoint(b.address)]))
    assert caller.ask("unary_unary", b"who").answers == [b"a"]
    assert caller.ask("unary_unary", b"who", metadata=cookie(b.address)).answers == [b"b"]
    assert [one.endpoint.address for one in balancer(mesh_lab)._pins] == [b.address]
    mesh_lab.source.push(placed([Endpoint(a.address)]))
    wait(lambda: not list(balancer(mesh_lab)._pins))
    assert caller.ask("unary_unary", b"who", metadata=cookie(b.address)).answers == [b"a"]


@pytest.mark.parametrize("stays", [False, True])
def test_sessions_of_a_draining_endpoint(mesh_lab, trio: Trio, stays: bool) -> None:
    """They move, unless `override_host_status` has DRAINING; other calls leave it in any case."""
    a, b, _ = trio
    lb = LbConfig(draining_sessions=stays)
    caller = opened(mesh_lab, placed([Endpoint(a.address), Endpoint(b.address)], lb=lb))
    mesh_lab.source.push(placed([Endpoint(a.address, health=Health.DRAINING), Endpoint(b.address)], lb=lb))
    wait(lambda: {caller.ask("unary_unary", b"who").answers[0] for _ in range(4)} == {b"b"})
    ended = caller.ask("unary_unary", b"who", metadata=cookie(a.address))
    assert ended.answers == [b"a" if stays else b"b"]


def test_a_session_keeps_its_cluster(mesh_lab, trio: Trio) -> None:
    """Where calls are split over clusters the cookie has the cluster too (A60): the draw does not move the session."""
    a, b, _ = trio
    first = session(snapshot_of([route("one", "two")], resolved("one", [a.address]), resolved("two", [b.address])))
    caller = mesh_lab.open("", first=first)
    for expected in (b"a", b"b"):
        ended = caller.ask("unary_unary", b"who")
        while ended.answers != [expected]:
            ended = caller.ask("unary_unary", b"who")
        brought = [("cookie", told(ended)[0].partition(";")[0])]
        assert {caller.ask("unary_unary", b"who", metadata=brought).answers[0] for _ in range(8)} == {expected}


def test_calls_of_a_session_are_dropped_as_others_are(mesh_lab, trio: Trio) -> None:
    """An overload policy of the endpoints (A32) counts for them too."""
    a = trio[0]
    first = placed([Endpoint(a.address)])
    found = first.clusters["c"]
    load = replace(found.leaves[0].endpoints, drops=(Drop("all", 1_000_000),))
    dropping = replace(found, leaves=(replace(found.leaves[0], endpoints=load),))
    caller = mesh_lab.open("", first=replace(first, clusters={"c": dropping}))
    ended = caller.ask("unary_unary", b"who", metadata=cookie(a.address))
    assert ended.code is grpc.StatusCode.UNAVAILABLE
    assert "dropped by the policy of the cluster's endpoints: all" in ended.details
    assert a.executed == []


def test_the_first_call_of_a_channel_reaches_its_endpoint(mesh_lab) -> None:
    """A session waits for its endpoint to be connected: the first call of a channel reaches it."""
    with Backend("a") as a, Backend("b") as b:
        caller = mesh_lab.open("", first=session(configuration([a.address, b.address])))
        assert caller.ask("unary_unary", b"who", metadata=cookie(b.address)).answers == [b"b"]
