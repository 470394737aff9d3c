"""Reads typed values out of a YAML tree and says exactly where one is wrong. Used by every decoder of `config`.

A `Field` is a node with its path. Its methods return a value or raise FieldRefused; `Record` checks the names of a
map before anything else, so that a misspelt field is always the first thing said about it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

from controlplane.config.problems import FieldRefused, Problem
from controlplane.config.tree import Node
from controlplane.model.identity import Origin

_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|m|s)")
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
MAX_DURATION = 10 * 365 * 86400.0  # seconds; protobuf allows more, no route does

_T = TypeVar("_T")


@dataclass(slots=True)
class Reading:
    """What one document's decoding shares: the file's name, and what was read and has no effect (appended to)."""

    file: str
    warnings: list[Problem] = field(default_factory=list)


def _shown(node: Node) -> str:
    return f"a {node.kind}" if node.kind in {"map", "list"} else f"the {node.kind} {node.text[:60]}".rstrip()


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a document. `line` counts from 1."""

    reading: Reading
    node: Node
    path: str

    @property
    def origin(self) -> Origin:
        """The place of this value."""
        return Origin(self.reading.file, self.node.line, self.path)

    def refuse(self, what: str) -> NoReturn:
        """Raises FieldRefused for this place."""
        raise FieldRefused(Problem(self.origin, what))

    def warn(self, what: str) -> None:
        """Notes something that is accepted and has no effect."""
        self.reading.warnings.append(Problem(self.origin, what))

    def record(
        self, known: Collection[str], ignored: Collection[str] = (), refused: Mapping[str, str] | None = None
    ) -> Record:
        """Reads a map with named fields.

        Args:
            known: names the caller reads.
            ignored: names that Istio has and that have no effect here: each becomes a warning.
            refused: names that Istio has and that would change the meaning if they were left out: name -> reason.
        """
        if self.node.kind != "map":
            self.refuse(f"expected a map, got {_shown(self.node)}")
        reasons = refused or {}
        for name, value in self.node.entries.items():
            place = Field(self.reading, _at(value, self.node.keys[name]), f"{self.path}.{name}" if self.path else name)
            if name in reasons:
                place.refuse(reasons[name])
            if name in ignored:
                place.warn("has no effect in this version")
            elif name not in known:
                close = difflib.get_close_matches(name, [*known, *ignored, *reasons], 1)
                place.refuse("unknown field" + (f", did you mean {close[0]}?" if close else ""))
        return Record(self)

    def items(self, least: int = 0, most: int = 10_000) -> list[Field]:
        """Reads a list of `least` to `most` items."""
        if self.node.kind != "list":
            self.refuse(f"expected a list, got {_shown(self.node)}")
        if not least <= len(self.node.items) <= most:
            self.refuse(f"expected {least} to {most} items, got {len(self.node.items)}")
        return [Field(self.reading, item, f"{self.path}[{index}]") for index, item in enumerate(self.node.items)]

    def pairs(self, most: int = 1_000) -> Iterator[tuple[str, Field]]:
        """Reads a map whose keys are data."""
        if self.node.kind != "map":
            self.refuse(f"expected a map, got {_shown(self.node)}")
        if len(self.node.entries) > most:
            self.refuse(f"expected at most {most} entries, got {len(self.node.entries)}")
        for name, value in self.node.entries.items():
            yield name, Field(self.reading, value, f"{self.path}[{name}]")

    def text(self, most: int = 1_024) -> str:
        """Reads a string of 1 to `most` characters."""
        if self.node.kind != "string":
            hint = "; quote it" if self.node.kind in {"number", "boolean", "timestamp"} else ""
            self.refuse(f"expected a string, got {_shown(self.node)}{hint}")
        if not self.node.text:
            self.refuse("must not be empty")
        if len(self.node.text) > most:
            self.refuse(f"longer than {most} characters")
        return self.node.text

    def matching(self, pattern: re.Pattern[str], what: str) -> str:
        """Reads a string that matches `pattern` as a whole; `what` describes it in the error."""
        text = self.text()
        if not pattern.fullmatch(text):
            self.refuse(f"{text!r} is not {what}")
        return text

    def choice(self, choices: Mapping[str, _T]) -> _T:
        """Reads one of the names in `choices`."""
        text = self.text()
        if text not in choices:
            self.refuse(f"expected one of {', '.join(choices)}, got {text!r}")
        return choices[text]

    def integer(self, low: int, high: int) -> int:
        """Reads a whole number in [low, high]."""
        text = self.node.text
        if self.node.kind != "number" or not re.fullmatch(r"[+-]?\d{1,18}", text):
            self.refuse(f"expected a whole number, got {_shown(self.node)}")
        value = int(text)
        if not low <= value <= high:
            self.refuse(f"expected {low} to {high}, got {value}")
        return value

    def number(self, low: float, high: float) -> float:
        """Reads a number in [low, high]."""
        if self.node.kind != "number" or not re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)", self.node.text[:40]):
            self.refuse(f"expected a number, got {_shown(self.node)}")
        value = float(self.node.text)
        if not low <= value <= high:
            self.refuse(f"expected {low:g} to {high:g}, got {value:g}")
        return value

    def boolean(self) -> bool:
        """Reads true or false."""
        if self.node.kind != "boolean":
            self.refuse(f"expected true or false, got {_shown(self.node)}")
        return self.node.text.lower() in {"true", "yes", "on"}

    def duration(self, least: float = 0.0) -> float:
        """Reads a duration such as `250ms`, `1.5s` or `1h30m`; returns seconds, at least `least`."""
        text = self.node.text
        parts = _DURATION_PART.findall(text) if self.node.kind == "string" and len(text) <= 64 else []  # noqa: PLR2004
        if not parts or "".join(number + unit for number, unit in parts) != text:
            self.refuse(f"expected a duration such as 250ms, 2s or 1h30m, got {_shown(self.node)}")
        seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
        if not least <= seconds <= MAX_DURATION:
            shortest = f"{least:g}s" if not 0 < least < 1 else f"{least * 1000:g}ms"
            self.refuse(f"expected at least {shortest} and at most {MAX_DURATION:g}s, got {text}")
        return seconds

    def labels(self) -> dict[str, str]:
        """Reads a map of strings to strings."""
        return {_sized(name, value): value.text() for name, value in self.pairs(most=64)}


def _sized(name: str, value: Field) -> str:
    if not 1 <= len(name) <= 317:  # noqa: PLR2004 - Kubernetes: prefix of 253, "/", name of 63
        value.refuse("a label's name has 1 to 317 characters")
    return name


def _at(node: Node, line: int) -> Node:
    """Returns `node` as if it stood on `line`: a wrong name is reported where it is, not where its value starts."""
    return Node(node.kind, line, node.text, node.items, node.entries, node.keys, node.weight)


@dataclass(frozen=True, slots=True)
class Record:
    """A map with named fields whose names have been checked."""

    whole: Field

    def get(self, name: str) -> Field | None:
        """Returns the field, or None where it is absent or null."""
        node = self.whole.node.entries.get(name)
        if node is None or node.kind == "nothing":
            return None
        path = self.whole.path
        return Field(self.whole.reading, node, f"{path}.{name}" if path else name)

    def require(self, name: str) -> Field:
        """Returns the field. Raises FieldRefused where it is absent."""
        found = self.get(name)
        if found is None:
            path = self.whole.path
            place = Origin(self.whole.reading.file, self.whole.node.line, f"{path}.{name}" if path else name)
            raise FieldRefused(Problem(place, "required field is missing"))
        return found

    def read(self, name: str, how: Callable[[Field], _T]) -> _T | None:
        """Returns `how(field)`, or None where the field is absent."""
        found = self.get(name)
        return None if found is None else how(found)

    def one_of(self, names: Iterable[str]) -> Field | None:
        """Returns the only one of `names` that is present, or None. Raises FieldRefused where two are."""
        present = [found for name in names if (found := self.get(name)) is not None]
        if len(present) > 1:
            present[1].refuse(f"only one of {', '.join(names)} may be given")
        return present[0] if present else None
