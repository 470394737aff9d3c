"""Whether xDS is answered yet: not before every registry and source that is followed has told once what it has.

An answer without their instances or resources would take those away from clients, while no answer leaves them what they
have, or sends them to another replica. Made by `assembly`; asked by the xDS server per request. Configuration for other
control planes is not held back, since it is this one's own: two that follow each other would wait for ever.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

_LOG = logging.getLogger(__name__)
_STEP = 0.1  # seconds between looks at whether the waiting was ended
_FIRST, _EVERY = 1.0, 10.0  # seconds until the waiting is worth a line, and between lines


@dataclass(frozen=True, slots=True)
class Awaited:
    """One that has to tell what it has.

    `heard`: waits so many seconds at most; returns whether it has told. `problem`: why it has not; "" if unknown.
    """

    name: str
    heard: Callable[[float], bool]
    problem: Callable[[], str]


class Gate:
    """Closed until `open`; without anything to wait for, open at once.

    `exempt`: type URLs that are answered in any case. `clock`: monotonic seconds.
    """

    def __init__(
        self, awaited: Sequence[Awaited], exempt: Collection[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._awaited = tuple(awaited)
        self._exempt = frozenset(exempt)
        self._clock = clock
        self._open = not self._awaited  # written by open, read by any thread

    def held(self, type_url: str) -> str:
        """Returns why requests of a type are not answered at present; "" if they are. On any thread."""
        if self._open or type_url in self._exempt:
            return ""
        return f"the control plane waits for {', '.join(self.waiting_for()) or 'its configuration'}"

    def waiting_for(self) -> list[str]:
        """Returns the names of those that keep it closed. On any thread."""
        return [] if self._open else [each.name for each in self._missing()]

    def wait(self, patience: float | None, ended: threading.Event) -> bool:
        """Waits for all, `patience` seconds at most (None: no limit); logs for whom. False once `ended` is set."""
        began = self._clock()
        warn_at = began + _FIRST
        while not ended.is_set():
            missing = self._missing()
            if not missing:
                return True
            now = self._clock()
            left = _STEP if patience is None else began + patience - now
            if left <= 0:
                _LOG.warning("xDS is answered without %s: waited for %g s", _words(missing), patience)
                return True
            if now >= warn_at:
                warn_at = now + _EVERY
                _LOG.warning("xDS is not answered yet: waiting for %s", _words(missing))
            missing[0].heard(min(_STEP, left))
        return False

    def open(self) -> None:
        """Has everything answered from now on."""
        self._open = True

    def _missing(self) -> list[Awaited]:
        return [each for each in self._awaited if not each.heard(0.0)]


def _words(missing: Sequence[Awaited]) -> str:
    return ", ".join(f"{each.name} ({each.problem() or 'has not answered yet'})" for each in missing)
