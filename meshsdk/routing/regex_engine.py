"""The two ways to run a pattern of RE2's syntax: google-re2 and `linear_regex`.

Called by `regex` alone, which picks one for the process. Never decides what is a match beyond what the engines say.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from meshsdk.routing.linear_regex import program, search, syntax
from meshsdk.routing.linear_regex.automaton import Automaton

_SET_PROGRAM = 5000  # RE2 instructions up to which a set's automaton is sure to fit RE2's memory

Test = Callable[[str], bool]
Find = Callable[[str, int], tuple[int, ...] | None]  # (text, start) -> start and end of each group in turn; -1: none


@dataclass(frozen=True, slots=True)
class Engine:
    """`test` tells whether a whole text matches; `finder` gives the leftmost match and the number of groups.

    Both raise ValueError with the reason for a pattern they do not take.
    """

    test: Callable[[str], Test]
    finder: Callable[[str], tuple[Find, int]]


def _linear_test(pattern: str) -> Test:
    tree, groups = syntax.parse(pattern)
    return Automaton(program.build(tree, groups)).matches


def _linear_finder(pattern: str) -> tuple[Find, int]:
    tree, groups = syntax.parse(pattern)
    compiled = program.build(tree, groups)

    def find(text: str, start: int) -> tuple[int, ...] | None:
        return search.find(compiled, text, start)

    return find, groups


LINEAR = Engine(_linear_test, _linear_finder)


def native() -> Engine | None:
    """Returns the engine on google-re2, or None where that is not installed."""
    try:
        re2: Any = importlib.import_module("re2")  # untyped, and an extra: never imported by name
    except ImportError:
        return None
    options = re2.Options()
    options.log_errors = False  # the reason goes into our own error; RE2 would write it to stderr

    def compiled(pattern: str) -> Any:
        try:
            return re2.compile(pattern, options)
        except re2.error as error:
            reason = error.args[0] if error.args else "refused by RE2"
            raise ValueError(reason.decode() if isinstance(reason, bytes) else reason) from error

    def test(pattern: str) -> Test:
        whole = compiled(pattern)
        if whole.programsize > _SET_PROGRAM:
            return _encodable(lambda text: whole.fullmatch(text) is not None)
        # A set of one pattern: its `Match` is a fifth of the cost of `fullmatch`, which builds a match object.
        single = re2.Set.FullMatchSet(options)
        single.Add(pattern)
        single.Compile()
        return _encodable(lambda text: bool(single.Match(text)))

    def finder(pattern: str) -> tuple[Find, int]:
        whole = compiled(pattern)

        def find(text: str, start: int) -> tuple[int, ...] | None:
            found = whole.search(text, start)
            return found and tuple(place for index in range(whole.groups + 1) for place in found.span(index))

        return find, whole.groups

    return Engine(test, finder)


def _encodable(test: Test) -> Test:
    def guarded(text: str) -> bool:
        try:
            return test(text)
        except UnicodeEncodeError:  # half a surrogate pair is no character that a pattern of RE2 could name
            return False

    return guarded
