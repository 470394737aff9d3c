"""Stock grpcio, `xds:///` sync and aio, as a client of our control plane."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.peers.grpc_process import GrpcPeer, stock_grpcio
from tests.e2e.peers.plane import Plane
from tests.e2e.peers.scenarios import PeerScenarios


@pytest.fixture(scope="module", params=["sync", "aio"])
def peer(request: pytest.FixtureRequest, plane: Plane) -> Iterator[GrpcPeer]:
    """One grpcio process for all tests of a flavour."""
    started = stock_grpcio(request.param, plane.port, f"grpcio-{request.param}")
    yield started
    started.stop()


class TestStockGrpc(PeerScenarios):
    """The scenarios, with grpcio's own xDS client."""
