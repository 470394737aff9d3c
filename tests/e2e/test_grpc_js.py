"""`@grpc/grpc-js-xds` on Node.js as a client of our control plane."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.peers.grpc_process import GrpcPeer, grpc_js
from tests.e2e.peers.plane import Plane
from tests.e2e.peers.scenarios import PeerScenarios

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def peer(plane: Plane) -> Iterator[GrpcPeer]:
    """One Node.js process for all tests."""
    started = grpc_js(plane.port, "grpc-js")
    yield started
    started.stop()


class TestGrpcJs(PeerScenarios):
    """The scenarios, with grpc-js-xds."""

    # grpc-js-xds 1.14 keeps a withdrawn resource as its `cachedResource` and takes an equal one for no change.
    notices_same_return = False
