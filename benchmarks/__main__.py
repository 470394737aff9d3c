"""`python -m benchmarks [NAME ...] [--quick] [--json DIR]`: runs benchmarks, prints tables, writes JSON and PNG."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from benchmarks import machine, plots
from benchmarks.report import Report

_MODULES = {
    "b1": "benchmarks.call_cost",
    "b2": "benchmarks.endpoint_churn",
    "b3": "benchmarks.memory",
    "b4": "benchmarks.control_plane",
    "b5": "benchmarks.discovery_data",
    "b6": "benchmarks.loss",
    "b7": "benchmarks.start",
    "shim": "benchmarks.shim_cost",
    "drills": "benchmarks.drills",
    "overload": "benchmarks.overload",
}
_RESULTS = Path(__file__).resolve().parent / "results"


def main() -> int:
    """Runs what the arguments name. A missed limit is a figure, not an error: the exit code stays 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(_MODULES)}; none: all")
    parser.add_argument("--quick", action="store_true", help="few rounds and small sizes: shows that it runs, no more")
    parser.add_argument("--json", type=Path, default=_RESULTS, metavar="DIR", help="for JSON and plots")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in _MODULES]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(_MODULES)}")
    here = machine.describe()
    print(f"Machine: {here}\n", flush=True)
    for name in options.names or _MODULES:
        began = time.monotonic()
        report: Report = importlib.import_module(_MODULES[name]).run(quick=options.quick)
        print(report.text())
        path = report.write(options.json, here, quick=options.quick)
        picture = path.with_suffix(".png")
        drawn = picture if plots.draw(report.plot, picture, here) else "no plot (matplotlib is not installed)"
        print(f"{report.name} took {time.monotonic() - began:.0f} s; {path}, {drawn}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
