"""The watch stream that all watchers of a client share, against a scripted etcd."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterable, Iterator

import pytest

from meshsdk.discovery.etcd import etcd_pb2 as pb
from meshsdk.discovery.etcd import watching
from meshsdk.discovery.etcd.methods import Compacted
from meshsdk.discovery.etcd.values import Batch, Entry
from meshsdk.discovery.etcd.watching import FellBehind, WatchStreams
from meshsdk.errors import RegistryError


class Stream:
    """One stream: the test reads what is asked of it and writes what it answers."""

    def __init__(self, requests: Iterable[pb.WatchRequest]) -> None:
        self._answers: queue.SimpleQueue[pb.WatchResponse | RegistryError | None] = queue.SimpleQueue()
        self.asked: queue.SimpleQueue[pb.WatchRequest | None] = queue.SimpleQueue()
        self.cancelled = threading.Event()
        self.abandoned = threading.Event()
        self._sender = threading.Thread(target=self._send, args=(requests,), daemon=True)
        self._sender.start()

    def _send(self, requests: Iterable[pb.WatchRequest]) -> None:
        for request in requests:
            self.asked.put(request)
        self.asked.put(None)

    def next(self) -> pb.WatchRequest | None:
        """Returns the next request; None: no more come."""
        return self.asked.get(timeout=10)

    def say(self, **answer: object) -> None:
        """Answers."""
        self._answers.put(pb.WatchResponse(header=pb.ResponseHeader(cluster_id=7, revision=90), **answer))

    def breaks(self, problem: RegistryError) -> None:
        """Ends with an error."""
        self._answers.put(problem)

    def answers(self, verb: str) -> Iterator[pb.WatchResponse]:
        """See the transport's stream."""
        while (answer := self._answers.get()) is not None:
            if isinstance(answer, RegistryError):
                raise answer
            yield answer

    def cancel(self) -> None:
        """See the transport's stream."""
        self.cancelled.set()
        self._answers.put(None)

    def abandon(self) -> None:
        """See the transport's stream."""
        self.abandoned.set()
        self.cancel()


class Transport:
    """Opens scripted streams."""

    name = "etcd h:1"

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.forgotten = 0

    def open(self, method: object, requests: Iterable[pb.WatchRequest]) -> Stream:
        """Opens one."""
        self.streams.append(Stream(requests))
        return self.streams[-1]

    def forget_token(self) -> None:
        """Counts."""
        self.forgotten += 1


@pytest.fixture
def transport() -> Iterator[Transport]:
    """A transport whose streams end with the test."""
    made = Transport()
    yield made
    for stream in made.streams:
        stream.cancel()


def put(key: bytes, revision: int, value: bytes = b"v") -> pb.Event:
    """A key is written."""
    return pb.Event(kv=pb.KeyValue(key=key, value=value, mod_revision=revision, lease=5))


def delete(key: bytes, revision: int) -> pb.Event:
    """A key is removed."""
    return pb.Event(type=pb.Event.DELETE, kv=pb.KeyValue(key=key, mod_revision=revision))


def test_watchers_share_one_stream(transport):
    """Each asks with a number of its own and hears its own changes."""
    streams = WatchStreams(transport)
    one, two = streams.watch("/a/", 5), streams.watch("/b/", 6)
    (stream,) = transport.streams
    asked = [stream.next().create_request, stream.next().create_request]
    assert [(r.key, r.range_end, r.start_revision, r.watch_id) for r in asked] == [
        (b"/a/", b"/a0", 5, 1),
        (b"/b/", b"/b0", 6, 2),
    ]
    assert all(r.progress_notify and r.fragment for r in asked)
    stream.say(watch_id=1, created=True)
    stream.say(watch_id=2, created=True)
    stream.say(watch_id=2, events=[put(b"/b/x", 91)])
    stream.say(watch_id=-1)  # progress of the whole stream
    stream.say(watch_id=1, events=[delete(b"/a/x", 92), put(b"/a/y", 92)])
    first, second = one.batches(), two.batches()
    assert next(first) == Batch(7, 90)
    assert next(second) == Batch(7, 90)
    assert next(second) == Batch(7, 91, {"/b/x": Entry("/b/x", b"v", 91, 5)})
    assert next(first) == Batch(7, 92, {"/a/y": Entry("/a/y", b"v", 92, 5)}, ("/a/x",))


def test_the_last_state_of_a_key_counts(transport):
    """Written, removed and written again within one answer, a key is told once."""
    watcher = WatchStreams(transport).watch("/a/", 5)
    events = [put(b"/a/x", 91), delete(b"/a/x", 92), put(b"/a/x", 93, b"new"), put(b"/a/y", 94), delete(b"/a/y", 95)]
    transport.streams[0].say(watch_id=1, created=True, events=events)
    assert next(watcher.batches()) == Batch(7, 95, {"/a/x": Entry("/a/x", b"new", 93, 5)}, ("/a/y",))


def test_fragments_are_put_together(transport):
    """A transaction that comes in several answers is told in one batch."""
    watcher = WatchStreams(transport).watch("/a/", 5)
    stream = transport.streams[0]
    stream.say(watch_id=1, fragment=True, events=[put(b"/a/x", 91)])
    stream.say(watch_id=1, fragment=True, events=[put(b"/a/y", 91)])
    stream.say(watch_id=1, events=[put(b"/a/z", 91)])
    assert sorted(next(watcher.batches()).put) == ["/a/x", "/a/y", "/a/z"]


def test_the_stream_ends_with_its_last_watcher(transport):
    """One that leaves is cancelled at etcd; after the last the stream is closed, and the next opens another."""
    streams = WatchStreams(transport)
    one, two = streams.watch("/a/", 5), streams.watch("/b/", 5)
    stream = transport.streams[0]
    one.cancel()
    one.cancel()
    assert list(one.batches()) == []
    assert [stream.next().WhichOneof("request_union") for _ in range(3)] == [
        "create_request",
        "create_request",
        "cancel_request",
    ]
    assert not stream.cancelled.is_set()
    two.cancel()
    assert stream.next() is None
    assert stream.cancelled.is_set()
    streams.watch("/a/", 5)
    assert len(transport.streams) == 2


def test_a_cancelled_watcher_tells_nothing_more(transport):
    """Changes that had come and were not read are not told after the cancellation."""
    watcher = WatchStreams(transport).watch("/a/", 5)
    stream = transport.streams[0]
    for revision in (91, 92):
        stream.say(watch_id=1, events=[put(b"/a/x", revision)])
    batches = watcher.batches()
    assert next(batches).revision == 91
    watcher.cancel()
    assert list(batches) == []


def test_a_broken_stream_ends_all_its_watchers(transport):
    """Each learns why; the next watcher gets another stream."""
    streams = WatchStreams(transport)
    watchers = [streams.watch("/a/", 5), streams.watch("/b/", 5)]
    transport.streams[0].breaks(RegistryError("broken"))
    for watcher in watchers:
        with pytest.raises(RegistryError, match="broken"):
            next(watcher.batches())
    streams.watch("/c/", 5)
    assert len(transport.streams) == 2
    assert transport.streams[0].asked is not transport.streams[1].asked


def test_a_compacted_watch_says_so(transport):
    """The place asked for is gone: only that watcher ends."""
    streams = WatchStreams(transport)
    old, good = streams.watch("/a/", 5), streams.watch("/b/", 80)
    stream = transport.streams[0]
    stream.say(watch_id=1, created=True)
    stream.say(watch_id=2, created=True)
    stream.say(watch_id=1, canceled=True, compact_revision=50)
    batches = old.batches()
    next(batches)
    with pytest.raises(Compacted, match="50"):
        next(batches)
    stream.say(watch_id=2, events=[put(b"/b/x", 91)])
    assert [batch.revision for batch in itertools.islice(good.batches(), 2)] == [90, 91]


def test_a_refusal_without_a_number_finds_its_watcher(transport):
    """etcd refuses (permission denied, old login) with the number -1; the next attempt logs in, on another stream."""
    streams = WatchStreams(transport)
    good, refused = streams.watch("/a/", 5), streams.watch("/b/", 5)
    stream = transport.streams[0]
    stream.say(watch_id=1, created=True)
    stream.say(watch_id=-1, created=True, canceled=True, cancel_reason="etcdserver: permission denied")
    with pytest.raises(RegistryError, match="permission denied"):
        next(refused.batches())
    assert transport.forgotten == 1
    stream.say(watch_id=1, events=[put(b"/a/x", 91)])
    assert [batch.revision for batch in itertools.islice(good.batches(), 2)] == [90, 91]
    streams.watch("/b/", 5)
    assert len(transport.streams) == 2
    assert not stream.cancelled.is_set()


def test_a_slow_reader_costs_only_itself(transport, monkeypatch):
    """One that does not read loses its place instead of filling the memory; what came before that is still told."""
    monkeypatch.setattr(watching, "_MAX_WAITING", 3)
    streams = WatchStreams(transport)
    slow, other = streams.watch("/a/", 5), streams.watch("/b/", 5)
    stream = transport.streams[0]
    for revision in range(91, 96):
        stream.say(watch_id=1, events=[put(b"/a/%d" % revision, revision)])
        stream.say(watch_id=2, events=[put(b"/b/x", revision)])
    batches = other.batches()
    for revision in range(91, 94):
        assert next(batches).revision == revision
    told = slow.batches()
    assert [next(told).revision for _ in range(3)] == [91, 92, 93]
    with pytest.raises(FellBehind):
        next(told)


def test_a_reader_that_keeps_up_is_never_cut_off(transport, monkeypatch):
    """What was read no longer waits, however much comes in all."""
    monkeypatch.setattr(watching, "_MAX_WAITING", 3)
    batches = WatchStreams(transport).watch("/a/", 5).batches()
    for revision in range(91, 111):
        transport.streams[0].say(watch_id=1, events=[put(b"/a/x", revision)])
        assert next(batches).revision == revision


def test_a_silent_member_is_asked_and_then_left(transport, monkeypatch):
    """No word in spite of questions for progress: the watchers end and the member is left."""
    monkeypatch.setattr(watching, "_PROGRESS", 0.01)
    monkeypatch.setattr(watching, "_SILENCE", 0.2)
    watcher = WatchStreams(transport).watch("/a/", 5)
    stream = transport.streams[0]
    kinds = {stream.next().WhichOneof("request_union") for _ in range(4)}
    assert kinds == {"create_request", "progress_request"}
    with pytest.raises(RegistryError, match="no word from etcd h:1"):
        next(watcher.batches())
    assert stream.abandoned.wait(10)


def test_whatever_etcd_sends_the_watchers_learn_of_it(transport, monkeypatch, caplog):
    """A bug in reading ends the stream with a traceback in the log, and not in a watcher that waits for ever."""

    def bug(answer: pb.WatchResponse, events: list[pb.Event]) -> Batch:
        raise ZeroDivisionError("bug")

    monkeypatch.setattr(watching, "_batch", bug)
    watcher = WatchStreams(transport).watch("/a/", 5)
    transport.streams[0].say(watch_id=1, created=True)
    with pytest.raises(RegistryError, match="ZeroDivisionError: bug"):
        next(watcher.batches())
    assert "Traceback" in caplog.text
