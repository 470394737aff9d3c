"""Weighted round robin over real connections, by what the servers report (gRFC A58). Mesh channels only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import grpc
import pytest

from meshsdk.model.policy import LbConfig, WeightedRoundRobin
from meshsdk.orca import ServerLoad, answer_with, recorder
from tests.contract import channel_backend
from tests.contract.channel_backend import SHAPES
from tests.contract.outlying import balancer, configuration, opened
from tests.contract.test_channel_connecting import wait


class Reporting(channel_backend.Scripted):
    """Handlers that report a load with every answer."""

    utilization = 0.0

    def act(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """See `Scripted`."""
        if self.utilization:
            recorder(context).qps(100).application_utilization(self.utilization)
        yield from super().act(request, context)


class Telling(channel_backend.Backend):
    """A backend that tells its load out of band."""

    def __init__(self, name: str, utilization: float) -> None:
        """Serves at once."""
        self.load = ServerLoad()
        self.load.qps(100).application_utilization(utilization)
        super().__init__(name)

    def starting(self) -> None:
        """See `Backend`."""
        answer_with(self.server, self.load, min_interval=0.05)


class ReportingBackend(channel_backend.Backend):
    """A backend whose `script.utilization` may be set at any time."""

    scripted = Reporting
    script: Reporting


@pytest.fixture
def pair() -> Iterator[tuple[ReportingBackend, ReportingBackend]]:
    """Two backends of the test's own."""
    with ReportingBackend("a") as a, ReportingBackend("b") as b:
        yield a, b


IN_BAND = LbConfig(policy=WeightedRoundRobin(blackout=0.0, update_period=0.1))


def shares(caller, shape: str, calls: int = 60) -> Counter[bytes]:
    """Who answers."""
    return Counter(caller.ask(shape, b"who").answers[0] for _ in range(calls))


def even(found: Counter[bytes]) -> bool:
    """Whether both got about alike; each time that a picker is built anew, one may get a call more."""
    return abs(found[b"a"] - found[b"b"]) <= 20


@pytest.mark.parametrize("shape", SHAPES)
def test_calls_follow_what_the_answers_report(mesh_lab, pair, shape: str) -> None:
    """An endpoint that is at 80 % gets a quarter of the calls of one that is at 20 %, and more once that turns."""
    a, b = pair
    a.script.utilization, b.script.utilization = 0.8, 0.2
    caller = opened(mesh_lab, configuration([a.address, b.address], lb=IN_BAND))
    wait(lambda: abs(shares(caller, shape)[b"b"] - 48) <= 4)
    a.script.utilization, b.script.utilization = 0.2, 0.8
    wait(lambda: abs(shares(caller, shape)[b"a"] - 48) <= 4)


def test_without_reports_calls_take_turns(mesh_lab, pair) -> None:
    """The policy alone changes nothing."""
    a, b = pair
    caller = opened(mesh_lab, configuration([a.address, b.address], lb=IN_BAND))
    assert even(shares(caller, "unary_unary"))
    assert all(backend.load is None for backend in balancer(mesh_lab).backends)


def test_reports_count_for_nothing_under_other_policies(mesh_lab, pair) -> None:
    """Nobody reads them."""
    a, b = pair
    a.script.utilization, b.script.utilization = 0.8, 0.2
    caller = opened(mesh_lab, configuration([a.address, b.address]))
    assert even(shares(caller, "unary_unary"))
    assert all(backend.watch is None for backend in balancer(mesh_lab).backends)


OUT_OF_BAND = LbConfig(policy=WeightedRoundRobin(out_of_band=True, oob_period=0.1, blackout=0.0, update_period=0.1))


def test_calls_follow_what_endpoints_tell_out_of_band(mesh_lab) -> None:
    """The weights come without any call, and change with what is told."""
    with Telling("a", 0.8) as a, Telling("b", 0.2) as b:
        caller = opened(mesh_lab, configuration([a.address, b.address], lb=OUT_OF_BAND))
        wait(lambda: all(backend.load is not None for backend in balancer(mesh_lab).backends))
        wait(lambda: abs(shares(caller, "unary_unary")[b"b"] - 48) <= 4)
        a.load.application_utilization(0.2)
        b.load.application_utilization(0.8)
        wait(lambda: abs(shares(caller, "unary_unary")[b"a"] - 48) <= 4)


def test_an_endpoint_without_the_service_is_asked_once(mesh_lab, pair) -> None:
    """UNIMPLEMENTED: it gets the others' mean weight and no further question, until it is connected to anew."""
    a, b = pair
    a.script.utilization = b.script.utilization = 0.5  # in band, which nobody reads here
    caller = opened(mesh_lab, configuration([a.address, b.address], lb=OUT_OF_BAND))
    wait(lambda: not any(backend.watch.asks for backend in balancer(mesh_lab).backends))
    assert even(shares(caller, "unary_unary"))
    assert all(backend.load is None for backend in balancer(mesh_lab).backends)
