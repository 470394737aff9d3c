"""The requests of a streaming call, so that an attempt that was never sent can be made again elsewhere.

Until the call commits, what the application's iterator has given is kept and given to the next attempt again; after
that nothing is kept. Used by `mesh_call`; grpc's own thread consumes each attempt's view.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

LIMIT = 1024  # messages kept; a call that has sent more without an answer can no longer be made again


class Replay:
    """The application's requests. All fields are guarded by `_lock`; `_source` is advanced by one thread at a time."""

    def __init__(self, requests: Iterable[Any]) -> None:
        """Takes the application's iterator or iterable."""
        self._source = iter(requests)
        self._lock = threading.Condition()
        self._kept: deque[Any] = deque()
        self._base = 0  # index of the first kept request
        self._keeping = True
        self._pulling = False
        self._ended: BaseException | None = None

    def view(self) -> Iterator[Any]:
        """Returns the requests from the start, for one attempt."""
        return _View(self)

    @property
    def replayable(self) -> bool:
        """Whether everything given so far can be given again."""
        with self._lock:
            return self._base == 0

    def commit(self) -> None:
        """Keeps nothing from now on beyond what the running attempt has yet to take."""
        with self._lock:
            self._keeping = False

    def get(self, index: int) -> Any:
        """Returns request `index`; blocks on the application's iterator. Raises what the iterator raised at its end."""
        with self._lock:
            while True:
                if index < self._base + len(self._kept):
                    request = self._kept[index - self._base]
                    while self._kept and self._base <= index and (not self._keeping or len(self._kept) > LIMIT):
                        self._kept.popleft()
                        self._base += 1
                    return request
                if self._ended is not None:
                    raise self._ended
                if not self._pulling:
                    self._pull()
                else:
                    self._lock.wait()

    def _pull(self) -> None:
        self._pulling = True
        self._lock.release()
        try:
            try:
                request = next(self._source)
                ended = None
            except BaseException as error:  # noqa: BLE001 - handed to grpc's consumer as if its own iterator raised it
                request, ended = None, error
        finally:
            self._lock.acquire()
        self._pulling = False
        self._ended = ended
        if ended is None:
            self._kept.append(request)
        self._lock.notify_all()


class _View:
    """One attempt's place in the requests. Used by grpc's consumer thread of that attempt."""

    __slots__ = ("_index", "_replay")

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._index = 0

    def __iter__(self) -> _View:
        return self

    def __next__(self) -> Any:
        request = self._replay.get(self._index)
        self._index += 1
        return request
