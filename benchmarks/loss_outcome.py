"""What came of one way to replace servers, proxies or paths under load: for the tables of `loss`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.loss.stage import Serving, Stage
from tests.e2e.loss.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Outcome:
    """`steps`: how often something was replaced or turned. `promised`: none may fail and none be doubled."""

    name: str
    steps: int
    verdict: Verdict
    promised: bool

    def cells(self) -> tuple[str, ...]:
        """The row of a table."""
        counts = self.verdict.counts()
        untrue = counts["lost"] + counts["short"] + counts["unknown"]
        figures = (counts["made"], counts["failed"], counts["doubled"], untrue)
        each = f"{counts['failed'] / self.steps:.2f}"
        return self.name, str(self.steps), *(f"{figure:,}" for figure in figures), each


COLUMNS = ("", "times", "calls", "failed", "doubled", "untrue", "failed each time")


def stage_of(stack: ExitStack, serving: Serving, app: str = "orders") -> Stage:
    """Starts a registry and a control plane that end with `stack`."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="meshsdk-bench-"))
    return Stage(stack, Path(folder), serving, app)


@contextmanager
def turn_of(stage: Stage) -> Iterator[None]:
    """Has the callers of a stage call, and stand still again afterwards."""
    stage.counts("go")
    stage.goes_on()
    yield
    stage.goes_on()
    stage.counts("pause")
