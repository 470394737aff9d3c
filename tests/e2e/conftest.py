"""Fixtures of the end-to-end tests: backends that tell their name, and a control plane per module."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.peers.plane import Plane
from tests.e2e.processes import python


@pytest.fixture(scope="session")
def backends() -> Iterator[dict[str, int]]:
    """The ports of gRPC servers `a` and `b`, which answer every unary call with their name."""
    with python("tests/e2e/peers/backend.py", "a", "b") as process:
        yield json.loads(process.line())


@pytest.fixture(scope="module")
def plane() -> Iterator[Plane]:
    """A running control plane, empty at first."""
    started = Plane()
    started.start()
    yield started
    started.stop()
