"""The calls of a server of several processes: counts in memory that they share, each process writing its own slot.

Made by `gunicorn_hooks` before the workers are forked, read by `registrar`. Numbers are written whole (eight
aligned bytes), so that a reader needs no lock.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from typing import final

from meshsdk.interceptors.activity import RunningCall, Sight

SLOTS = 1024  # processes at one time
_WORD = 8
_WORDS_OF_SLOT = 3  # arrived, in flight, booted
_SIZE = _WORD * (1 + SLOTS * _WORDS_OF_SLOT)  # the first word: draining
_LAYOUT = struct.Struct("=Q")


@final
class SharedActivity:
    """All processes' calls, as the one that registers sees them; an `Activity`. Safe from any thread."""

    def __init__(self, descriptor: int | None = None) -> None:
        """`descriptor`: of the memory of another process's object; None: makes the memory."""
        self.descriptor = os.memfd_create("meshsdk-activity") if descriptor is None else descriptor
        if descriptor is None:
            os.ftruncate(self.descriptor, _SIZE)
        self._memory = mmap.mmap(self.descriptor, _SIZE)

    @property
    def draining(self) -> bool:
        """Whether clients are told to go."""
        return bool(self._read(0))

    @draining.setter
    def draining(self, draining: bool) -> None:
        """Every process sees it with its next call."""
        self._write(0, int(draining))

    @property
    def booted(self) -> bool:
        """Whether some process takes calls."""
        return any(self._read(1 + slot * _WORDS_OF_SLOT + 2) for slot in range(SLOTS))

    def look(self) -> Sight:
        """Returns the counts of this moment."""
        first = range(1, 1 + SLOTS * _WORDS_OF_SLOT, _WORDS_OF_SLOT)
        return Sight(sum(map(self._read, first)), sum(self._read(word + 1) for word in first))

    def cut(self, details: str) -> int:  # noqa: ARG002 - see `Activity`
        """Nothing can be ended from here; the web server does, at its own deadline."""
        return 0

    def release(self, slot: int) -> None:
        """The process of this slot is gone, with the calls it had."""
        self._write(1 + slot * _WORDS_OF_SLOT + 1, 0)
        self._write(1 + slot * _WORDS_OF_SLOT + 2, 0)

    def slot(self, slot: int) -> WorkerActivity:
        """Returns what the process with this slot writes."""
        return WorkerActivity(self, slot)

    def _read(self, word: int) -> int:
        number: int = _LAYOUT.unpack_from(self._memory, word * _WORD)[0]
        return number

    def _write(self, word: int, number: int) -> None:
        _LAYOUT.pack_into(self._memory, word * _WORD, number)


@final
class WorkerActivity:
    """One process's calls; a `CallCounter`. Any thread of that process."""

    def __init__(self, shared: SharedActivity, slot: int) -> None:
        self._shared = shared
        self._first = 1 + slot * _WORDS_OF_SLOT
        self._lock = threading.Lock()

    @property
    def draining(self) -> bool:
        """Whether clients are told to go."""
        return self._shared.draining

    def boot(self) -> None:
        """This process takes calls."""
        self._add(2, 1)

    def enter(self, call: RunningCall) -> None:  # noqa: ARG002 - see `CallCounter`
        """A call begins."""
        self._add(0, 1)
        self._add(1, 1)

    def leave(self, call: RunningCall) -> None:  # noqa: ARG002 - see `CallCounter`
        """It ended."""
        self._add(1, -1)

    def _add(self, word: int, number: int) -> None:
        with self._lock:
            self._shared._write(self._first + word, self._shared._read(self._first + word) + number)  # noqa: SLF001
