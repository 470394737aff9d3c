"""A ShimSet over a real shim: `meshctl serve` tells it versions, it upgrades its Envoy and reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.control_planes import Served
from tests.e2e.processes import ROOT, until
from tests.e2e.shims import ShimProcess
from tests.e2e.test_shim_set import apply, status
from tests.e2e.test_shim_upgrade import _OTHER, Application

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(240)]


def test_versions_come_and_fail_and_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version is rolled out; one that cannot be is given up; the next one is rolled out as if nothing had been."""
    monkeypatch.setenv("MESHSDK_ENVOY_VERSIONS", str(ROOT / ".cache" / "envoy"))
    application = Application()
    with Served(tmp_path) as served:
        server = {"server_uri": served.xds, "channel_creds": [{"type": "insecure"}]}
        bootstrap = {
            "xds_servers": [server],
            "node": {"id": "orders-1", "metadata": {"LABELS": {"app": "orders"}}},
            "meshsdk": {"registries": {"default": {"url": f"grpc://{served.xds}"}}},
        }
        with ShimProcess("orders", bootstrap, "--drain", "2", application=application.port) as shim:
            first = shim.status()["envoy"]["version"]
            for version, phase in ((_OTHER, "Complete"), ("1.0.999", "RolledBack"), (first, "Complete")):
                apply(served, version)
                until(lambda phase=phase: status(served).get("phase") == phase, f"{version}: {phase}", 60)
                running = first if version == first else _OTHER
                assert shim.status()["envoy"]["version"] == running
    application.server.stop(0)
