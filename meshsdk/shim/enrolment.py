"""The shim itself in the registry, as an instance of `meshsdk.shim`: what it runs, for those who roll out versions.

Made by `running`; `say` is called by it and by upgrades. The control plane's ShimSet controller reads the labels.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import final

from meshsdk.lifecycle.keeper import Keeper
from meshsdk.model.instance import Instance, InstanceState

APP = "meshsdk.shim"
_LONGEST = 200  # characters of a problem


@final
class Enrolment:
    """Methods are for any thread. `_lock` guards `_labels`."""

    def __init__(self, keeper: Keeper, instance: Instance) -> None:
        self._keeper = keeper
        self._started_at = instance.started_at
        self._lock = threading.Lock()
        self._labels: Mapping[str, str] = instance.labels

    @property
    def labels(self) -> Mapping[str, str]:
        """What it says now."""
        return self._labels

    def start(self) -> None:
        """Begins to register."""
        self._keeper.start()
        self._keeper.want(InstanceState.ONLINE)

    def say(
        self,
        *,
        version: str | None = None,
        wanted: str | None = None,
        phase: str | None = None,
        problem: str | None = None,
    ) -> None:
        """Changes what is said; None leaves a thing as it is. `phase`: running, upgrading or rolled-back."""
        said = {
            "meshsdk.io/version": version,
            "meshsdk.io/wanted": wanted,
            "meshsdk.io/phase": phase,
            "meshsdk.io/problem": None if problem is None else _printable(problem),
        }
        with self._lock:
            self._labels = {**self._labels, **{key: value for key, value in said.items() if value is not None}}
            self._keeper.amend(self._labels, self._started_at)

    def leave(self) -> None:
        """Takes it out, in the background."""
        self._keeper.leave()

    def close(self) -> None:
        """Ends the thread."""
        self._keeper.close()


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)[:_LONGEST]
