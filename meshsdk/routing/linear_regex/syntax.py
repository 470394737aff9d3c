r"""Reads a pattern in RE2's syntax (https://github.com/google/re2/wiki/Syntax) into a small tree.

Called by `meshsdk.routing.regex`. What RE2 refuses (backreferences, look-around, conditional and atomic groups,
possessive repeats) is refused here with the reason; so are `\p{...}` classes, which need google-re2's tables. Never
matches anything.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass

from meshsdk.routing.linear_regex import charset
from meshsdk.routing.linear_regex.charset import Ranges
from meshsdk.routing.linear_regex.tree import Alternate, Assert, AssertKind, Chars, Concat, Group, Node, Repeat

MAX_REPEAT = 1000  # RE2's own limit on {n,m}
_MAX_DEPTH = 100

_REPETITION = re.compile(r"\{(0|[1-9][0-9]{0,8})(?:(,)(0|[1-9][0-9]{0,8})?)?\}")
_FLAGS = re.compile(r"\?([imsU]*)(-[imsU]+)?([:)])")
_NAMED = re.compile(r"\?P?<([A-Za-z0-9_]+)>")
_HEX = re.compile(r"x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]{1,8})\})")
_OCTAL = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{1,2}")
_POSIX = re.compile(r"\[:(\^?)([a-z]+):\]")
_CONTROLS = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}
_EMPTY_WIDTH = {
    "A": AssertKind.TEXT_START,
    "z": AssertKind.TEXT_END,
    "b": AssertKind.WORD_BOUNDARY,
    "B": AssertKind.NOT_WORD_BOUNDARY,
}


@dataclass(slots=True)
class _Flags:
    """The flags in force at one place of the pattern; copied when a group opens."""

    fold: bool = False
    multi_line: bool = False
    dot_newline: bool = False
    swap_greed: bool = False

    def copy(self) -> _Flags:
        return _Flags(self.fold, self.multi_line, self.dot_newline, self.swap_greed)

    def set(self, letters: str, value: bool) -> None:  # noqa: FBT001  on or off is all a flag is
        for letter in letters:
            if letter == "i":
                self.fold = value
            elif letter == "m":
                self.multi_line = value
            elif letter == "s":
                self.dot_newline = value
            elif letter == "U":
                self.swap_greed = value


def parse(pattern: str) -> tuple[Node, int]:
    """Returns the tree and the number of capturing groups. Raises ValueError with the reason and the position."""
    reader = _Reader(pattern)
    node = reader.alternation(0)
    if reader.position < len(pattern):
        raise reader.refusal("unmatched )")
    return node, reader.groups


class _Reader:
    """Recursive descent over one pattern; lives for one `parse`, in one thread."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._flags = _Flags()
        self.position = 0
        self.groups = 0

    def refusal(self, reason: str) -> ValueError:
        return ValueError(f"{reason}, at character {self.position}")

    def _peek(self, text: str) -> bool:
        return self._pattern.startswith(text, self.position)

    def _take(self) -> str:
        if self.position >= len(self._pattern):
            raise self.refusal("the pattern ends too early")
        character = self._pattern[self.position]
        self.position += 1
        return character

    def _taken(self, expression: re.Pattern[str]) -> re.Match[str] | None:
        found = expression.match(self._pattern, self.position)
        if found is not None:
            self.position = found.end()
        return found

    def alternation(self, depth: int) -> Node:
        """Reads branches up to the end of the pattern or the `)` of the group around."""
        if depth > _MAX_DEPTH:
            raise self.refusal(f"groups nest deeper than {_MAX_DEPTH}")
        branches = [self._branch(depth)]
        while self._peek("|"):
            self.position += 1
            branches.append(self._branch(depth))
        return branches[0] if len(branches) == 1 else Alternate(tuple(branches))

    def _branch(self, depth: int) -> Node:
        items: list[Node] = []
        repeated = False  # the last item carries a repeat: RE2 refuses to stack another
        while self.position < len(self._pattern) and self._pattern[self.position] not in "|)":
            bounds = self._repeat_bounds()
            if bounds is None:
                items.extend(self._atom(depth))
                repeated = False
                continue
            if not items:
                raise self.refusal("nothing to repeat")
            lazy = self._peek("?")
            self.position += lazy
            if repeated:
                raise self.refusal("a repeat of a repeat, or a possessive one")
            repeated = True
            items.append(Repeat(items.pop(), bounds[0], bounds[1], greedy=lazy == self._flags.swap_greed))
        return items[0] if len(items) == 1 else Concat(tuple(items))

    def _repeat_bounds(self) -> tuple[int, int | None] | None:
        """Takes a repeat operator and returns its bounds; None if none stands here."""
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        character = self._pattern[self.position]
        if character in simple:
            self.position += 1
            return simple[character]
        found = self._taken(_REPETITION)
        if found is None:
            return None
        least = int(found[1])
        most = least if found[2] is None else int(found[3]) if found[3] else None
        if least > MAX_REPEAT or (most is not None and not least <= most <= MAX_REPEAT):
            raise self.refusal(f"bad repeat {found[0]}: the bounds go up to {MAX_REPEAT}, the smaller first")
        return least, most

    def _atom(self, depth: int) -> list[Node]:
        r"""Takes one atom; a flag setting yields none, `\Q...\E` many."""
        if self._peek("\\Q"):
            return self._quoted()
        character = self._take()
        if character == "(":
            return self._group(depth)
        if character == "[":
            return [Chars(self._class())]
        if character == "\\":
            return [self._escape()]
        if character == ".":
            return [Chars(charset.ANY if self._flags.dot_newline else charset.NOT_NEWLINE)]
        if character in "^$":
            return [Assert(self._anchor(character))]
        return [self._literal(ord(character))]

    def _anchor(self, character: str) -> AssertKind:
        if character == "^":
            return AssertKind.LINE_START if self._flags.multi_line else AssertKind.TEXT_START
        return AssertKind.LINE_END if self._flags.multi_line else AssertKind.TEXT_END

    def _literal(self, code: int) -> Chars:
        return Chars(self._folded(((code, code),)))

    def _folded(self, ranges: Ranges) -> Ranges:
        return charset.fold(ranges) if self._flags.fold else ranges

    def _quoted(self) -> list[Node]:
        start = self.position + 2
        end = self._pattern.find("\\E", start)
        text = self._pattern[start:] if end < 0 else self._pattern[start:end]
        self.position = len(self._pattern) if end < 0 else end + 2
        return [self._literal(ord(character)) for character in text]

    def _group(self, depth: int) -> list[Node]:
        outer = self._flags.copy()
        index = 0
        if self._peek("?"):
            named = self._taken(_NAMED)
            setting = None if named else self._taken(_FLAGS)
            if named is not None:
                self.groups = index = self.groups + 1
            elif setting is None or setting[0] == "?)":
                raise self.refusal("look-around, conditional, atomic and unknown groups are not of RE2's syntax")
            else:
                self._flags.set(setting[1], value=True)
                self._flags.set((setting[2] or "-")[1:], value=False)
                if setting[3] == ")":
                    return []
        else:
            self.groups = index = self.groups + 1
        body = self.alternation(depth + 1)
        if not self._peek(")"):
            raise self.refusal("missing )")
        self.position += 1
        self._flags = outer
        return [Group(body, index)]

    def _escape(self) -> Node:
        character = self._pattern[self.position : self.position + 1]
        if character in _EMPTY_WIDTH:
            self.position += 1
            return Assert(_EMPTY_WIDTH[character])
        ranges = self._perl_class()
        return Chars(self._folded(ranges)) if ranges is not None else self._literal(self._escaped_code())

    def _perl_class(self) -> Ranges | None:
        r"""Takes the letter of \d, \D ... when the backslash before it is taken; None if another stands here."""
        letter = self._pattern[self.position : self.position + 1]
        if letter in ("p", "P"):
            raise self.refusal("Unicode classes (\\p) need google-re2")
        ranges = charset.PERL.get(letter.lower()) if letter else None
        if ranges is None:
            return None
        self.position += 1
        return ranges if letter.islower() else charset.complement(ranges)

    def _escaped_code(self) -> int:
        """Takes an escape for one character, its backslash being taken."""
        found = self._taken(_HEX)
        if found is not None:
            code = int(found[1] or found[2], 16)
            if code > charset.LAST:
                raise self.refusal(f"no character {found[0]}")
            return code
        found = self._taken(_OCTAL)
        if found is not None:
            return int(found[0], 8)
        character = self._take()
        if character in _CONTROLS:
            return _CONTROLS[character]
        if character in string.digits:
            raise self.refusal("backreferences are not of RE2's syntax")
        if character.isascii() and not character.isalnum():
            return ord(character)
        raise self.refusal(f"unknown escape \\{character}")

    def _class(self) -> Ranges:
        """Takes a bracket expression after its `[`."""
        negated = self._peek("^")
        self.position += negated
        ranges: list[tuple[int, int]] = []
        first = True
        while first or not self._peek("]"):
            first = False
            posix = self._taken(_POSIX)
            if posix is not None:
                named = charset.POSIX.get(posix[2])
                if named is None:
                    raise self.refusal(f"unknown class {posix[0]}")
                ranges.extend(self._folded(charset.complement(named)) if posix[1] else self._folded(named))
                continue
            ranges.extend(self._folded(self._class_item()))
        self.position += 1
        merged = charset.union(ranges)
        return charset.complement(merged) if negated else merged

    def _class_item(self) -> Ranges:
        """Takes one character, range or perl class of a bracket expression."""
        if self._peek("\\"):
            self.position += 1
            perl = self._perl_class()
            if perl is not None:
                return perl
            low = self._escaped_code()
        else:
            low = ord(self._take())
        if not self._peek("-") or self._peek("-]"):
            return ((low, low),)
        self.position += 1
        high = self._class_end()
        if high < low:
            raise self.refusal("a range runs backwards")
        return ((low, high),)

    def _class_end(self) -> int:
        character = self._take()
        return self._escaped_code() if character == "\\" else ord(character)
