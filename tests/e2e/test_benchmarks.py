"""`python -m benchmarks`, as `make bench` runs it: the cheapest benchmark, for its form and never for its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.e2e.processes import ROOT

_SECONDS = 100.0


def test_quick_run_prints_tables_and_writes_json(tmp_path: Path) -> None:
    """A quick run of B7 ends well, prints machine, tables and a verdict beside each limit, and writes them as JSON."""
    command = [sys.executable, "-m", "benchmarks", "b7", "--quick", "--json", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert "Machine: " in done.stdout
    assert "== B7 start ==" in done.stdout
    written = json.loads((tmp_path / "b7.json").read_text(encoding="utf-8"))
    assert written["quick"] is True
    assert written["machine"] in done.stdout
    for check in written["checks"]:
        assert check["value"] > 0
        assert check["met"] is (check["verdict"] == "met")
        assert check["what"] in done.stdout
    assert {table["title"] for table in written["tables"]} == {"From a fresh interpreter"}
    assert all(rounds for rounds in written["data"]["calls"].values())


def test_unknown_benchmark_is_refused(tmp_path: Path) -> None:
    """A name that is no benchmark ends with usage and exit code 2, and nothing is written."""
    command = [sys.executable, "-m", "benchmarks", "b99", "--json", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert done.returncode == 2
    assert "no benchmark b99" in done.stderr
    assert not list(tmp_path.iterdir())
