"""The tree of a parsed pattern: written by `syntax`, read by `program`. Values only."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from meshsdk.routing.linear_regex.charset import Ranges


class AssertKind(enum.Enum):
    """What an empty-width assertion asks of the characters before and after it."""

    TEXT_START = "\\A"
    TEXT_END = "\\z"
    LINE_START = "(?m:^)"
    LINE_END = "(?m:$)"
    WORD_BOUNDARY = "\\b"
    NOT_WORD_BOUNDARY = "\\B"


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of the set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Assert:
    """No character, but a condition on the place."""

    kind: AssertKind


@dataclass(frozen=True, slots=True)
class Concat:
    """The items one after another; none at all is the empty pattern."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Alternate:
    """Any of the branches, the first preferred."""

    branches: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`least` to `most` (None: without end) of the item, as many as can be when greedy."""

    item: Node
    least: int
    most: int | None
    greedy: bool


@dataclass(frozen=True, slots=True)
class Group:
    """A group; `index` counts capturing ones from 1, 0 is none."""

    item: Node
    index: int


Node = Chars | Assert | Concat | Alternate | Repeat | Group
