"""Strings, ranges, headers and paths, each against the clause that defines it."""

from __future__ import annotations

import pytest

from meshsdk.model.matching import HeaderMatch, PathKind, PathMatch, PresentMatch, RangeMatch, StringKind, StringMatch
from meshsdk.routing.matchers import header_test, header_value, path_test, range_test, string_test

EXACT, PREFIX, SUFFIX, CONTAINS, REGEX = StringKind


@pytest.mark.parametrize(
    ("kind", "value", "text", "sensitive", "insensitive"),
    [
        (EXACT, "Gold", "Gold", True, True),
        (EXACT, "Gold", "gOLD", False, True),
        (EXACT, "Gold", "Golden", False, False),
        (EXACT, "k", "\u212a", False, False),  # the Kelvin sign: ASCII case only
        (PREFIX, "Ab", "Abc", True, True),
        (PREFIX, "Ab", "aBc", False, True),
        (PREFIX, "", "", True, True),
        (SUFFIX, "bC", "abC", True, True),
        (SUFFIX, "bC", "aBc", False, True),
        (SUFFIX, "bC", "bCa", False, False),
        (CONTAINS, "bC", "abCd", True, True),
        (CONTAINS, "bC", "aBcd", False, True),
        (CONTAINS, "bC", "abd", False, False),
        (REGEX, "a.c", "abc", True, True),
        (REGEX, "a.c", "xabc", False, False),
        (REGEX, "a.c", "ABC", False, False),  # ignore_case does not apply to REGEX
    ],
)
def test_strings(kind, value, text, sensitive, insensitive):
    """A string test follows envoy.type.matcher.v3.StringMatcher, with and without ignore_case."""
    assert string_test(StringMatch(kind, value))(text) is sensitive
    assert string_test(StringMatch(kind, value, ignore_case=True))(text) is insensitive


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("-3", True), ("9", True), ("+9", True), (" 9 ", True), ("009", True),
        ("10", False), ("-4", False), ("", False), ("-", False), ("1_0", False), ("5.0", False), ("0x1", False),
        ("\u0663", False), ("1,2", False), ("9" * 5000, False), ("--1", False),
    ],
)  # fmt: skip
def test_range(text, inside):
    """A range takes base-10 integers from start (inclusive) to end (exclusive) and nothing else."""
    assert range_test(RangeMatch(-3, 10))(text) is inside


@pytest.mark.parametrize(
    ("match", "value", "matched"),
    [
        (HeaderMatch("h", StringMatch(EXACT, "a")), "a", True),
        (HeaderMatch("h", StringMatch(EXACT, "a")), "b", False),
        (HeaderMatch("h", StringMatch(EXACT, "a")), None, False),
        (HeaderMatch("h", StringMatch(EXACT, "a"), invert=True), "b", True),
        (HeaderMatch("h", StringMatch(EXACT, "a"), invert=True), "a", False),
        (HeaderMatch("h", StringMatch(EXACT, "a"), invert=True), None, False),
        (HeaderMatch("h", StringMatch(EXACT, "a"), invert=True, treat_missing_as_empty=True), None, True),
        (HeaderMatch("h", StringMatch(EXACT, ""), treat_missing_as_empty=True), None, True),
        (HeaderMatch("h", StringMatch(EXACT, ""), treat_missing_as_empty=True), "", True),
        (HeaderMatch("h", StringMatch(EXACT, "")), None, False),
        (HeaderMatch("h", RangeMatch(0, 5)), "4", True),
        (HeaderMatch("h", RangeMatch(0, 5)), None, False),
        (HeaderMatch("h", RangeMatch(0, 5), invert=True), "x", True),
        (HeaderMatch("h", PresentMatch()), "", True),
        (HeaderMatch("h", PresentMatch()), None, False),
        (HeaderMatch("h", PresentMatch(present=False)), None, True),
        (HeaderMatch("h", PresentMatch(present=False)), "x", False),
        (HeaderMatch("h", PresentMatch(), invert=True), None, True),
        (HeaderMatch("h", PresentMatch(), invert=True), "x", False),
        (HeaderMatch("h", PresentMatch(present=False), invert=True), "x", True),
        (HeaderMatch("h", PresentMatch(), treat_missing_as_empty=True), None, True),
        (HeaderMatch("h", PresentMatch(), invert=True, treat_missing_as_empty=True), None, False),
    ],
)
def test_headers(match, value, matched):
    """A header test follows A28 and Envoy: missing never matches save for presence and treat_missing_as_empty."""
    assert header_test(match).decide(value) is matched


@pytest.mark.parametrize(
    ("metadata", "name", "value"),
    [
        ((("a", "1"), ("b", "2"), ("a", "3")), "a", "1,3"),
        ((("a", b"1"), ("a", b"\xff")), "a", "1,\ufffd"),
        ((("a-bin", b"1"),), "a-bin", None),
        ((), "content-type", "application/grpc"),
        ((("content-type", "text/html"),), "content-type", "application/grpc"),
        ((), ":method", "POST"),
        ((), "a", None),
    ],
)
def test_value_of_a_header(metadata, name, value):
    """Values of one key are joined, binary ones are not seen, and what gRPC itself sends is known (A28)."""
    assert header_value(metadata, name) == value


@pytest.mark.parametrize(
    ("match", "method", "matched"),
    [
        (PathMatch(PathKind.EXACT, "/shop.Orders/Get"), "/shop.Orders/Get", True),
        (PathMatch(PathKind.EXACT, "/shop.Orders/Get"), "/shop.Orders/get", False),
        (PathMatch(PathKind.EXACT, "/shop.orders/GET", ignore_case=True), "/Shop.Orders/Get", True),
        (PathMatch(PathKind.PREFIX, ""), "/any", True),
        (PathMatch(PathKind.PREFIX, "/shop.Orders/"), "/shop.Orders/Get", True),
        (PathMatch(PathKind.PREFIX, "/SHOP.", ignore_case=True), "/shop.Orders/Get", True),
        (PathMatch(PathKind.PREFIX, "/shop.Carts/"), "/shop.Orders/Get", False),
        (PathMatch(PathKind.REGEX, "/shop[.].*/G.t"), "/shop.Orders/Get", True),
        (PathMatch(PathKind.REGEX, "/shop"), "/shop.Orders/Get", False),
        (PathMatch(PathKind.REGEX, "/SHOP.*", ignore_case=True), "/shop.Orders/Get", False),
    ],
)
def test_paths(match, method, matched):
    """A path test is exact, prefix or a full-match regular expression; the latter is always case-sensitive."""
    assert path_test(match)(method) is matched
