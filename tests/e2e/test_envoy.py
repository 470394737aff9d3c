"""Stock Envoy 1.40 on ADS, state of the world and delta, as a client of our control plane."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.peers import resources
from tests.e2e.peers.envoy import Envoy
from tests.e2e.peers.plane import Plane
from tests.e2e.peers.scenarios import PeerScenarios, expect_answers
from tests.e2e.processes import until

pytestmark = pytest.mark.envoy


@pytest.fixture(scope="module", params=["sotw", "delta"])
def peer(request: pytest.FixtureRequest, plane: Plane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    """One Envoy for all tests of a protocol variant."""
    folder = tmp_path_factory.mktemp("envoy")
    started = Envoy(plane.port, f"envoy-{request.param}", folder, delta=request.param == "delta")
    yield started
    started.stop()


class TestEnvoy(PeerScenarios):
    """The scenarios, through a proxy's listeners."""

    listener = staticmethod(resources.socket_listener)
    reason = "EdsClusterConfigValidationError.EdsConfig"

    def test_admin_agrees(self, plane: Plane, peer: Envoy, backends: dict[str, int], service: str) -> None:
        """Envoy's own /clusters and /config_dump show what was published, and nothing after it is withdrawn."""
        chain = self.chain(service, [backends["a"], backends["b"]])
        plane.publish(*chain)
        expect_answers(peer, service, "a", "b")
        assert peer.endpoints(service) == {backends["a"], backends["b"]}
        for section in ("dynamic_active_clusters", "dynamic_route_configs", "dynamic_listeners"):
            assert f'"{service}"' in peer.dynamic(section), section
        plane.withdraw(*chain)
        until(lambda: service not in peer.dynamic("dynamic_active_clusters"), "Envoy to drop the cluster")
        until(lambda: service not in peer.ports(), "Envoy to drop the listener")
