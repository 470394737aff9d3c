"""The stage of a scenario, one for each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.loss.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A registry and a control plane, without servers and callers."""
    with ExitStack() as stack:
        yield Stage(stack, tmp_path)
