"""Compiles the tree of a pattern to a program of five instructions (Thompson's construction).

Called by `meshsdk.routing.regex`; run by `automaton` (which ignores `Save`) and `search`. The size of a program is
bounded, which bounds the work per character of both.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshsdk.routing.linear_regex.charset import WORD, Ranges, contains
from meshsdk.routing.linear_regex.tree import Alternate, Assert, AssertKind, Chars, Concat, Group, Node, Repeat

MAX_INSTRUCTIONS = 2000
_MAX_VISITS = 10 * MAX_INSTRUCTIONS  # nodes written, so that repeats of nothing ((?:){1000}){1000} end too


@dataclass(frozen=True, slots=True)
class Char:
    """Consume one character of `ranges`, go on at `target`."""

    ranges: Ranges
    target: int


@dataclass(frozen=True, slots=True)
class Split:
    """Go on at both, `first` preferred."""

    first: int
    second: int


@dataclass(frozen=True, slots=True)
class Save:
    """Note the place in `slot` (2n: start of group n, 2n+1: its end), go on at `target`."""

    slot: int
    target: int


@dataclass(frozen=True, slots=True)
class Check:
    """Go on at `target` if the place fits."""

    kind: AssertKind
    target: int


@dataclass(frozen=True, slots=True)
class Accept:
    """The pattern is matched."""


Instruction = Char | Split | Save | Check | Accept


@dataclass(frozen=True, slots=True)
class Program:
    """`code[start]` is the entry; `checks` tells whether any `Check` is in it; `slots` is 2 x (1 + groups)."""

    code: tuple[Instruction, ...]
    start: int
    slots: int
    checks: bool


def build(node: Node, groups: int) -> Program:
    """Returns the program of a tree. Raises ValueError if it takes more than 2,000 instructions."""
    writer = _Writer()
    accept = writer.add(Accept())
    start = writer.compile(Group(node, 0), accept, capture_all=True)
    code = tuple(writer.code)
    return Program(code, start, 2 * (groups + 1), any(isinstance(step, Check) for step in code))


class _Writer:
    """Writes a program backwards, each node knowing where to go on; lives for one `build`, in one thread."""

    def __init__(self) -> None:
        self.code: list[Instruction] = []
        self._visits = 0

    def add(self, instruction: Instruction) -> int:
        if len(self.code) >= MAX_INSTRUCTIONS:
            raise _too_large()
        self.code.append(instruction)
        return len(self.code) - 1

    def compile(self, node: Node, target: int, *, capture_all: bool = False) -> int:
        """Writes `node` followed by what stands at `target`; returns its entry."""
        self._visits += 1
        if self._visits > _MAX_VISITS:
            raise _too_large()
        if isinstance(node, Chars):
            return self.add(Char(node.ranges, target))
        if isinstance(node, Assert):
            return self.add(Check(node.kind, target))
        if isinstance(node, Concat):
            for item in reversed(node.items):
                target = self.compile(item, target)
            return target
        if isinstance(node, Alternate):
            entries = [self.compile(branch, target) for branch in node.branches]
            entry = entries.pop()
            while entries:
                entry = self.add(Split(entries.pop(), entry))
            return entry
        if isinstance(node, Group):
            if not node.index and not capture_all:
                return self.compile(node.item, target)
            after = self.add(Save(2 * node.index + 1, target))
            return self.add(Save(2 * node.index, self.compile(node.item, after)))
        return self._repeat(node, target)

    def _repeat(self, node: Repeat, target: int) -> int:
        if node.most is None:
            target = self._loop(node, target)
            required = max(node.least - 1, 0)
        else:
            after = target
            for _ in range(node.most - node.least):
                target = self._choice(self.compile(node.item, target), after, greedy=node.greedy)
            required = node.least
        for _ in range(required):
            target = self.compile(node.item, target)
        return target

    def _loop(self, node: Repeat, target: int) -> int:
        """`x*`, or `x+` where at least one is asked for (as RE2 writes it: the body first, then the choice)."""
        choice = self.add(Accept())  # holds the place: the body must know where the choice stands
        body = self.compile(node.item, choice)
        self.code[choice] = Split(body, target) if node.greedy else Split(target, body)
        return body if node.least else choice

    def _choice(self, body: int, target: int, *, greedy: bool) -> int:
        return self.add(Split(body, target) if greedy else Split(target, body))


def _too_large() -> ValueError:
    return ValueError(f"the pattern needs more than {MAX_INSTRUCTIONS} steps; shorten its repeats")


NOWHERE = ""  # the "character" before the start and after the end of a text


def fits(kind: AssertKind, before: str, after: str) -> bool:
    """Tells whether an assertion holds between two characters (`NOWHERE` at the ends of the text)."""
    if kind is AssertKind.TEXT_START:
        return before == NOWHERE
    if kind is AssertKind.TEXT_END:
        return after == NOWHERE
    if kind is AssertKind.LINE_START:
        return before in (NOWHERE, "\n")
    if kind is AssertKind.LINE_END:
        return after in (NOWHERE, "\n")
    return (_is_word(before) != _is_word(after)) == (kind is AssertKind.WORD_BOUNDARY)


def _is_word(character: str) -> bool:
    return character != NOWHERE and contains(WORD, ord(character))
