"""What a scheduler returns when the backend it chose is not connected any more.

A picker is built over READY backends and replaced when one leaves that state; between the two, calls may still choose
it. Looking once more costs those calls a scan, and all others one comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

from meshsdk.lb.backend import Backend, Connectivity

_READY = Connectivity.READY

Pick = Callable[[int | None], Backend]
"""Gives the backend for one call. The argument is the call's 64-bit hash (A42), or None; only hash policies read it."""

StandIn = Callable[[Backend], Backend]
"""Takes a backend that is not READY; gives one that is, or the same one if there is none."""


def stand_in(near: Sequence[Backend], far: Sequence[Backend], draw: Callable[[], float]) -> StandIn:
    """Returns a search that begins at a random place in `near` (the same priority) and goes on to `far`, in order."""

    def search(chosen: Backend) -> Backend:
        begin = int(draw() * len(near))
        for backend in chain(near[begin:], near[:begin], far):
            if backend.state is _READY:
                return backend
        return chosen

    return search
