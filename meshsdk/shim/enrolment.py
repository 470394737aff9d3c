"""The shim itself in the registry, as an instance of `meshsdk.shim`: what it runs, for those who roll out versions.

Made by `running`; `say` is called by it and by upgrades, `trouble` by `supervision`. The control plane's ShimSet
controller reads the labels.
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
        self._trouble = ""  # guarded by _lock: what was last said of an Envoy that ended

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
        """Changes what is said; None leaves a thing as it is. `phase`: running, upgrading, rolled-back or failing."""
        with self._lock:
            self._put(version=version, wanted=wanted, phase=phase, problem=problem)

    def stay(self, wanted: str) -> None:
        """The version that is wanted runs; a shim that is failing goes on saying so."""
        with self._lock:
            if self._labels.get("meshsdk.io/phase") == "failing":
                self._put(wanted=wanted)
            else:
                self._put(wanted=wanted, phase="running", problem="")

    def trouble(self, problem: str, *, failing: bool) -> None:
        """Envoy ended for no reason of the shim's, `failing`: soon after its start. "": it has been up for a while.

        What an upgrade says goes before: it knows why, and how it ended is the control plane's record of it.
        """
        with self._lock:
            phase = self._labels.get("meshsdk.io/phase")
            if problem and phase in {"running", "failing"}:
                self._trouble = _printable(problem)
                self._put(phase="failing" if failing else phase, problem=problem)
            elif not problem and phase == "failing":
                self._put(phase="running", problem="")
            elif not problem and self._trouble and self._labels.get("meshsdk.io/problem") == self._trouble:
                self._put(problem="")

    def drain(self) -> None:
        """The shim is about to end: whatever it was at, that is no failure."""
        self._keeper.want(InstanceState.DRAINING)

    def _put(
        self,
        *,
        version: str | None = None,
        wanted: str | None = None,
        phase: str | None = None,
        problem: str | None = None,
    ) -> None:
        said = {
            "meshsdk.io/version": version,
            "meshsdk.io/wanted": wanted,
            "meshsdk.io/phase": phase,
            "meshsdk.io/problem": None if problem is None else _printable(problem),
        }
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
