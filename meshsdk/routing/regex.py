"""Regular expressions of configuration: RE2 syntax, matched in time linear in the text whatever the pattern.

Called by the codecs (to refuse a bad pattern as a NACK), `matchers` and `hash_policy`. Uses google-re2 where it is
installed (`meshsdk[re2]`), else `linear_regex`; both decide alike. Never runs a pattern from outside on Python's `re`:
that one backtracks, and a single pattern could stop the process.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from meshsdk.routing.regex_engine import Engine, Find

MAX_PATTERN = 4096  # characters of a pattern
MAX_TEXT = 16_384  # characters of a tested text, twice what gRPC takes as metadata by default
_CACHED = 1024

Rewrite = Callable[[str], str]
Test = Callable[[str], bool]
T = TypeVar("T")


@functools.cache
def _engine() -> tuple[Engine, bool]:
    """Returns the engine in use and whether it is RE2 itself. Loaded late: most processes have no pattern."""
    from meshsdk.routing.regex_engine import LINEAR, native  # noqa: PLC0415 - see above

    re2 = native()
    return (LINEAR, False) if re2 is None else (re2, True)


@functools.lru_cache(maxsize=_CACHED)
def compile_regex(pattern: str) -> Test:
    """Returns a test whether a whole text matches `pattern`. A text above `MAX_TEXT` characters never does.

    Raises ValueError, its text fit for a NACK, for what RE2 (or the engine in use) refuses and above `MAX_PATTERN`.
    """
    matches = _compiled(pattern, _engine()[0].test)

    def test(text: str) -> bool:
        return len(text) <= MAX_TEXT and matches(text)

    return test


@functools.lru_cache(maxsize=_CACHED)
def compile_rewrite(pattern: str, substitution: str) -> Rewrite:
    r"""Returns RE2's GlobalReplace: each match replaced by `substitution`, its `\0`-`\9` standing for groups (A42).

    A text above `MAX_TEXT` characters is left as it is. Raises ValueError as `compile_regex` does, and for a
    `substitution` with a group that the pattern lacks.
    """
    find, groups = _compiled(pattern, _engine()[0].finder)
    parts = _template(substitution, groups)

    def rewrite(text: str) -> str:
        return text if len(text) > MAX_TEXT else replace_all(find, parts, text)

    return rewrite


def _compiled(pattern: str, compiler: Callable[[str], T]) -> T:
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"regular expression of {len(pattern)} characters: at most {MAX_PATTERN} are taken")
    try:
        return compiler(pattern)
    except ValueError as error:
        hint = "" if _engine()[1] else "; if RE2 takes it, install meshsdk[re2]"
        raise ValueError(f"regular expression {pattern!r}: {error}{hint}") from error


def _template(substitution: str, groups: int) -> tuple[str | int, ...]:
    """Splits a substitution into literal text and numbers of groups."""
    parts: list[str | int] = []
    for literal, escape in re.findall(r"([^\\]+)|\\(.?)", substitution, re.DOTALL):
        if literal or escape == "\\":
            parts.append(literal or escape)
        elif not ("0" <= escape <= "9") or int(escape) > groups:
            raise ValueError(f"substitution {substitution!r}: \\{escape} is no group of the pattern, nor \\\\")
        else:
            parts.append(int(escape))
    return tuple(parts)


def replace_all(find: Find, parts: tuple[str | int, ...], text: str) -> str:
    """Replaces every match, left to right and without overlap, as RE2::GlobalReplace does.

    An empty match right behind the match before it is not replaced.
    """
    written: list[str] = []
    place, last_end = 0, -1
    while place <= len(text):
        slots = find(text, place)
        if slots is None:
            break
        start, end = slots[0], slots[1]
        if start == end == last_end:
            written.append(text[place : place + 1])
            place += 1
            continue
        written.append(text[place:start])
        written.extend(part if isinstance(part, str) else _group(text, slots, part) for part in parts)
        place = last_end = end
    written.append(text[place:])
    return "".join(written)


def _group(text: str, slots: tuple[int, ...], index: int) -> str:
    start = slots[2 * index]
    return "" if start < 0 else text[start : slots[2 * index + 1]]
