"""Outlier ejection over real connections: an endpoint that fails is left alone for a while. Mesh channels only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import grpc
import pytest

from meshsdk.lb.outlier import Cause
from meshsdk.model.policy import Hedging, LbConfig, OutlierDetection
from meshsdk.model.snapshot import Snapshot
from tests.contract.channel_backend import SHAPES
from tests.contract.channel_wire import Relay
from tests.contract.channels import route, snapshot_of
from tests.contract.outlying import FailingBackend, balancer, configuration, ejected, opened
from tests.contract.test_channel_connecting import wait

Pair = tuple[FailingBackend, FailingBackend]
THREE = OutlierDetection(consecutive_5xx=3, base_ejection_time=600.0, max_ejection_time=600.0, max_ejection_percent=50)
INTERNAL = grpc.StatusCode.INTERNAL


def addresses(pair: Pair) -> list[str]:
    """Where they serve."""
    return [backend.address for backend in pair]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two backends of the test's own."""
    with FailingBackend("good") as good, FailingBackend("bad") as bad:
        yield good, bad


@pytest.mark.parametrize("shape", SHAPES)
def test_an_endpoint_that_fails_three_times_gets_no_more_calls(mesh_lab, pair: Pair, shape: str) -> None:
    """After its third failure in a row all calls go to the other endpoint."""
    _, bad = pair
    caller = opened(mesh_lab, configuration(addresses(pair), THREE))
    bad.script.code = INTERNAL
    codes = [caller.ask(shape, b"who").code for _ in range(30)]
    assert 3 <= codes.count(INTERNAL) < 10  # more than 3 only where the monitor was just looking at the connections
    assert ejected(mesh_lab) == {bad.address}
    assert {caller.ask(shape, b"who").answers[0] for _ in range(6)} == {b"good"}
    outliers = balancer(mesh_lab).outliers
    assert [one.totals for one in outliers.detectors] == [{Cause.CONSECUTIVE_5XX: 1}]
    assert outliers.ejections[bad.address].why == "3 failures in a row"


def test_an_ejected_endpoint_comes_back(mesh_lab, pair: Pair) -> None:
    """Once its time is over, with no call and no connection moving, it takes calls again."""
    _, bad = pair
    policy = OutlierDetection(consecutive_5xx=3, base_ejection_time=0.3, max_ejection_percent=50)
    caller = opened(mesh_lab, configuration(addresses(pair), policy))
    bad.script.code = INTERNAL
    while bad.address not in ejected(mesh_lab):
        caller.ask("unary_unary", b"who")
    bad.script.code = None
    wait(lambda: not ejected(mesh_lab))
    assert {caller.ask("unary_unary", b"who").answers[0] for _ in range(10)} == {b"good", b"bad"}


def test_the_other_endpoint_stays_although_it_fails(mesh_lab, pair: Pair) -> None:
    """With at most half of them out, one of two that both fail goes on to take the calls."""
    caller = opened(mesh_lab, configuration(addresses(pair), THREE))
    for backend in pair:
        backend.script.code = INTERNAL
    for _ in range(20):
        assert caller.ask("unary_unary", b"who").code is INTERNAL
    assert len(ejected(mesh_lab)) == 1
    assert sum(one.overflows for one in balancer(mesh_lab).outliers.detectors) >= 1


def test_rates_are_judged_at_the_end_of_an_interval(mesh_lab, pair: Pair) -> None:
    """An endpoint that fails every call is ejected by the failure percentage though streaks are not looked for."""
    _, bad = pair
    policy = OutlierDetection(
        consecutive_5xx=None,
        interval=0.3,
        base_ejection_time=600.0,
        max_ejection_time=600.0,
        max_ejection_percent=50,
        failure_percentage_threshold=90,
        enforcing_failure_percentage=100,
        failure_percentage_minimum_hosts=2,
        failure_percentage_request_volume=3,
    )
    caller = opened(mesh_lab, configuration(addresses(pair), policy))
    bad.script.code = INTERNAL

    def out() -> bool:
        for _ in range(20):
            caller.ask("unary_unary", b"who")
        return ejected(mesh_lab) == {bad.address}

    wait(out)
    assert balancer(mesh_lab).outliers.ejections[bad.address].cause is Cause.FAILURE_PERCENTAGE
    assert {caller.ask("unary_unary", b"who").answers[0] for _ in range(10)} == {b"good"}


def test_answers_that_are_no_server_errors_eject_nobody(mesh_lab, pair: Pair) -> None:
    """An endpoint that answers NOT_FOUND to every call is none that fails."""
    _, bad = pair
    caller = opened(mesh_lab, configuration(addresses(pair), THREE))
    bad.script.code = grpc.StatusCode.NOT_FOUND
    codes = {caller.ask("unary_unary", b"who").code for _ in range(30)}
    assert codes == {grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND}
    assert not ejected(mesh_lab)


def test_cut_connections_are_failures_of_this_side(mesh_lab, pair: Pair) -> None:
    """With the split, calls whose connection is cut eject by the limit of local origin."""
    good, bad = pair
    policy = OutlierDetection(
        consecutive_5xx=1,
        split_local_origin=True,
        consecutive_local_origin=1,
        base_ejection_time=600.0,
        max_ejection_time=600.0,
        max_ejection_percent=50,
    )
    with Relay(bad.port) as relay:
        caller = opened(mesh_lab, configuration((good.address, relay.address), policy))
        running = [caller.start("unary_stream", b"hang:1") for _ in range(2)]
        assert [one.read() for one in running] == [b"0", b"0"]
    good.script.release.set()
    assert {one.end().code for one in running} == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    wait(lambda: ejected(mesh_lab) == {relay.address})
    assert balancer(mesh_lab).outliers.ejections[relay.address].cause is Cause.CONSECUTIVE_LOCAL_ORIGIN_FAILURE


def test_a_panicking_cluster_uses_its_ejected_endpoints(mesh_lab, pair: Pair) -> None:
    """With panic below 60 % healthy, the ejection of one of two takes no calls from it."""
    _, bad = pair
    caller = opened(mesh_lab, configuration(addresses(pair), THREE, LbConfig(panic_threshold=0.6)))
    bad.script.code = INTERNAL
    while bad.address not in ejected(mesh_lab):
        caller.ask("unary_unary", b"who")
    assert {caller.ask("unary_unary", b"who").code for _ in range(10)} == {grpc.StatusCode.OK, INTERNAL}


def test_without_the_policy_everybody_is_back_and_nobody_is_told(mesh_lab, pair: Pair) -> None:
    """A configuration that drops the policy lets an ejected endpoint back at once, and calls report to nobody."""
    _, bad = pair
    caller = opened(mesh_lab, configuration(addresses(pair), THREE))
    bad.script.code = INTERNAL
    while bad.address not in ejected(mesh_lab):
        caller.ask("unary_unary", b"who")
    bad.script.code = None
    mesh_lab.source.push(configuration(addresses(pair)))
    wait(lambda: {caller.ask("unary_unary", b"who").answers[0] for _ in range(4)} == {b"good", b"bad"})
    assert all(backend.watch is None for backend in balancer(mesh_lab)._backends.values())


@pytest.mark.parametrize("shape", ["unary_unary", "unary_stream"])
def test_answers_of_hedged_calls_count(mesh_lab, pair: Pair, shape: str) -> None:
    """A success between failures ends their row, of a stream of answers as well."""
    caller = opened(mesh_lab, hedging(addresses(pair)[1:]))
    bad = pair[1]
    for _ in range(3):
        bad.script.code = INTERNAL
        assert [caller.ask(shape, b"who").code for _ in range(2)] == [INTERNAL] * 2
        bad.script.code = None
        assert caller.ask(shape, b"say:1").code is grpc.StatusCode.OK
    assert ejected(mesh_lab) == set()


def test_hedged_streams_that_break_off_count(mesh_lab, pair: Pair) -> None:
    """A stream that fails after its first message is a failure of its endpoint."""
    caller = opened(mesh_lab, hedging(addresses(pair)[1:]))
    for _ in range(3):
        assert caller.ask("unary_stream", b"partly:").code is grpc.StatusCode.UNAVAILABLE
    wait(lambda: bool(ejected(mesh_lab)))


def hedging(endpoints: list[str]) -> Snapshot:
    """One cluster whose calls are hedged, all of whose endpoints may be ejected."""
    given = configuration(endpoints, dataclasses.replace(THREE, max_ejection_percent=100))
    (cluster,) = given.clusters.values()
    return snapshot_of([route("c", hedging=Hedging(2, 3600.0, frozenset({"UNAVAILABLE"})))], cluster)
