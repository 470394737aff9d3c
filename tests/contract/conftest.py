"""Fixtures of the channel contract: backends, an event loop on a thread, and a `lab` per façade and path."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.contract.channel_backend import Backend
from tests.contract.channel_callers import PATIENCE, LoopThread
from tests.contract.channels import FACADES, PATHS, Lab


@pytest.fixture(scope="module")
def shared() -> Iterator[Backend]:
    """A backend that cases share which do not count or stop it."""
    with Backend() as running:
        yield running


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A backend of the test's own."""
    with Backend() as running:
        yield running


@pytest.fixture(scope="module")
def loop_thread() -> Iterator[LoopThread]:
    """An event loop on a thread of its own, for the asyncio façade."""
    thread = LoopThread()
    yield thread
    thread.stop()


@pytest.fixture(params=FACADES)
def facade(request) -> str:
    """`sync` or `aio`."""
    return request.param


@pytest.fixture(params=PATHS)
def path(request) -> str:
    """`plain` is grpcio itself: the yardstick."""
    return request.param


def _own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("meshsdk-")]


def _checked(facade: str, path: str, loop_thread: LoopThread) -> Iterator[Lab]:
    lab = Lab(facade, path, loop_thread)
    loop_thread.problems.clear()
    yield lab
    lab.close()
    deadline = time.monotonic() + PATIENCE
    while _own_threads() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert _own_threads() == []
    assert loop_thread.problems == []


@pytest.fixture
def lab(facade, path, loop_thread) -> Iterator[Lab]:
    """Opens channels of every façade on every path; afterwards no thread and no complaint of the loop is left."""
    yield from _checked(facade, path, loop_thread)


@pytest.fixture
def mesh_lab(facade, loop_thread) -> Iterator[Lab]:
    """`lab` for what only the mesh does."""
    yield from _checked(facade, "mesh", loop_thread)
