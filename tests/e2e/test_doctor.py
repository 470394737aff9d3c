"""`meshsdk doctor`, asking real processes and trying bootstraps against a real control plane."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from meshsdk import testing
from tests.e2e.processes import PATIENCE, ROOT, program, until

YAML = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: orders}
spec:
  hosts: [orders]
  ports: [{number: 80, name: grpc, protocol: GRPC}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {grpc: 9}}]
"""
CLIENT = """
import os, sys, time, meshsdk
channel = meshsdk.channel("xds:///orders")
try:
    channel.unary_unary("/x.Y/Z")(b"", timeout=5)
except Exception:
    pass
if sys.argv[1:] == ["fork"]:
    os.fork()
os.write(1, f"{os.getpid()}\\n".encode())  # at once: a child of a fork writes to the same pipe
time.sleep(600)
"""


@pytest.fixture
def plane():
    """A control plane with one service."""
    with testing.control_plane(YAML) as running:
        yield running


@pytest.fixture
def surroundings(plane, tmp_path):
    """The environment of processes of the mesh: bootstrap and run directory."""
    own = {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(plane.bootstrap("web")), "MESHSDK_RUN_DIR": str(tmp_path / "run")}
    return {**os.environ, **own}


@pytest.fixture
def client(surroundings):
    """Starts a process of the mesh; returns the process ids that it prints. Ends what it started."""
    started = []

    def start(*words, lines=1, **more):
        process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, *words],
            env={**surroundings, **more},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return [int(process.stdout.readline()) for _ in range(lines)]

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
        process.stdout.close()


def doctor(env, *words):
    """Runs the command; returns its exit code, output and errors."""
    done = subprocess.run(
        [program("meshsdk"), "doctor", *words],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_live_process(client, surroundings):
    """It tells its node, its control plane and each resource; its configuration is whole, so all is well."""
    pid = client()[0]
    code, out, err = doctor(surroundings, "--pid", str(pid), "-o", "json")
    assert (code, err) == (0, "")
    (process,) = json.loads(out)["processes"]
    (mesh,) = process["meshes"]
    assert process["pid"] == pid
    assert mesh["node"]["cluster"] == "web"
    assert [one["phase"] for one in mesh["servers"]] == ["answered"]
    assert {(one["type"], one["name"]) for one in mesh["resources"]} >= {("listener", "orders"), ("route", "orders")}
    code, out, _ = doctor(surroundings, "--all")
    assert code == 0
    assert "route" in out
    assert f"process {pid}:" in out


def test_a_forked_child_answers_for_itself(client, surroundings):
    """After a fork both processes can be asked."""
    pids = client("fork", lines=2, GRPC_ENABLE_FORK_SUPPORT="1")
    assert len(set(pids)) == 2
    for pid in pids:
        _, out, err = until(
            lambda pid=pid: found if (found := doctor(surroundings, "--pid", str(pid)))[0] == 0 else None, "an answer"
        )
        assert f"process {pid}:" in out, err


def test_no_socket_where_none_is_wanted(client, surroundings):
    """MESHSDK_ADMIN=off: the process cannot be asked, and the command says what it looked for."""
    pid = client(MESHSDK_ADMIN="off")[0]
    code, _, err = doctor(surroundings, "--pid", str(pid))
    assert (code, err.count("\n")) == (1, 1)
    assert f"no mesh with an admin socket in process {pid}" in err


def test_a_bootstrap_that_works(surroundings):
    """Tried by itself: it connects, resolves the target and ends with nothing to say."""
    code, out, err = doctor(surroundings, "xds:///orders")
    assert (code, err) == (0, ""), out
    assert "answered, delta" in out


def test_a_service_that_is_not_there(surroundings):
    """A target that the control plane does not know is wrong, and named."""
    code, out, err = doctor(surroundings, "--timeout", "3", "xds:///nobody")
    assert code == 1
    assert "!! listener 'nobody'" in out
    assert "need attention" in err


def test_a_control_plane_that_is_away(surroundings, plane):
    """Nothing listens there: the address, what happened and what to look at."""
    plane.stop()
    code, out, _ = doctor(surroundings, "--timeout", "3")
    assert code == 1
    assert f"!! xDS server {plane.address}: UNAVAILABLE" in out


def test_a_bootstrap_that_cannot_be_read(surroundings, tmp_path):
    """One clear line, and exit code 1."""
    bad = tmp_path / "bootstrap.json"
    bad.write_text("{")
    code, _, err = doctor(surroundings, "--bootstrap", str(bad))
    assert (code, err.count("\n")) == (1, 1)
    assert str(bad) in err
