"""Sets of characters as sorted ranges of code points, with the named sets of RE2's syntax.

Called by `syntax` while it reads a pattern and by the two matchers. Never holds a set as single characters, so that
`[^a]` costs two ranges.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable

Ranges = tuple[tuple[int, int], ...]  # inclusive, sorted, disjoint

LAST = 0x10FFFF
_ASCII_LAST = 0x7F
ANY: Ranges = ((0, LAST),)
NOT_NEWLINE: Ranges = ((0, 9), (11, LAST))

_DIGIT = ((0x30, 0x39),)
_UPPER = ((0x41, 0x5A),)
_LOWER = ((0x61, 0x7A),)
_SPACE = ((0x09, 0x0A), (0x0C, 0x0D), (0x20, 0x20))  # RE2's \s has no vertical tab, [[:space:]] has
WORD: Ranges = (*_DIGIT, *_UPPER, (0x5F, 0x5F), *_LOWER)

PERL: dict[str, Ranges] = {"d": _DIGIT, "s": _SPACE, "w": WORD}

POSIX: dict[str, Ranges] = {
    "alnum": (*_DIGIT, *_UPPER, *_LOWER),
    "alpha": (*_UPPER, *_LOWER),
    "ascii": ((0, 0x7F),),
    "blank": ((0x09, 0x09), (0x20, 0x20)),
    "cntrl": ((0, 0x1F), (0x7F, 0x7F)),
    "digit": _DIGIT,
    "graph": ((0x21, 0x7E),),
    "lower": _LOWER,
    "print": ((0x20, 0x7E),),
    "punct": ((0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)),
    "space": ((0x09, 0x0D), (0x20, 0x20)),
    "upper": _UPPER,
    "word": WORD,
    "xdigit": (*_DIGIT, (0x41, 0x46), (0x61, 0x66)),
}

_FOLD_LIMIT = 1024  # non-ASCII characters of a case-insensitive set that are folded one by one


def union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Returns the same characters, sorted and merged."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def complement(ranges: Ranges) -> Ranges:
    """Returns every code point that `ranges` (sorted, disjoint) lacks."""
    gaps: list[tuple[int, int]] = []
    following = 0
    for low, high in ranges:
        if low > following:
            gaps.append((following, low - 1))
        following = high + 1
    if following <= LAST:
        gaps.append((following, LAST))
    return tuple(gaps)


def contains(ranges: Ranges, code: int) -> bool:
    """Tells whether the code point is in the set."""
    index = bisect.bisect_right(ranges, (code, LAST)) - 1
    return index >= 0 and code <= ranges[index][1]


def fold(ranges: Ranges) -> Ranges:
    """Adds the other case of every character, by Unicode's simple folding (`(?i)`).

    Raises ValueError for a set of more than 1,024 non-ASCII characters that does not span all of them anyway.
    """
    folded = list(ranges)
    beyond_ascii = 0
    for low, high in ranges:
        if low <= _ASCII_LAST + 1 and high == LAST:
            high = _ASCII_LAST  # noqa: PLW2901  the set holds all beyond ASCII already
        beyond_ascii += max(0, high - max(low, _ASCII_LAST + 1) + 1)
        if beyond_ascii > _FOLD_LIMIT:
            raise ValueError(f"a case-insensitive set of more than {_FOLD_LIMIT} non-ASCII characters")
        for code in range(low, high + 1):
            folded.extend((other, other) for other in _other_cases(code))
    return union(folded)


def _other_cases(code: int) -> set[int]:
    """The orbit of simple case folding, as far as Python's own mappings of one character to one tell."""
    character = chr(code)
    lowered = character.casefold() if len(character.casefold()) == 1 else character.lower()
    orbit = {lowered, lowered.upper(), character.lower(), character.upper(), lowered.title()}
    if lowered == "k":
        orbit.add("\u212a")  # the Kelvin sign folds to k, but no mapping leads from k to it
    elif lowered == "s":
        orbit.add("\u017f")  # the long s, likewise
    elif lowered in ("\u00e5", "\u03c9"):
        orbit.add({"\u00e5": "\u212b", "\u03c9": "\u2126"}[lowered])  # Angstrom and Ohm signs, likewise
    elif lowered == "\u00df":
        orbit.add("\u1e9e")  # capital sharp s, likewise
    return {ord(other) for other in orbit if len(other) == 1} - {code}
