"""The moments that `meshctl rollout-report` is given."""

from __future__ import annotations

import time

import pytest

from controlplane.cli import main
from controlplane.commands.rollout import moment


@pytest.mark.parametrize(("text", "ago"), [("90s", 90), ("10m", 600), ("1.5h", 5_400), ("2d", 172_800), ("0s", 0)])
def test_ago(text, ago, monkeypatch):
    """A time that lies so long ago."""
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    assert moment(text) == 1_000_000.0 - ago


@pytest.mark.parametrize("text", ["2001-09-09T01:46:40Z", "2001-09-09T03:46:40+02:00"])
def test_iso(text):
    """A time as ISO 8601 has it."""
    assert moment(text) == 1_000_000_000.0


@pytest.mark.parametrize(
    "text", ["yesterday", "10", "-5m", "5 m", "", "99999999d", "9" * 400 + "d", "0001-01-01", "1960-01-01"]
)
def test_wrong_usage(text, capsys):
    """What is no time is wrong usage."""
    with pytest.raises(SystemExit) as ended:
        main(["rollout-report", "--since", text] if text != "-5m" else ["rollout-report", f"--since={text}"])
    assert ended.value.code == 2
    complaint = capsys.readouterr().err
    assert "expected 90s, 10m, 2h, 1d, or ISO 8601" in complaint
    assert "9" * 50 not in complaint
