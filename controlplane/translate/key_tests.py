"""Tests on a call's key, in matchers every xDS client has: headers, and regular expressions over header or field text.

Used by `units`. Envoy takes no expression of more than 100 instructions (`re2.max_program_size.error_level`), so what
would need a long one is split: a test here is a list of matchers of which one has to match.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from controlplane.model.units import Integers, KeyPlace, KeyRule, KeySource
from meshsdk.model.matching import FieldMatch, HeaderMatch, PresentMatch, RangeMatch, StringKind, StringMatch

_BAGGAGE = "baggage"  # W3C Baggage, section 3.1: a header of `key=value;property, key=value`
_TEXT = "[ -~]*"  # anything; `.` would be ten instructions, one for each shape of a UTF-8 sequence
_MOST = 40  # characters of alternatives in one expression: Envoy's limit, less the frame of a baggage entry


@dataclass(frozen=True, slots=True)
class KeyTest:
    """One matcher to add to a route: either part may be None, not both."""

    header: HeaderMatch | None = None
    param: FieldMatch | None = None


def rule_tests(source: KeySource, rule: KeyRule) -> Iterator[KeyTest]:
    """Yields matchers of which one matches where the key at `source` is one of `rule`."""
    for value in rule.exact:
        yield _text(source, StringMatch(StringKind.EXACT, value), re.escape(value))
    for value in rule.prefixes:
        yield _text(source, StringMatch(StringKind.PREFIX, value), re.escape(value) + "[^;,]*")
    for numbers in rule.integers:
        if source.place is KeyPlace.HEADER and numbers.modulo is None:
            yield KeyTest(header=HeaderMatch(source.name, RangeMatch(numbers.first, numbers.last + 1)))
            continue
        for pattern in integer_patterns(numbers):
            yield _text(source, StringMatch(StringKind.REGEX, pattern), pattern)


def present(source: KeySource) -> KeyTest:
    """Returns the matcher of a call that has some key at `source`."""
    if source.place is KeyPlace.HEADER:
        return KeyTest(header=HeaderMatch(source.name, PresentMatch()))
    if source.place is KeyPlace.FIELD:
        return KeyTest(param=FieldMatch(tuple(source.name.split(".")), PresentMatch()))
    return _entry(source.name, "[^;,]*")


def _text(source: KeySource, match: StringMatch, pattern: str) -> KeyTest:
    if source.place is KeyPlace.HEADER:
        return KeyTest(header=HeaderMatch(source.name, match))
    if source.place is KeyPlace.FIELD:
        return KeyTest(param=FieldMatch(tuple(source.name.split(".")), match))
    return _entry(source.name, pattern)


def _entry(name: str, pattern: str) -> KeyTest:
    blank = "[ \t]*"
    whole = f"(?:{_TEXT},)?{blank}{re.escape(name)}{blank}={blank}(?:{pattern}){blank}(?:[;,]{_TEXT})?"
    return KeyTest(header=HeaderMatch(_BAGGAGE, StringMatch(StringKind.REGEX, whole)))


# -- whole numbers ----------------------------------------------------------------------------------------------------


def integer_patterns(numbers: Integers) -> Iterator[str]:
    """Yields regular expressions of which one matches a number in the range (or one whose remainder is)."""
    pieces: list[str] = []
    for piece in _pieces(numbers):
        if pieces and sum(map(_weight, [*pieces, piece])) > _MOST:
            yield _joined(pieces)
            pieces = []
        pieces.append(piece)
    yield _joined(pieces)


def _joined(pieces: list[str]) -> str:
    return pieces[0] if len(pieces) == 1 else f"(?:{'|'.join(pieces)})"


def _weight(piece: str) -> int:
    """Returns about how many instructions a piece is."""
    repeats = sum(int(count) - 1 for count in re.findall(r"\{(\d+)\}", piece))
    return len(re.sub(r"\[[^\]]*\]|\{\d+\}|\(\?:|\)", ".", piece)) + repeats


def _pieces(numbers: Integers) -> Iterator[str]:
    if numbers.modulo is None:
        for digits in _runs(numbers.first, numbers.last):
            yield f"0*{digits}"
        return
    width = len(str(numbers.modulo)) - 1
    for digits in _runs(numbers.first + numbers.modulo, numbers.last + numbers.modulo):
        yield f"[0-9]*{digits[1:]}"  # without the leading 1: exactly the last digits, zeros included
    for digits in _runs(numbers.first, min(numbers.last, numbers.modulo // 10 - 1)) if width > 1 else ():
        yield f"0*{digits}"  # a number too short to have all those digits


def _runs(first: int, last: int) -> Iterator[str]:
    """Yields expressions that together are the numbers from `first` to `last`, without leading zeros."""
    while first <= last:
        size = 1
        while first % (size * 10) == 0 and first + size * 10 - 1 <= last and first:
            size *= 10
        if first == 0:  # 0 to 9 in one; the tens go on from 10
            upto = min(last, 9)
            yield f"[0-{upto}]" if upto else "0"
            first = upto + 1
            continue
        head = first // size
        steps = min(9 - head % 10, (last - first + 1) // size - 1)
        front = str(head // 10) if head >= 10 else ""  # noqa: PLR2004 - decimal digits
        digit = str(head % 10) if not steps else f"[{head % 10}-{head % 10 + steps}]"
        zeros = len(str(size)) - 1
        yield front + digit + {0: "", 1: "[0-9]"}.get(zeros, f"[0-9]{{{zeros}}}")
        first += (steps + 1) * size
