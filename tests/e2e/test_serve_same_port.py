"""Restart on the same port (SO_REUSEPORT): the new process takes calls while the old one still drains."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import final

import grpc
import pytest

from meshsdk.interceptors.activity import DRAINING_KEY
from tests.e2e.lifecycles import Registered, registered
from tests.e2e.processes import until
from tests.e2e.test_serve import CALL

CALLERS = 8
ALONE = (("grpc.use_local_subchannel_pool", 1),)


@pytest.fixture
def world(tmp_path) -> Iterator[Registered]:
    """A registry and what runs with it."""
    with registered(tmp_path) as running:
        yield running


def free_port() -> int:
    """A free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@final
class Dialler:
    """Callers of one address. Each dials anew when its answer says that it spoke to a process that drains."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._ids = itertools.count()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.made = 0  # guarded by _lock
        self.failures: list[str] = []  # guarded by _lock
        self._threads = [threading.Thread(target=self._run) for _ in range(CALLERS)]

    def __enter__(self) -> Dialler:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            with grpc.insecure_channel(self._address, ALONE) as channel:
                get = channel.unary_unary(CALL)
                for _ in range(20):  # then dial anew: connections are made all the time
                    if self._over.is_set() or not self._call(get):
                        break

    def _call(self, get) -> bool:
        """Calls; returns whether the connection may be used again."""
        request = str(next(self._ids)).encode()
        problem, draining = "", False
        try:
            answer, call = get.with_call(request, timeout=10)
            assert answer == request
            draining = DRAINING_KEY in dict(call.trailing_metadata())
        except grpc.RpcError as error:
            problem = f"{error.code().name}: {error.details()}"
        with self._lock:
            self.made += 1
            self.failures += [problem] if problem else []
        return not draining

    def more(self, count: int) -> None:
        """Waits until `count` further calls were made."""
        goal = self.made + count
        until(lambda: self.made >= goal, f"{count} more calls")


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_a_restart_on_the_same_port_loses_no_call(world, kind):
    """Three processes follow each other on one port under callers that dial all the time: none fails or runs twice."""
    port = free_port()
    setup = {"kind": kind, "port": port, "reuse": 1}
    running = world.start(**setup)
    calls = most = 0
    with Dialler(running.address) as dialler:
        for _ in range(2):
            dialler.more(100)
            old, running = running, world.start(**setup)
            until(lambda: len(world.found(f"127.0.0.1:{port}")) == 2, "both are registered")
            os.kill(old.process.pid, signal.SIGTERM)
            ledger = old.ledger()
            calls, most = calls + ledger["calls"], max(most, ledger["most"])
            assert old.ended() == 0
        dialler.more(100)
    assert dialler.failures == []
    os.kill(running.process.pid, signal.SIGTERM)
    ledger = running.ledger()
    assert calls + ledger["calls"] == dialler.made
    assert max(most, ledger["most"]) == 1
