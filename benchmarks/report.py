"""What a benchmark found: tables for people, JSON for machines, series for a plot; and each limit beside its figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.spread import Spread


@dataclass(frozen=True, slots=True)
class Check:
    """One figure beside its limit. `at_most`: the figure must not be above `limit`, else not below it."""

    what: str
    value: float
    limit: float
    at_most: bool = True
    unit: str = "x"
    low: float | None = None
    high: float | None = None

    @property
    def met(self) -> bool:
        """Whether the figure is within the limit."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    @property
    def verdict(self) -> str:
        """`met`, or by how much it is missed: as a factor from twice on, in percent below; of a limit of 0, by what."""
        if self.met:
            return "met"
        if not self.limit:
            return f"MISSED by {number(self.value, self.unit)}"
        over = self.value / self.limit if self.at_most else self.limit / self.value
        return f"MISSED by {over:.1f}x" if over >= 2 else f"MISSED by {(over - 1) * 100:.1f} %"

    def cells(self) -> tuple[str, ...]:
        """The row of the table of limits."""
        interval = "" if self.low is None or self.high is None else f"{number(self.low)}..{number(self.high)}"
        sign = "<=" if self.at_most else ">="
        limit = f"{sign} {number(self.limit, self.unit)}"
        return self.what, number(self.value, self.unit), interval, limit, self.verdict


def ratio_check(what: str, found: Spread, limit: float, *, at_most: bool = True) -> Check:
    """Returns the check of a ratio with its interval."""
    return Check(what, found.median, limit, at_most, "x", found.low, found.high)


def number(value: float, unit: str = "") -> str:
    """Writes a number with four significant digits, or whole above a thousand."""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{text}{'' if unit in ('', 'x') else ' '}{unit}"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of words under a title."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def lines(self) -> list[str]:
        """Returns the table as text; the first column is left-aligned, the others right."""
        grid = [tuple(self.columns), *(tuple(row) for row in self.rows)]
        widths = [max(len(row[i]) for row in grid) for i in range(len(self.columns))]
        text = [
            "  ".join([row[0].ljust(widths[0]), *(cell.rjust(widths[i]) for i, cell in enumerate(row[1:], 1))])
            for row in grid
        ]
        return ["", self.title, "-" * len(text[0]), text[0], "-" * len(text[0]), *text[1:]]


@dataclass(frozen=True, slots=True)
class Plot:
    """Series of (x, y) on logarithmic axes; or, with `bars`, one value per name against the limit it has."""

    title: str
    x: str
    y: str
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    bars: Sequence[Check] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one benchmark."""

    name: str  # "B1"
    title: str
    tables: Sequence[Table]
    checks: Sequence[Check]
    notes: Sequence[str]
    plot: Plot
    data: dict[str, Any]

    def text(self) -> str:
        """Returns tables, limits and notes."""
        out = [f"== {self.name} {self.title} =="]
        for table in self.tables:
            out += table.lines()
        columns = ("against its limit", "figure", "95 % interval", "limit", "verdict")
        out += Table("Limits", columns, [check.cells() for check in self.checks]).lines()
        out += ["", *(f"  - {note}" for note in self.notes), ""]
        return "\n".join(out)

    def write(self, folder: Path, machine: str, *, quick: bool) -> Path:
        """Writes NAME.json; returns its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name.lower()}.json"
        content = {
            "benchmark": self.name,
            "title": self.title,
            "machine": machine,
            "quick": quick,
            "checks": [{**asdict(check), "met": check.met, "verdict": check.verdict} for check in self.checks],
            "tables": [asdict(table) for table in self.tables],
            "notes": list(self.notes),
            "data": self.data,
        }
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return path
