"""The query of `GET /v1/rollout-report`."""

from __future__ import annotations

import pytest

from controlplane.admin.rollout import RolloutReports
from controlplane.loads.book import LoadBook
from controlplane.plane import Plane
from controlplane.store.memory import MemoryStore
from meshsdk.errors import ConfigurationError


@pytest.fixture
def reports() -> RolloutReports:
    """The reports of a control plane without clients, soon after 1970 began."""
    return RolloutReports(LoadBook(0.0), Plane(None, MemoryStore(), lambda: 0.0, lambda: None), list, lambda: 500.0)


@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize("value", ["-1", "-1e300", "1e300", "1e15", "nan", "-inf", "9" * 400, "yesterday"])
def test_times_out_of_bounds(reports, name, value):
    """What is no time that a report can show is refused in one short line that names it."""
    with pytest.raises(ConfigurationError) as refused:
        reports.report({name: [value]})
    words = str(refused.value)
    assert words.startswith(f"{name}=")
    assert words.endswith("expected unix seconds, from 0 to 253402300799")
    assert len(words) < 120


def test_the_whole_range(reports):
    """The widest span there is makes a report; so does the first ten minutes of all time."""
    assert reports.report({"since": ["0"], "until": ["253402300799"]})["total"]["calls"] == 0
    assert reports.report({})["since"] == 0
