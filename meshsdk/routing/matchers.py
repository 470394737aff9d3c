"""Turns the values of `meshsdk.model.matching` into callables: paths, strings, ranges and headers.

Called by `router` when a snapshot is compiled, `fields` for the tests on request fields, `domains`. Never sees a call
itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from meshsdk.model.matching import HeaderMatch, PathKind, PathMatch, PresentMatch, RangeMatch, StringKind, StringMatch
from meshsdk.routing.regex import compile_regex

Test = Callable[[str], bool]
Metadata = Iterable[tuple[str, str | bytes]]

PATH_HEADER = ":path"
# What every gRPC call carries and no metadata holds. content-type: gRFC A28; :method: the gRPC protocol over HTTP/2.
_CONSTANT = {"content-type": "application/grpc", ":method": "POST"}

_TO_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_MAX_DIGITS = 64


def ascii_lower(text: str) -> str:
    """Lowers A-Z only: what "ignore case" means in xDS. `str.lower` would make the Kelvin sign a k."""
    return text.lower() if text.isascii() else text.translate(_TO_LOWER)


def string_test(match: StringMatch) -> Test:
    """Returns the test for a `StringMatch`. Raises ValueError for a regular expression that is not acceptable."""
    if match.kind is StringKind.REGEX:
        return compile_regex(match.value)
    if match.ignore_case:
        lowered = string_test(StringMatch(match.kind, ascii_lower(match.value)))
        return lambda text: lowered(ascii_lower(text))
    value = match.value
    if match.kind is StringKind.EXACT:
        return frozenset((value,)).__contains__  # no Python frame: the cheapest equality there is
    if match.kind is StringKind.PREFIX:
        return lambda text: text.startswith(value)
    if match.kind is StringKind.SUFFIX:
        return lambda text: text.endswith(value)
    return lambda text: value in text


def range_test(match: RangeMatch) -> Test:
    """Returns the test for base-10 integers in [start, end): an optional sign, digits, ASCII blanks around them."""
    start, end = match.start, match.end

    def test(text: str) -> bool:
        number = text.strip(" \t\n\v\f\r")
        digits = number[1:] if number[:1] in ("+", "-") else number
        if len(digits) > _MAX_DIGITS or not (digits.isascii() and digits.isdigit()):
            return False
        return start <= int(number) < end

    return test


def value_test(match: StringMatch | RangeMatch) -> Test:
    """Returns the test for a value that is there. Raises ValueError as `string_test`."""
    return string_test(match) if isinstance(match, StringMatch) else range_test(match)


def path_test(match: PathMatch) -> Test:
    """Returns the test for a full method. Raises ValueError as `string_test`."""
    kind = {PathKind.EXACT: StringKind.EXACT, PathKind.PREFIX: StringKind.PREFIX, PathKind.REGEX: StringKind.REGEX}
    return string_test(StringMatch(kind[match.kind], match.value, match.ignore_case))


@dataclass(frozen=True, slots=True)
class HeaderTest:
    """A compiled `HeaderMatch`: `test` for a value that is there, `missing` is the answer where none is.

    `exact` is the one value that passes, where the test is no more than equality; `dear`: test it late.
    """

    name: str
    test: Test
    missing: bool
    exact: str | None = None
    dear: bool = False

    def decide(self, value: str | None) -> bool:
        """The answer for a header's joined value; None: the call has no such header."""
        return self.missing if value is None else self.test(value)


def header_test(match: HeaderMatch) -> HeaderTest:
    """Compiles a header match. Raises ValueError as `string_test`.

    A missing header fails, inverted or not, except for presence and where it is to be taken as empty (A28, and
    envoy.config.route.v3.HeaderMatcher).
    """
    if isinstance(match.test, PresentMatch):
        there = match.test.present != match.invert
        if match.treat_missing_as_empty:  # an empty value is a value
            return HeaderTest(match.name, lambda _: there, missing=there)
        return HeaderTest(match.name, lambda _: there, missing=not there)
    plain = value_test(match.test)
    test = (lambda value: not plain(value)) if match.invert else plain
    missing = match.treat_missing_as_empty and test("")
    exact, dear = None, False
    if isinstance(match.test, StringMatch):
        dear = match.test.kind is StringKind.REGEX
        if match.test.kind is StringKind.EXACT and not (match.test.ignore_case or match.invert or missing):
            exact = match.test.value
    return HeaderTest(match.name, test, missing, exact, dear)


def constant_header(name: str) -> tuple[bool, str | None]:
    """Returns (whether the header has one value for all calls, that value).

    Binary headers count as missing: A28 does not match on them.
    """
    if name.endswith("-bin"):
        return True, None
    return name in _CONSTANT, _CONSTANT.get(name)


def header_value(metadata: Metadata, name: str) -> str | None:
    """Returns the values of one key joined with "," (A28), as `HeaderTest` takes them."""
    constant, value = constant_header(name)
    if constant:
        return value
    return headers(metadata, frozenset((name,))).get(name)


def headers(metadata: Metadata, wanted: frozenset[str]) -> dict[str, str]:
    """Returns the wanted headers of a call, several values of a key joined with "," (A28)."""
    found: dict[str, str] = {}
    for key, value in metadata:
        if key in wanted:
            text = value if isinstance(value, str) else value.decode("utf-8", "replace")
            found[key] = f"{found[key]},{text}" if key in found else text
    return found
