"""Settings for all tests.

Property tests have no deadline (the machine is shared) and print the input that failed. Tests of real servers and
processes are run once more where they fail.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "meshsdk",
    deadline=None,
    max_examples=60,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("meshsdk")

_HERE = Path(__file__).parent
_WITH_PROCESSES = (_HERE / "e2e", _HERE / "contract" / "registries")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has a test of real processes that failed run once more: they share two cores with whatever else runs.

    The report lists each one that did (`RERUN`), so what fails now and then is seen; a test that fails twice fails.
    """
    for item in items:
        if any(folder in item.path.parents for folder in _WITH_PROCESSES):
            item.add_marker(pytest.mark.flaky(reruns=1))
