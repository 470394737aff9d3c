"""Upgrades of a shim while its control plane, which is its registry as well, is gone."""

from __future__ import annotations

import grpc
import pytest

from meshsdk import testing
from tests.e2e.processes import ROOT, until
from tests.e2e.shims import ShimProcess
from tests.e2e.test_shim_upgrade import (
    _OTHER,
    _SERVICE,
    Application,
    Callers,
    answers,
    envoys,
    expect_none_lost,
    upgrade,
)

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(240)]


def test_upgrades_while_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control plane and registry are stopped under load; two upgrades follow, and no call fails or is doubled.

    The new Envoy is fed with what the shim knew last.
    """
    monkeypatch.setenv("MESHSDK_ENVOY_VERSIONS", str(ROOT / ".cache" / "envoy"))
    application = Application()
    with testing.control_plane(_SERVICE) as plane:
        section = {"registries": {"default": {"url": f"grpc://{plane.address}"}}}
        bootstrap = plane.bootstrap("orders", section=section)
        options = ("--drain", "5")
        targets = ["xds:///orders"]
        with ShimProcess("orders", bootstrap, *options, application=application.port, targets=targets) as shim:
            until(lambda: shim.status()["application"]["state"] == "ONLINE", "the application to be online")
            with grpc.insecure_channel(f"127.0.0.1:{shim.outbound}", [("grpc.default_authority", "orders")]) as channel:
                get = channel.unary_unary("/shop.Orders/Get")
                until(lambda: answers(get), "the way through the mesh")
            application.seen.clear()
            with Callers(shim.outbound) as callers:
                plane.stop()
                for version in (_OTHER, "1.40.0"):
                    done = upgrade(shim, version)
                    assert done["version"] == version
                    assert envoys(shim) == {done["pid"]}
            expect_none_lost(callers, application)
    application.server.stop(0)
