"""The ways to call, once for all rows, and the table of what was measured, after the tests' summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.e2e.parity.rows import Found, Row, shown
from tests.e2e.parity.ways import WAYS, Way, all_ways

_MEASURED = pytest.StashKey[dict[str, tuple[Row, Mapping[str, Found]]]]()


@pytest.fixture(scope="module")
def ways() -> Iterator[dict[str, Way]]:
    """Every way to call, connected."""
    with all_ways() as found:
        yield found


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> dict[str, tuple[Row, Mapping[str, Found]]]:
    """What was measured so far, for the table."""
    return request.config.stash.setdefault(_MEASURED, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the table. `!`: not what the row says."""
    found = config.stash.get(_MEASURED, {})
    if not found:
        return
    grid = [("Parity with stock peers", *WAYS)]
    for row, values in found.values():
        cells = (shown(values[way], row.unit) + ("" if row.expected(way).holds(values[way]) else " !") for way in WAYS)
        grid.append((f"{row.policy}: {row.what}", *cells))
    widths = [max(len(line[column]) for line in grid) for column in range(len(grid[0]))]
    terminalreporter.section("parity")
    for line in grid:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
