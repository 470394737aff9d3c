"""Settings for all tests.

Property tests have no deadline (the machine is shared) and print the input that failed. Tests of real servers and
processes are run once more where they fail.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.endings import Ending

settings.register_profile(
    "meshsdk",
    deadline=None,
    max_examples=60,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("meshsdk")

_HERE = Path(__file__).parent
_ENDING = Ending()
# What may be the machine's doing: a condition that took too long. A call that was lost or doubled never is.
_TOO_LATE = ("not within", "Timeout")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has a test of real servers run once more: they share two cores with others. Of processes where it took too long.

    The report lists each one that did (`RERUN`), so what fails now and then is seen; a test that fails twice fails.
    """
    for item in items:
        if _HERE / "e2e" in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=1, only_rerun=_TOO_LATE))
        elif _HERE / "contract" in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    """From here on nothing that tests left behind holds the run."""
    _ENDING.watch(int(exitstatus))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Names what tests left behind: processes, which are ended here, and threads that Python waits for."""
    for line in (*_ENDING.left_processes(), *_ENDING.left_threads()):
        terminalreporter.write_line(f"LEFT BEHIND {line}", yellow=True)
