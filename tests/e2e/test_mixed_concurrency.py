"""Two asyncio loops in two threads and plain threads share one mesh: one xDS stream, and not a word in the log."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import meshsdk.testing
from examples.orders_service import instance
from tests.e2e.peers import mixed
from tests.e2e.processes import PATIENCE, ROOT

NODE = "mixed"


def test_loops_and_threads_share_one_stream():
    """All calls of all callers pass, the control plane knows one client, and stderr stays empty under `-W error`."""
    with (
        meshsdk.testing.control_plane() as plane,
        instance(plane, "orders-1", "v1"),
        instance(plane, "orders-2", "v1"),
    ):
        bootstrap = json.dumps(plane.bootstrap("web", node=NODE))
        program = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.e2e.peers.mixed"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "GRPC_XDS_BOOTSTRAP_CONFIG": bootstrap},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with program:
            try:
                assert program.stdout.readline() == "used\n", program.stderr.read()
                streams = [client for client in plane._embedded.clients() if client.node.id == NODE]
                out, errors = program.communicate("go on\n", timeout=PATIENCE)
            finally:
                program.kill()
    assert len(streams) == 1
    assert errors == ""
    assert program.returncode == 0
    assert json.loads(out) == {
        "passed": {
            "thread": mixed.THREADS * mixed.ROUNDS * 2,
            "loop": mixed.LOOPS * mixed.TASKS * mixed.ROUNDS * 2,
        },
        "failed": [],
    }
