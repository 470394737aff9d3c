"""Processes of one machine that share a registry in a file: they see each other, and one that is killed goes."""

from __future__ import annotations

import os
import signal

from meshsdk.discovery.opening import open_registry
from meshsdk.model.instance import InstanceState
from tests.contract.registries.follower import Follower
from tests.e2e.processes import ROOT, python

REGISTRANT = ROOT / "tests" / "e2e" / "sqlite_registrant.py"


def test_processes_share_a_file_and_a_killed_one_lapses(tmp_path):
    """Four start at once on a file that is not there; one is killed in the middle of its writes: it alone goes."""
    url = f"sqlite://{tmp_path}/registry.db?poll=0.02"
    registry = open_registry(url, "the test")
    follower = Follower(registry, "orders")
    processes = [python(REGISTRANT, url, str(number)) for number in range(4)]
    try:
        for process in processes:
            assert process.line() == "registered"
        follower.wait(lambda: follower.ids("orders") == {"0", "1", "2", "3"}, "all four")
        assert processes[0].ask("DRAINING") == "done"
        follower.wait(
            lambda: follower.apps["orders"]["0"].state is InstanceState.DRAINING, "the state that a process set"
        )
        os.kill(processes[3].pid, signal.SIGKILL)
        follower.wait(lambda: follower.ids("orders") == {"0", "1", "2"}, "the killed one lapsed")
        for process in processes[:3]:
            assert process.ask("ONLINE") == "done"
    finally:
        for process in processes:
            process.stop()
        registry.close()
