"""What still keeps an instance from going online: the application's own word, and targets that are not resolved yet.

Read by `course`, written by `service.ready()` and by whoever follows the targets (`Dependencies`, a port that the
façade fills with the process's mesh). It decides nothing and waits for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

Follower = Callable[[str], None]  # told what a target lacks, in words; "" once it is resolved


class Dependencies(Protocol):
    """Follows targets until they are resolved."""

    def follow(self, target: str, follower: Follower) -> Callable[[], None]:
        """Calls `follower` now or later, from any thread, whenever the answer changed; returns what ends it.

        Raises ConfigurationError for what is no target.
        """

    def progress(self, target: str) -> str:
        """Says what a followed target waits for, in words, while the follower was told nothing."""

    def close(self) -> None:
        """Ends it all; idempotent."""


class Readiness:
    """The conditions of one service.

    Thread rules: `_said` is written by any thread, each entry of `_lacking` by the one that follows its target; all are
    read by the service's thread or task.
    """

    def __init__(self, *, ready: bool, targets: Sequence[str] = (), dependencies: Dependencies | None = None) -> None:
        """`ready`: the application needs not say so. `targets` are followed from `start` on."""
        self._said = ready
        self._dependencies = dependencies
        self._lacking: dict[str, str | None] = dict.fromkeys(targets)  # None: nothing was told yet
        self._ends: list[Callable[[], None]] = []

    def start(self, changed: Callable[[], None]) -> None:
        """Begins to follow the targets; `changed` is called from any thread. Raises ConfigurationError for a target."""
        if self._dependencies is not None:
            for target in self._lacking:
                self._ends.append(self._dependencies.follow(target, self._follower(target, changed)))

    def say(self) -> None:
        """The application is ready."""
        self._said = True

    @property
    def said(self) -> bool:
        """Whether the application is ready by its own word."""
        return self._said

    def unresolved(self) -> str:
        """Names the targets that are not resolved and what they lack; "" when all are."""
        return "; ".join(self._words(target) for target, problem in self._lacking.items() if problem != "")

    def close(self) -> None:
        """Follows no more; idempotent."""
        while self._ends:
            self._ends.pop()()
        if self._dependencies is not None:
            self._dependencies.close()

    def _words(self, target: str) -> str:
        problem = self._lacking[target]
        if problem is None and self._dependencies is not None:
            problem = self._dependencies.progress(target)
        return f"{target}: {problem}"

    def _follower(self, target: str, changed: Callable[[], None]) -> Follower:
        def follow(problem: str) -> None:
            self._lacking[target] = problem
            changed()

        return follow
