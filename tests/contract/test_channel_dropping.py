"""Channels that are dropped instead of closed, and programs that end without closing anything."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import grpc
import pytest

import meshsdk.testing
from examples.orders_service import instance
from tests.contract.channel_backend import SHAPES
from tests.contract.channel_callers import PATIENCE
from tests.contract.channels import HOST, TARGET
from tests.contract.test_channel_connecting import wait

ROOT = Path(__file__).resolve().parents[2]


def own_threads() -> list[str]:
    """The mesh's threads."""
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("meshsdk-"))


@pytest.mark.parametrize("path", ["mesh"])
def test_dropped_channel_lets_go(lab, backend):
    """A channel that is dropped lets go of its target and connections, as grpcio's own does."""
    caller = lab.open(backend.address)
    assert [caller.ask(shape, b"say:x").answers for shape in SHAPES] == [[b"x"]] * 4
    dropped = weakref.ref(caller.channel)
    lab.callers.clear()
    del caller

    def gone() -> bool:
        gc.collect()
        return dropped() is None and not lab.scopes[0]._watched and not len(lab.scopes[0].pool)

    wait(gone)
    assert lab.source.watchers == []


@pytest.mark.parametrize("path", ["mesh"])
def test_many_dropped_channels(lab, backend):
    """A program that makes a channel for each call holds one target, one connection and no further thread."""
    keeper = lab.open(backend.address)
    assert keeper.ask("unary_unary", b"say:x").answers == [b"x"]
    scope, kind = lab.scopes[0], type(keeper.channel)
    threads = own_threads()
    for _ in range(30):
        caller = type(keeper)(kind(lambda: scope, TARGET, HOST), *([lab.loop] if lab.facade == "aio" else []))
        assert caller.ask("unary_unary", b"say:y").answers == [b"y"]
        del caller
    gc.collect()
    wait(lambda: next(iter(scope._watched.values())).channels == 1)
    assert own_threads() == threads
    assert keeper.ask("unary_unary", b"say:z").answers == [b"z"]
    assert len(scope.pool) == 1


@pytest.mark.parametrize("path", ["mesh"])
@pytest.mark.parametrize("facade", ["sync"])
def test_dropped_subscription(lab, backend):
    """A dropped channel takes its subscribers and their thread with it; a subscriber that raises harms no other."""
    keeper = lab.open(backend.address)
    keeper.ask("unary_unary", b"say:x")
    channel = type(keeper.channel)(lambda: lab.scopes[0], TARGET, HOST)
    told: list[grpc.ChannelConnectivity] = []

    def broken(_: grpc.ChannelConnectivity) -> None:
        raise RuntimeError("a subscriber's own")

    channel.subscribe(broken, try_to_connect=True)
    channel.subscribe(told.append)
    wait(lambda: grpc.ChannelConnectivity.READY in told)
    del channel

    def ended() -> bool:
        gc.collect()
        return all(thread.name != "meshsdk-connectivity" for thread in threading.enumerate())

    wait(ended)


PROGRAM = """
import asyncio, gc, sys, threading, time
import meshsdk.aio
from examples import orders_pb2, orders_pb2_grpc

request = orders_pb2.GetRequest()

def sync():
    stub = orders_pb2_grpc.OrdersStub(meshsdk.channel("xds:///orders"))
    stub.Get(request, timeout=20)
    next(iter(stub.Watch(request, timeout=20)))
    stub.Get.future(request, timeout=20)

async def aio():
    stub = orders_pb2_grpc.OrdersStub(meshsdk.aio.channel("xds:///orders"))
    await stub.Get(request, timeout=20)
    async for _ in stub.Watch(request, timeout=20):
        break
    stub.Get(request, timeout=20)

async def aio_times(times):
    for _ in range(times):
        await aio()

def use(times):
    for kind in sys.argv[1:]:
        if kind == "aio":
            asyncio.run(aio_times(times))
        else:
            for _ in range(times):
                sync()
    gc.collect()

use(3)
before = threading.active_count()
use(10)
end = time.monotonic() + 20  # grpc's own threads of calls that were dropped take a moment
while threading.active_count() > before and time.monotonic() < end:
    time.sleep(0.01)
print("more threads:", max(0, threading.active_count() - before))
"""


@pytest.mark.parametrize("kinds", [("sync",), ("aio",), ("sync", "aio", "sync")], ids=" ".join)
def test_program_that_closes_nothing(kinds):
    """A program that drops every channel ends cleanly under `-W error`, with no word on stderr and no thread added."""
    command = [sys.executable, "-W", "error", "-c", PROGRAM, *kinds]
    with meshsdk.testing.control_plane() as plane, instance(plane, "one", "v1"):
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(plane.bootstrap()),
        }
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=3 * PATIENCE, check=False, env=environment, cwd=ROOT
        )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "more threads: 0\n")
