"""What YAML becomes on the wire, to the last field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.controlplane.translate.worked_examples import examples, translated


@pytest.mark.parametrize("example", examples(), ids=lambda path: path.stem)
def test_translation(example: Path) -> None:
    """Each example translates to exactly the resources beside it."""
    assert translated(example) == json.loads(example.with_suffix(".json").read_text())
