"""Finds the leftmost match of a program in a text, with its groups (Pike's algorithm: all threads in step).

Called by `meshsdk.routing.regex` for hash policies that rewrite a header (gRFC A42). Costs the length of the text
times the size of the program; never backtracks.
"""

from __future__ import annotations

from meshsdk.routing.linear_regex.charset import contains
from meshsdk.routing.linear_regex.program import NOWHERE, Accept, Char, Check, Program, Save, Split, fits

Slots = tuple[int, ...]  # start and end of each group in turn; -1 where it took no part


def find(program: Program, text: str, start: int) -> Slots | None:
    """Returns the slots of the leftmost match at or after `start`, the preferred one of those; None without any."""
    nothing: Slots = (-1,) * program.slots
    best: Slots | None = None
    threads: list[tuple[int, Slots]] = []
    for place in range(start, len(text) + 1):
        if best is None:
            threads.append((program.start, nothing))  # the least preferred: a match that starts here
        elif not threads:
            break
        following: list[tuple[int, Slots]] = []
        for index, slots in _expand(program, threads, text, place):
            step = program.code[index]
            if isinstance(step, Accept):
                best = slots
                break  # threads after this one are less preferred
            if isinstance(step, Char) and place < len(text) and contains(step.ranges, ord(text[place])):
                following.append((step.target, slots))
        threads = following
    return best


def _expand(program: Program, threads: list[tuple[int, Slots]], text: str, place: int) -> list[tuple[int, Slots]]:
    """Follows what consumes nothing, in order of preference, each instruction at most once."""
    before = text[place - 1] if place else NOWHERE
    after = text[place] if place < len(text) else NOWHERE
    reached: list[tuple[int, Slots]] = []
    seen: set[int] = set()
    waiting = threads[::-1]
    while waiting:
        index, slots = waiting.pop()
        if index in seen:
            continue
        seen.add(index)
        step = program.code[index]
        if isinstance(step, Split):
            waiting += ((step.second, slots), (step.first, slots))
        elif isinstance(step, Save):
            waiting.append((step.target, (*slots[: step.slot], place, *slots[step.slot + 1 :])))
        elif isinstance(step, Check):
            if fits(step.kind, before, after):
                waiting.append((step.target, slots))
        else:
            reached.append((index, slots))
    return reached
