"""`serve` in processes of its own: signals, rolling restarts under load, and the control plane as its registry."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
from collections.abc import Iterator
from typing import final

import grpc
import pytest

from meshsdk.discovery.memory import MemoryRegistry
from meshsdk.interceptors.activity import DRAINING_KEY
from meshsdk.model.instance import InstanceState
from tests.contract.registration_server import RegistrationServer
from tests.e2e.processes import Process, python, until

CALLERS = 16
CALL = "/shop.Orders/Get"


@pytest.fixture
def plane() -> Iterator[RegistrationServer]:
    """A registration service, made from the proto alone."""
    server = RegistrationServer(MemoryRegistry())
    server.start()
    yield server
    server.stop()


def environment(address: str) -> dict[str, str]:
    """The bootstrap of a process that registers at `address`."""
    server = {"server_uri": address, "channel_creds": [{"type": "insecure"}]}
    return {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps({"xds_servers": [server], "node": {"id": "test"}})}


def served(plane: RegistrationServer, kind: str, quiet: float = 0.5) -> tuple[Process, int]:
    """Starts a served process; returns it and its port once the registry has it ONLINE."""
    process = python("tests/e2e/peers/served.py", kind, str(quiet), env=environment(plane.address))
    port = int(process.line())
    address = f"127.0.0.1:{port}"
    until(lambda: state(plane, address) is InstanceState.ONLINE, f"{address} is online")
    return process, port


def state(plane: RegistrationServer, address: str) -> InstanceState | None:
    """The state the registry holds of an address."""
    found = [instance for instance in plane.registry.instances("orders") if instance.address == address]
    return found[0].state if found else None


def ended(process: Process) -> int:
    """Waits until a process ends by itself; returns its exit code."""
    until(lambda: not process.running, "the process ended")
    return process.stop()


@final
class Caller:
    """Callers in threads that use one of two servers and leave it when an answer says that it drains."""

    def __init__(self, ports: list[int]) -> None:
        self._channels = [grpc.insecure_channel(f"127.0.0.1:{port}") for port in ports]
        self._gets = [channel.unary_unary(CALL) for channel in self._channels]
        self._ids = itertools.count()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.made = 0  # guarded by _lock
        self.failures: list[str] = []  # guarded by _lock
        self.using = 0  # the server the last caller moved to
        # Every second caller calls rarely: it hears of the drain by its next call only, long after the others have.
        self._threads = [threading.Thread(target=self._run, args=(number % 2 * 0.1,)) for number in range(CALLERS)]

    def __enter__(self) -> Caller:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        for channel in self._channels:
            channel.close()

    def _run(self, pause: float) -> None:
        using = 0  # each caller hears for itself
        while not self._stopping.wait(pause):
            request = str(next(self._ids)).encode()
            problem = ""
            try:
                answer, call = self._gets[using].with_call(request, timeout=10)
                assert answer == request
                if DRAINING_KEY in dict(call.trailing_metadata()):
                    using = self.using = 1 - using
            except grpc.RpcError as error:
                problem = f"{using}: {error.code().name}: {error.details()}"
            with self._lock:
                self.made += 1
                self.failures += [problem] if problem else []

    def more(self, count: int) -> None:
        """Waits until `count` further calls were made."""
        goal = self.made + count
        until(lambda: self.made >= goal, f"{count} more calls")


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_a_rolling_restart_loses_no_call(plane, kind):
    """Of two servers under 16 callers one gets SIGTERM: it exits 0, no call fails and none is executed twice."""
    first, port_a = served(plane, kind)
    second, port_b = served(plane, kind)
    with first, second:
        with Caller([port_a, port_b]) as caller:
            caller.more(500)
            assert caller.using == 0
            os.kill(first.pid, signal.SIGTERM)
            ledger = json.loads(first.line())
            caller.more(200)
        assert caller.failures == []
        assert caller.using == 1
        assert ended(first) == 0
        assert state(plane, f"127.0.0.1:{port_a}") is None
        assert state(plane, f"127.0.0.1:{port_b}") is InstanceState.ONLINE
        os.kill(second.pid, signal.SIGTERM)
        other = json.loads(second.line())
        assert ledger["calls"] + other["calls"] == caller.made
        assert ledger["most"] == other["most"] == 1
        assert ended(second) == 0
        assert "Traceback" not in first.errors + second.errors


@pytest.mark.parametrize("kind", ["sync", "aio"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_zero(plane, kind, number):
    """SIGTERM and Ctrl-C alike: DRAINING in the registry, then gone, exit code 0 and nothing on stderr."""
    process, port = served(plane, kind)
    with process:
        os.kill(process.pid, number)
        until(lambda: state(plane, f"127.0.0.1:{port}") is InstanceState.DRAINING, "it drains")
        process.line()
        assert ended(process) == 0
        assert state(plane, f"127.0.0.1:{port}") is None
        assert process.errors == ""


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_a_second_signal_stops_at_once(plane, kind):
    """With a call that hangs the drain waits; a second signal ends it, deregistered all the same."""
    process, port = served(plane, kind)
    with process, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        hanging = channel.unary_unary(CALL).future(b"hang")
        channel.unary_unary(CALL)(b"after", timeout=10)
        os.kill(process.pid, signal.SIGTERM)
        until(lambda: state(plane, f"127.0.0.1:{port}") is InstanceState.DRAINING, "it drains")
        os.kill(process.pid, signal.SIGTERM)
        until(lambda: state(plane, f"127.0.0.1:{port}") is None, "it left")
        assert hanging.exception(timeout=20) is not None


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_a_killed_process_lapses(plane, kind):
    """SIGKILL gives no chance to deregister: the instance is gone when its lease runs out."""
    plane.granted = 1
    process, port = served(plane, kind)
    with process:
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: state(plane, f"127.0.0.1:{port}") is None, "the lease lapsed")
