"""Our SDK, stock grpcio `xds:///` and stock Envoy on one YAML: each row of docs/parity.md, measured."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.parity import document
from tests.e2e.parity.rows import ROWS, Found, Row
from tests.e2e.parity.ways import Way


@pytest.mark.envoy
@pytest.mark.parametrize("row", ROWS, ids=[f"{row.policy}: {row.what}" for row in ROWS])
def test_every_way_does_what_the_row_says(
    ways: dict[str, Way], measured: dict[str, tuple[Row, Mapping[str, Found]]], row: Row
) -> None:
    """All ways are measured at the same time; each has to give what the row says of it."""
    with ThreadPoolExecutor(len(ways)) as pool:
        found = dict(zip(ways, pool.map(lambda name: row.measure(ways, name), ways), strict=True))
    measured[row.what] = (row, found)
    wrong = {name: (value, row.expected(name)) for name, value in found.items() if not row.expected(name).holds(value)}
    assert not wrong


def test_document_is_made_of_the_rows() -> None:
    """docs/parity.md says what the rows say; `python -m tests.e2e.parity.document` writes it."""
    assert document.PLACE.read_text(encoding="utf-8") == document.text()
