"""The official Nacos SDK for Python and our adapter on one real server: each sees what the other registers."""

from __future__ import annotations

import json

import pytest

from meshsdk.model.instance import Instance, InstanceState
from tests.contract.registries.follower import Follower
from tests.e2e.processes import ROOT, Process, until
from tests.servers.nacos import RealNacos

PYTHON = ROOT / ".cache" / "peers" / "nacos-sdk" / "bin" / "python"
SCRIPT = ROOT / "tests" / "e2e" / "peers" / "nacos_sdk.py"


@pytest.mark.peers
def test_the_official_sdk_and_the_adapter_see_each_other(tmp_path):
    """Instances go both ways with their metadata; one that drains is not offered by the SDK any more."""
    server = RealNacos().start()
    registry = server.open("namespace=sdk")
    sdk = Process(PYTHON, SCRIPT, server.address, "sdk", tmp_path)

    def offered() -> dict[str, dict[str, str]]:
        return {f"{one['ip']}:{one['port']}": one["metadata"] for one in json.loads(sdk.ask("list"))}

    try:
        assert sdk.line() == "registered"
        theirs = Instance("orders", "10.0.7.7:7777", "10.0.7.7:7777", weight=2, labels={"lang": "sdk"})
        follower = Follower(registry, "orders")
        follower.wait_for(theirs)
        ours = Instance("orders", "ours", "10.0.8.8:8888", labels={"version": "v1"})
        lease = registry.register(ours, 15)
        follower.wait_for(theirs, ours)
        until(lambda: offered().get("10.0.8.8:8888", {}).get("version") == "v1", "the SDK sees ours")
        registry.set_state(lease, InstanceState.DRAINING)
        until(lambda: set(offered()) == {"10.0.7.7:7777"}, "the SDK leaves what drains")
    finally:
        sdk.stop()
        registry.close()
        server.remove()
