"""Whole numbers as regular expressions: equal to arithmetic, in time linear in the text, short enough for Envoy."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from controlplane.model.units import Integers, KeyPlace, KeyRule, KeySource
from controlplane.translate.key_tests import integer_patterns, present, rule_tests
from meshsdk.model.matching import HeaderMatch, PresentMatch, RangeMatch, StringKind, StringMatch
from meshsdk.routing.regex import compile_regex

NUMBERS = st.one_of(st.integers(0, 1_200), st.integers(0, 10**18 - 1))


@st.composite
def ranges(draw: st.DrawFn) -> Integers:
    """Ranges of all sizes, with and without a modulo."""
    modulo = draw(st.sampled_from([None, 10, 100, 1_000, 10**9]))
    most = modulo - 1 if modulo else 10**18 - 1
    low, high = sorted((draw(NUMBERS) % (most + 1), draw(NUMBERS) % (most + 1)))
    return Integers(low, high, modulo)


@given(ranges(), NUMBERS, st.integers(0, 3))
def test_patterns_are_arithmetic(numbers: Integers, number: int, zeros: int) -> None:
    """One of the patterns matches exactly the numbers of the range, leading zeros aside."""
    for tried in (number, numbers.first, numbers.last, numbers.last + 1, max(0, numbers.first - 1)):
        text = "0" * zeros + str(tried)
        value = tried % numbers.modulo if numbers.modulo else tried
        expected = numbers.first <= value <= numbers.last
        assert any(re.fullmatch(pattern, text) for pattern in integer_patterns(numbers)) is expected


@given(ranges())
def test_patterns_are_short(numbers: Integers) -> None:
    """Each is one that the SDK's own engine takes, and of at most 60 characters and repeats, a hundred for Envoy."""
    for pattern in integer_patterns(numbers):
        compile_regex(pattern)
        repeats = sum(int(count) for count in re.findall(r"\{(\d+)\}", pattern))
        assert len(re.sub(r"\[[^]]*\]|\{\d+\}", ".", pattern)) + repeats < 75


def test_headers_are_tested_by_what_is_cheapest() -> None:
    """On a header, a key is an exact match, a prefix a prefix match and a range a range match."""
    rule = KeyRule("east", ("a",), ("b",), (Integers(3, 7),))
    found = list(rule_tests(KeySource(KeyPlace.HEADER, "x"), rule))
    assert [test.header.test for test in found if test.header] == [
        StringMatch(StringKind.EXACT, "a"),
        StringMatch(StringKind.PREFIX, "b"),
        RangeMatch(3, 8),
    ]
    assert present(KeySource(KeyPlace.HEADER, "x")).header == HeaderMatch("x", PresentMatch())


def test_names_and_values_are_taken_literally() -> None:
    """Characters that mean something in an expression mean themselves in keys and in names of baggage entries."""
    (test,) = rule_tests(KeySource(KeyPlace.BAGGAGE, "a.b"), KeyRule("east", ("c+d",)))
    assert test.header is not None
    assert isinstance(test.header.test, StringMatch)
    matches = compile_regex(test.header.test.value)
    assert matches("a.b=c+d")
    assert not matches("axb=c+d")
    assert not matches("a.b=ccd")
