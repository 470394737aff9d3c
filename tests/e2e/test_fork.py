"""A pre-fork server over the mesh: real processes, repeated, with a parent that goes on calling."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

import meshsdk.testing
from examples.orders_service import instance
from meshsdk.testing import ControlPlane
from tests.e2e.processes import ROOT, until

PROGRAM = "tests.e2e.peers.prefork"


@pytest.fixture(scope="module")
def mesh() -> Iterator[ControlPlane]:
    """A control plane with two instances of `orders`."""
    with (
        meshsdk.testing.control_plane() as plane,
        instance(plane, "orders-1", "v1"),
        instance(plane, "orders-2", "v1"),
    ):
        yield plane


def run(mesh: ControlPlane, generations: int, before: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the pre-fork server to its end."""
    bootstrap = json.dumps(mesh.bootstrap("prefork", node="prefork"))
    return subprocess.run(
        [sys.executable, "-m", PROGRAM, str(generations), before],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "GRPC_XDS_BOOTSTRAP_CONFIG": bootstrap, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("before", "support"), [("used", ""), ("made", ""), ("closed", ""), ("used", "1")], ids=lambda value: value or "-"
)
def test_children_and_parent_call(mesh, before, support):
    """Three generations of four children call, over inherited and own channels, and the parent beside them: all pass.

    `support` is GRPC_ENABLE_FORK_SUPPORT; a program that turns it off cannot fork beside grpcio's own channels either.
    """
    environment = {"GRPC_ENABLE_FORK_SUPPORT": support} if support else {}
    done = run(mesh, 3, before, **environment)
    assert done.returncode == 0, done.stderr
    lines = Counter(line.split()[0] for line in done.stdout.splitlines())
    assert lines == {"child": 12, "parent": 6 + (before != "made")}
    answered = {name for line in done.stdout.splitlines() for name in ",".join(line.split()[1:]).split(",")}
    assert answered == {"orders-1", "orders-2"}
    assert "Traceback" not in done.stderr


def test_repeatedly(mesh):
    """The same in one process after the other: no run hangs and none fails."""
    for _ in range(3):
        done = run(mesh, 1, "used")
        assert (done.returncode, done.stdout.count("child")) == (0, 4), done.stderr


def test_children_leave_the_control_plane(mesh):
    """Once all processes have ended the control plane has none of their streams left."""
    run(mesh, 1, "used")
    clients = mesh._embedded.clients
    until(lambda: not [client for client in clients() if client.node.id == "prefork"], "their streams end")
