"""Watching etcd: all watchers of a client share one stream, which is opened with the first and closed after the last.

`Watcher` is what a thread reads its changes from; `WatchStreams` opens the stream; `_WatchStream` is one stream and its
reader thread. A stream that breaks ends its watchers with an error; opening anew, and from where, is decided by
`PrefixFollower`. A connection that is dead without a word is noticed by asking the member for its progress.
"""

from __future__ import annotations

import collections
import itertools
import logging
import queue
import threading
import time
from collections.abc import Iterator

from meshsdk.discovery.etcd import etcd_pb2 as pb
from meshsdk.discovery.etcd.methods import WATCH, Compacted
from meshsdk.discovery.etcd.transport import Transport
from meshsdk.discovery.etcd.values import Batch, Entry, key_bytes, key_text, range_end
from meshsdk.errors import RegistryError

_LOG = logging.getLogger("meshsdk.discovery")
_PROGRESS = 5.0  # seconds between questions for progress
_SILENCE = 12.0  # seconds without a word after which a stream is given up
_MAX_WAITING = 20_000  # changes that may wait for a slow reader; beyond that it lists anew, which is cheaper
_VERB = "watch"


class FellBehind(RegistryError):
    """The reader of a watcher is too slow for its changes."""


class Watcher:
    """Changes of one range of keys. Read by one thread; `cancel` may be called from any."""

    def __init__(self, stream: _WatchStream, number: int) -> None:
        self._stream = stream
        self._number = number
        self._news: queue.SimpleQueue[Batch | RegistryError | None] = queue.SimpleQueue()
        self._waiting = 0  # changes put minus changes read; guarded by _lock
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._fragments: list[pb.Event] = []  # owned by the stream's reader thread

    def batches(self) -> Iterator[Batch]:
        """Yields an empty batch once the watch stands, then every change; ends when cancelled.

        Raises Compacted when the changes asked for are no longer kept, RegistryError when the watch is lost.
        """
        while (news := self._news.get()) is not None and not self._cancelled.is_set():
            if isinstance(news, RegistryError):
                raise news
            with self._lock:
                self._waiting -= len(news.put) + len(news.removed)
            yield news

    def cancel(self) -> None:
        """Ends the watch; idempotent."""
        self._cancelled.set()
        self._news.put(None)
        self._stream.drop(self._number)

    # -- called by the stream's reader thread -----------------------------------------------------------------------

    def take(self, answer: pb.WatchResponse) -> bool:
        """Takes one answer; returns whether the watch goes on."""
        if answer.canceled:
            self.fail(_cancelled(answer))
            return False
        self._fragments.extend(answer.events)
        if answer.fragment:
            return True
        batch = _batch(answer, self._fragments)
        self._fragments = []
        with self._lock:
            self._waiting += len(batch.put) + len(batch.removed)
            behind = self._waiting > _MAX_WAITING
        if behind:
            self.fail(FellBehind(f"more than {_MAX_WAITING} changes wait to be read"))
            return False
        self._news.put(batch)
        return True

    def fail(self, problem: RegistryError) -> None:
        """Ends the watch with an error."""
        self._news.put(problem)


class WatchStreams:
    """Opens the watch stream of a client when it is needed. Usable from any thread."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._lock = threading.Lock()
        self._stream: _WatchStream | None = None  # guarded by _lock

    def watch(self, prefix: str, start: int) -> Watcher:
        """Returns a watcher from revision `start` on. Raises RegistryError when no stream can be opened."""
        with self._lock:
            watcher = self._stream.add(prefix, start) if self._stream is not None else None
            if watcher is None:
                self._stream = _WatchStream(self._transport)
                watcher = self._stream.add(prefix, start)
                self._stream.start()
        if watcher is None:
            raise RegistryError(f"the watch stream of {self._transport.name} ended as it began")
        return watcher


class _WatchStream:
    """One stream. Its watchers come and go; when the last has gone it ends."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._requests: queue.SimpleQueue[pb.WatchRequest | None] = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._watchers: dict[int, Watcher] = {}  # guarded by _lock
        self._asked: collections.deque[int] = collections.deque()  # guarded by _lock; not answered yet, in order
        self._over = False  # guarded by _lock; takes no more watchers
        self._heard = time.monotonic()  # written by the reader, read by the sender: a float, replaced as a whole
        self._stream = transport.open(WATCH, self._outgoing())
        self._thread = threading.Thread(target=self._read, name="meshsdk-etcd-watch", daemon=True)

    def start(self) -> None:
        """Starts the reader."""
        self._thread.start()

    def add(self, prefix: str, start: int) -> Watcher | None:
        """Returns a new watcher, None when the stream is over."""
        create = pb.WatchCreateRequest(
            key=key_bytes(prefix),
            range_end=range_end(prefix),
            start_revision=start,
            progress_notify=True,
            fragment=True,
        )
        with self._lock:
            if self._over:
                return None
            create.watch_id = next(self._numbers)
            watcher = self._watchers[create.watch_id] = Watcher(self, create.watch_id)
            self._asked.append(create.watch_id)
            self._requests.put(pb.WatchRequest(create_request=create))
        return watcher

    def drop(self, number: int) -> None:
        """Forgets a watcher; ends the stream with the last."""
        with self._lock:
            if self._watchers.pop(number, None) is None:
                return
            last = not self._watchers
            self._over = self._over or last
        if last:
            self._requests.put(None)
            self._stream.cancel()
        else:
            self._requests.put(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=number)))

    def _outgoing(self) -> Iterator[pb.WatchRequest]:
        """Yields what is sent, on a thread of grpc's; asks for progress while there is nothing else to say."""
        while True:
            try:
                request = self._requests.get(timeout=_PROGRESS)
            except queue.Empty:
                request = pb.WatchRequest(progress_request=pb.WatchProgressRequest())
            if time.monotonic() - self._heard > _SILENCE:
                self._end(RegistryError(f"no word from {self._transport.name} for {_SILENCE:g} s"))
                self._stream.abandon()
                return
            if request is None:
                return
            yield request

    def _read(self) -> None:
        problem = RegistryError(f"{self._transport.name} ended the watch stream")
        try:
            for answer in self._stream.answers(_VERB):
                self._heard = time.monotonic()
                self._deliver(answer)
        except RegistryError as error:
            problem = error
        except Exception as error:  # noqa: BLE001 - whatever etcd sends, watchers learn that their stream is gone
            _LOG.exception("reading the watch stream of %s failed", self._transport.name)
            problem = RegistryError(f"{type(error).__name__}: {error}")
        finally:
            self._end(problem)
            self._requests.put(None)

    def _deliver(self, answer: pb.WatchResponse) -> None:
        number = answer.watch_id
        with self._lock:
            if answer.created and self._asked:
                number = self._asked.popleft()  # etcd answers in order, and a refusal without the number
            refused = answer.created and answer.canceled
            self._over = self._over or refused
            watcher = self._watchers.get(number)
        if refused:
            self._transport.forget_token()  # perhaps it was old: who tries again logs in, and on a new stream
        if watcher is not None and not watcher.take(answer):
            self.drop(number)

    def _end(self, problem: RegistryError) -> None:
        with self._lock:
            self._over = True
            watchers, self._watchers = self._watchers, {}
        for watcher in watchers.values():
            watcher.fail(problem)


def _cancelled(answer: pb.WatchResponse) -> RegistryError:
    if answer.compact_revision:
        return Compacted(f"changes before revision {answer.compact_revision} are no longer kept")
    return RegistryError(f"etcd refused the watch: {answer.cancel_reason or 'no reason given'}")


def _batch(answer: pb.WatchResponse, events: list[pb.Event]) -> Batch:
    latest = {event.kv.key: event for event in events}
    put: dict[str, Entry] = {}
    removed: list[str] = []
    for raw, event in latest.items():
        key, message = key_text(raw), event.kv
        if event.type == pb.Event.DELETE:
            removed.append(key)
        else:
            put[key] = Entry(key, message.value, message.mod_revision, message.lease)
    revision = max((event.kv.mod_revision for event in events), default=answer.header.revision)
    return Batch(answer.header.cluster_id, revision, put, tuple(removed))
