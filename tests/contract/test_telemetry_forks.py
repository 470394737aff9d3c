"""A process that forks while it is being read: the child's locks are free, and it counts from zero."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import json, os, signal, sys, threading
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
import meshsdk
from meshsdk import facade, telemetry
from meshsdk.channel import mesh_metrics
from meshsdk.lifecycle.drain_counts import DRAINS
from meshsdk.telemetry import otel_metrics
from meshsdk.telemetry.switch import SWITCH
from meshsdk.xds_client import recording

SERVER = {"server_uri": "127.0.0.1:1", "channel_creds": [{"type": "insecure"}]}
BOOTSTRAP = {"xds_servers": [SERVER], "node": {"id": "a"}}
file = sys.argv[1]
reader = InMemoryMetricReader()
telemetry.enable(traces=False, meter_provider=MeterProvider([reader]))
DRAINS.ended(DRAINS.began("orders"), quiet=True)
running = DRAINS.began("orders")
tap = recording.recorder({recording.VARIABLE: file}).stream("cp", "delta")
tap("client", b"parent")
held, release = threading.Event(), threading.Event()
began = otel_metrics._attached[reader].began

def hold():
    locks = (SWITCH._lock, DRAINS._lock, mesh_metrics._lock, mesh_metrics._READING._lock, facade._lock,
             facade._meshes_lock, recording._lock, recording._recorders[file]._lock)
    for lock in locks:
        lock.acquire()
    held.set()
    release.wait()

threading.Thread(target=hold, daemon=True).start()
held.wait()
mine, theirs = os.pipe()
if (child := os.fork()) == 0:
    signal.alarm(20)
    with meshsdk.Mesh(BOOTSTRAP):
        assert len(facade.meshes()) == 1
        drains = {one.name: len(one.points) for one in SWITCH.families() if "server.drain" in one.name}
    DRAINS.ended(running, quiet=True)
    tap("client", b"nobody's")
    recording.recorder({recording.VARIABLE: file}).stream("cp", "delta")("client", b"child")
    later = otel_metrics._attached[reader].began > began
    os.write(theirs, json.dumps({"drains": drains, "later": later, "pid": os.getpid()}).encode())
    os._exit(0)
os.close(theirs)
answer = os.read(mine, 65536)
_, status = os.waitpid(child, 0)
print(json.dumps({"status": status, **json.loads(answer or b"{}")}))
os._exit(0)
"""


def test_a_child_waits_for_nobody_and_counts_from_zero(tmp_path):
    """A thread of the parent holds every lock of the process as it forks: the child makes a mesh, and reads zeros."""
    file = tmp_path / "xds.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(file)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MESHSDK_ADMIN": "off"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["status"] == 0, "the child hung or failed"
    assert found["drains"] == {"meshsdk.server.draining": 0, "meshsdk.server.drains": 0}
    assert found["later"], "the sums of the child began with it"
    ours, theirs = file.read_text(), (tmp_path / f"xds.jsonl.{found['pid']}").read_text()
    assert (ours.count("\n"), theirs.count("\n")) == (1, 1), "each process writes a file of its own"
