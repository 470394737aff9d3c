"""Every runnable example is run as its docstring says, and what it prints is what it promises."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.e2e.processes import ROOT


def printed(out: str) -> object:
    """The Python value on the last line."""
    return ast.literal_eval(out.strip().splitlines()[-1])


def twenty_calls(out: str) -> None:
    """20 calls, answered by the two instances; the first to be connected may have answered them all."""
    answers = printed(out)
    assert set(answers) <= {"orders-1", "orders-2"}
    assert sum(answers.values()) == 20


def canary(out: str) -> None:
    """About 90/10 before, all on v2 after."""
    before, after = out.strip().splitlines()[-1].removeprefix("90/10:").split("0/100:")
    counts = ast.literal_eval(before.strip())
    assert sum(counts.values()) == 500
    assert 15 <= counts["v2"] <= 100  # 50 +- 5 standard deviations
    assert ast.literal_eval(after.strip()) == {"v2": 500}


def callers(out: str) -> None:
    """Each application gets its own version."""
    assert printed(out) == {"web": "v1", "batch": "v2"}


def field(out: str) -> None:
    """Gold gets v2, everybody else v1."""
    assert printed(out) == {"gold": "v2", "silver": "v1", "": "v1"}


def streams(out: str) -> None:
    """Three answers, ten counted requests, three echoes."""
    assert out.strip().splitlines()[-1] == "['42/placed', '42/packed', '42/sent'] 10 ['0', '1', '2']"


def units(out: str) -> None:
    """Calls stay in their unit, leave it by the exit, are refused without one, and move with the drained unit."""
    assert printed(out) == {
        "east, key 12": "orders-east",
        "east, no key": "orders-east",
        "east, key 77": "orders-west",
        "west, key 12": "UNAVAILABLE",
        "gateway, key 77": "orders-west",
        "gateway, key 77, west drained": "orders-east",
    }


def lifecycle(output: str) -> None:
    """Not online before it is ready; the stream ends with the handler's own last word."""
    words = ["online within 0.2 s: False", "online when ready: True", "/readyz: 200"]
    assert output.splitlines() == [*words, "42/placed", "42/packed", "42/sent", "42/go on elsewhere"]


def resilience(out: str) -> None:
    """About half of the calls meet the fault; the fourth upload is refused, in words that a program can read."""
    counts, limited = out.strip().splitlines()[-1].split("} ")
    faults = ast.literal_eval(counts + "}")
    assert sum(faults.values()) == 200
    assert 65 <= faults["UNAVAILABLE"] <= 135  # 100 +- 5 standard deviations
    assert ast.literal_eval(limited) == [
        *["OK"] * 3,
        "RESOURCE_EXHAUSTED",
        "LOCAL_RATE_LIMITED",
        "with the time to wait",
    ]


def observed(out: str) -> None:
    """A span of the call and one of its attempt, A66's metrics, and a line of the access log."""
    last = out.strip().splitlines()[-1]
    assert last.startswith(
        "['orders.v1.Orders/Get', 'orders.v1.Orders/Get'] ['grpc_client_call_duration_seconds_bucket'"
    )
    assert last.endswith(
        "{'target': 'xds:///orders', 'method': '/orders.v1.Orders/Get', 'status': 'OK', 'attempts': 1}"
    )


EXPECTED: dict[str, Callable[[str], None]] = {
    "asyncio_client": twenty_calls,
    "calling_application": callers,
    "going_online": lifecycle,
    "observing": observed,
    "quickstart": twenty_calls,
    "registry_direct": twenty_calls,
    "request_field": field,
    "resilience": resilience,
    "streaming": streams,
    "unchanged_program": twenty_calls,
    "units": units,
    "weighted_canary": canary,
}


def runnable() -> list[str]:
    """The examples with a `main`."""
    names = []
    for path in sorted((ROOT / "examples").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "main" for node in tree.body):
            names.append(path.stem)
    return names


def run(*command: str, warnings: str = "error") -> str:
    """Runs Python to the end and returns what it printed."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": warnings},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("name", runnable())
def test_example(name):
    """`python -m examples.NAME` prints what the example promises; an example without an expectation here fails."""
    assert name in EXPECTED, f"say in EXPECTED what examples/{name}.py prints"
    EXPECTED[name](run("-m", f"examples.{name}"))


def test_no_expectation_is_left_over():
    """Every expectation has its example."""
    assert set(EXPECTED) == set(runnable())


def test_demo():
    """`examples/demo/demo.py --quick` shows each phase of the main job and loses no call outside of the kill."""
    lines = run("examples/demo/demo.py", "--quick", warnings="default").strip().splitlines()
    assert lines[-1] == "drained instance exited 0; calls lost outside of the kill: 0"
    summary = [line for line in lines if "calls answered" in line]
    assert len(summary) == 6
    lost = [line for line in summary if " 0 failed" not in line]
    assert all("killed" in line for line in lost)
    rows = [line.rsplit(None, 5) for line in lines if line[-1:].isdigit() and "lost" not in line]
    by_phase = {phase.strip(): [int(value) for value in counts] for phase, *counts in rows}  # the last second of each
    v1, v2, gold_v1, gold_v2, _ = by_phase["gold users to v2 (request field)"]
    assert v1 > v2 > 0
    assert gold_v2 > gold_v1
    assert by_phase["canary 0/100"][0] == 0
    assert by_phase["canary 90/10"][0] > 2 * by_phase["canary 90/10"][1] > 0
