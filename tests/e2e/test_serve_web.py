"""Web applications as instances: under uvicorn and gunicorn, restarted under load without a lost call."""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import final

import pytest

from meshsdk.discovery.memory import MemoryRegistry
from meshsdk.interceptors.activity import DRAINING_KEY
from meshsdk.model.instance import InstanceState
from tests.contract.registration_server import RegistrationServer
from tests.e2e.processes import Process, python, until
from tests.e2e.test_serve import environment

CALLERS = 8
APP = "tests/e2e/peers/web_app.py"


@pytest.fixture
def plane() -> Iterator[RegistrationServer]:
    """A registration service, made from the proto alone."""
    server = RegistrationServer(MemoryRegistry())
    server.start()
    yield server
    server.stop()


def online(plane: RegistrationServer) -> list[str]:
    """The addresses that are ONLINE."""
    return [one.address for one in plane.registry.instances("web") if one.state is InstanceState.ONLINE]


def states(plane: RegistrationServer, address: str) -> list[InstanceState]:
    """The states of the instances at an address."""
    return [one.state for one in plane.registry.instances("web") if one.address == address]


def free_address() -> str:
    """A free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def started(plane: RegistrationServer, kind: str, folder: str) -> tuple[Process, str]:
    """Starts a web server of `kind`; returns it and its address once it is ONLINE."""
    address = free_address()
    env = {**environment(plane.address), "MESHSDK_TEST_ADDRESS": address, "MESHSDK_RUN_DIR": folder}
    if kind == "uvicorn":
        process = python(APP, address.split(":")[1], address, "0.5", env=env)
    else:
        options = ("-c", "tests/e2e/peers/gunicorn_conf.py", "-k", kind.split()[1], "--log-level", "warning")
        target = ("tests.e2e.peers.web_app:application",)
        process = Process(sys.executable, "-m", "gunicorn", *options, *target, env=env)
    try:
        until(lambda: address in online(plane), f"{address} is online")
    except AssertionError:
        process.stop()
        raise AssertionError(process.errors) from None
    return process, address


@final
class WebLoad:
    """Callers that keep connections to instances that are ONLINE, and leave them when they are told to."""

    def __init__(self, plane: RegistrationServer) -> None:
        self._plane = plane
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.made = 0  # guarded by _lock
        self.failures: list[str] = []  # guarded by _lock
        self._threads = [threading.Thread(target=self._run) for _ in range(CALLERS)]

    def __enter__(self) -> WebLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            address = random.choice(online(self._plane))
            connection = http.client.HTTPConnection(address, timeout=10)
            try:
                while not self._over.is_set() and address in online(self._plane) and self._call(connection):
                    pass
            except (OSError, http.client.HTTPException) as error:
                with self._lock:
                    self.failures.append(f"{address}: {error!r}")
            connection.close()

    def _call(self, connection: http.client.HTTPConnection) -> bool:
        """Calls; returns whether the connection may be used again."""
        connection.request("GET", "/orders")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"/orders")
        with self._lock:
            self.made += 1
        return not answer.will_close and answer.getheader(DRAINING_KEY) is None

    def more(self, count: int) -> None:
        """Waits until `count` further calls were made."""
        goal = self.made + count
        until(lambda: self.made >= goal, f"{count} more calls")


@pytest.mark.parametrize("kind", ["uvicorn", "gunicorn sync", "gunicorn gthread"])
def test_a_web_server_restarts_without_losing_a_call(plane, kind, tmp_path):
    """Of two servers under load one gets SIGTERM: it is DRAINING, leaves the registry, then stops; no call is lost."""
    seen: list[InstanceState] = []
    plane.registry.watch("web", "", lambda increment: seen.extend(one.state for one in increment.put))
    first, address = started(plane, kind, str(tmp_path))
    with first:
        second, other = started(plane, kind, str(tmp_path))
        with second:
            assert sorted(online(plane)) == sorted([address, other])  # one instance for all its workers
            with WebLoad(plane) as load:
                load.more(100)
                os.kill(first.pid, signal.SIGTERM)
                until(lambda: not first.running, "the first server ended")
                load.more(100)
            assert load.failures == []
            assert InstanceState.DRAINING in seen
            assert states(plane, address) == []
            assert online(plane) == [other]
            assert "Traceback" not in first.errors


def test_a_registration_does_not_outlive_its_gunicorn(plane, tmp_path):
    """The arbiter is killed: its registrar notices and takes the instance out, long before the lease runs out."""
    plane.granted = 600
    process, address = started(plane, "gunicorn sync", str(tmp_path))
    with process:
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: states(plane, address) == [], "the instance is gone")
