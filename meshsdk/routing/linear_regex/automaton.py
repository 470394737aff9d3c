"""Answers whether a whole text matches a program: a deterministic automaton that is built as texts ask for it.

Called by `meshsdk.routing.regex`. A step that was taken before costs one dict lookup; a new one costs at most the
size of the program; the steps remembered are bounded. Never backtracks, never finds groups (`search` does).
"""

from __future__ import annotations

from meshsdk.routing.linear_regex.charset import contains
from meshsdk.routing.linear_regex.program import NOWHERE, Accept, Char, Check, Program, Save, Split, fits

_MAX_MOVES = 20_000  # remembered steps of one automaton, about 2 MB; then it starts afresh

_START, _NEWLINE, _WORD, _OTHER = NOWHERE, "\n", "w", " "  # one character stands for each kind that a Check can tell


class _State:
    """Instructions to go on from, and what kind of character led here.

    `moves` and `accepts` fill up as texts ask for them: threads that race store equal values.
    """

    __slots__ = ("accepts", "before", "moves", "pending")

    def __init__(self, pending: tuple[int, ...], before: str) -> None:
        self.pending = pending
        self.before = before
        self.moves: dict[str, _State] = {}
        self.accepts: bool | None = None


class Automaton:
    """One compiled pattern. May be used by many threads at once.

    `_states` and `_remembered` are a cache: any thread adds to it, and a race costs at most a step worked out twice.
    """

    __slots__ = ("_program", "_remembered", "_start", "_states")

    def __init__(self, program: Program) -> None:
        self._program = program
        self._states: dict[tuple[tuple[int, ...], str], _State] = {}
        self._remembered = 0
        self._start = _State((program.start,), _START)

    def matches(self, text: str) -> bool:
        """Tells whether all of `text` matches, in time linear in its length."""
        state = self._start
        for character in text:
            following = state.moves.get(character)
            if following is None:
                following = self._move(state, character)
            if not following.pending:
                return False
            state = following
        if state.accepts is None:
            state.accepts = any(isinstance(self._program.code[index], Accept) for index in self._reach(state, NOWHERE))
        return state.accepts

    def _move(self, state: _State, character: str) -> _State:
        code = self._program.code
        targets: set[int] = set()
        for index in self._reach(state, character):
            step = code[index]
            if isinstance(step, Char) and contains(step.ranges, ord(character)):
                targets.add(step.target)
        before = _kind(character) if self._program.checks else _OTHER
        key = (tuple(sorted(targets)), before)
        if self._remembered >= _MAX_MOVES:
            self._remembered = 0
            self._states = {}
            self._start = _State(self._start.pending, _START)
        following = self._states.get(key)
        if following is None:
            following = self._states[key] = _State(*key)
        state.moves[character] = following
        self._remembered += 1
        return following

    def _reach(self, state: _State, after: str) -> set[int]:
        """The instructions that can be reached from a state without consuming, `after` being the next character."""
        code = self._program.code
        seen: set[int] = set()
        waiting = list(state.pending)
        while waiting:
            index = waiting.pop()
            if index in seen:
                continue
            seen.add(index)
            step = code[index]
            if isinstance(step, Split):
                waiting += (step.first, step.second)
            elif isinstance(step, Save) or (isinstance(step, Check) and fits(step.kind, state.before, after)):
                waiting.append(step.target)
        return seen


def _kind(character: str) -> str:
    if character == "\n":
        return _NEWLINE
    return _WORD if character.isascii() and (character.isalnum() or character == "_") else _OTHER
