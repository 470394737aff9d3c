"""What a route says of attempts: their own timeout, retriable headers, where a retry goes. Mesh channels only."""

from __future__ import annotations

import asyncio
import dataclasses

import grpc
import pytest

from meshsdk.model.filters import HeaderEdit
from meshsdk.model.matching import HeaderMatch, StringKind, StringMatch
from meshsdk.model.policy import LbConfig, RandomChoice, RetryPolicy, RpcDefaults
from tests.contract.channel_backend import METHODS, SHAPES, Backend
from tests.contract.channel_callers import PATIENCE
from tests.contract.channels import resolved, route, snapshot, snapshot_of

pytestmark = pytest.mark.parametrize("path", ["mesh"])
LATE = grpc.StatusCode.DEADLINE_EXCEEDED
TRIES = RetryPolicy(frozenset({"DEADLINE_EXCEEDED"}), 2, 0.001, 0.002, per_try_timeout=0.1)


@pytest.fixture(params=SHAPES)
def shape(request) -> str:
    """Each of the four call shapes."""
    return request.param


def test_attempts_that_last_too_long(lab, backend, shape):
    """An attempt that outlasts its own timeout is ended and retried; the last one's end is the call's own."""
    ended = lab.open("", first=snapshot(backend.address, retry=TRIES)).ask(shape, b"hang:0")
    assert (ended.code, ended.details) == (LATE, "Deadline Exceeded")
    assert isinstance(ended.error, grpc.RpcError)
    assert backend.executed == ["hang:0"] * 3


@pytest.mark.parametrize("shape", ["unary_stream", "stream_stream"])
def test_reading_attempts_that_last_too_long(lab, backend, shape):
    """Who reads one answer at a time gets the call's error as well, not the cancellation of an attempt."""
    running = lab.open("", first=snapshot(backend.address, retry=TRIES)).start(shape, b"hang:0")
    with pytest.raises(grpc.RpcError) as raised:
        running.read()
    assert raised.value.code() is LATE


@pytest.mark.parametrize("reads", [False, True])
def test_slow_attempt_is_rescued(lab, backend, shape, reads):
    """An attempt that lasts too long is followed by one elsewhere, whose answer is the call's."""
    with Backend("b") as other:
        found = resolved("c", [backend.address, other.address])
        caller = lab.open("", first=snapshot_of([route("c", retry=TRIES)], found))
        request = b"each:a=hang:0;b=say:quick"
        while request.decode() not in backend.executed:
            running = caller.start(shape, request)
            if reads and shape.endswith("_stream"):
                assert running.read() == b"quick"
            else:
                assert running.end().answers == [b"quick"]


@pytest.mark.parametrize(("facade", "words"), [("aio", "hang:0"), ("aio", "each:a=hang:0;b=say:quick")])
def test_writing_to_attempts_that_last_too_long(lab, backend, words):
    """A stream that is written and read by hand sees the next attempt, or the call's error."""

    async def run(call) -> bytes:
        for _ in range(3):
            await call.write(words.encode())
        await call.done_writing()
        return await call.read()

    with Backend("b") as other:
        found = resolved("c", [backend.address, other.address])
        caller = lab.open("", first=snapshot_of([route("c", retry=TRIES)], found))
        while words not in backend.executed:
            call = caller.start_with("stream_stream", None).call
            if words == "hang:0":
                with pytest.raises(grpc.RpcError):
                    caller.thread.run(run(call))
            else:
                assert caller.thread.run(run(call)) == b"quick"


@pytest.mark.parametrize(("facade", "shape"), [("aio", "unary_stream"), ("aio", "stream_stream")])
def test_cancelled_reader(lab, backend, shape):
    """A task that is cancelled while it reads is cancelled, and the call with it: no further attempt is made."""
    policy = dataclasses.replace(TRIES, per_try_timeout=30.0)
    caller = lab.open("", first=snapshot(backend.address, retry=policy))
    call = caller.start(shape, b"hang:0").call

    async def read() -> asyncio.Task[bytes]:
        return asyncio.ensure_future(call.read())

    async def cancel(reader: asyncio.Task[bytes]) -> None:
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert call.cancelled()

    reader = caller.thread.run(read())
    assert backend.script.began.acquire(timeout=PATIENCE)
    caller.thread.run(cancel(reader))
    assert backend.executed == ["hang:0"]


def test_attempts_without_a_retry_for_it(lab, backend, shape):
    """Where the policy does not name DEADLINE_EXCEEDED, the first attempt that lasts too long is the last."""
    policy = dataclasses.replace(TRIES, retry_on=frozenset({"UNAVAILABLE"}))
    ended = lab.open("", first=snapshot(backend.address, retry=policy)).ask(shape, b"hang:0")
    assert ended.code is LATE
    assert backend.executed == ["hang:0"]


def test_deadline_of_the_call_comes_first(lab, backend, shape):
    """The call's own deadline is still the call's: nothing is retried after it."""
    policy = dataclasses.replace(TRIES, per_try_timeout=30.0)
    ended = lab.open("", first=snapshot(backend.address, retry=policy)).ask(shape, b"hang:0", timeout=0.1)
    assert ended.code is LATE
    assert backend.executed == ["hang:0"]


def test_attempts_in_time(lab, backend, shape):
    """An attempt that is in time is not ended."""
    policy = dataclasses.replace(TRIES, per_try_timeout=30.0)
    caller = lab.open("", first=snapshot(backend.address, retry=policy))
    assert caller.ask(shape, b"say:1").answers == [b"1"]


@pytest.mark.parametrize("shape", ["unary_stream", "stream_stream"])
def test_stream_that_has_begun(lab, backend, shape):
    """A stream whose first answer came in time goes on for as long as the call may (Envoy does likewise)."""
    caller = lab.open("", first=snapshot(backend.address, retry=TRIES))
    running = caller.start(shape, b"hang:1")
    assert running.read() == b"0"
    assert not backend.script.cancelled.wait(0.3)
    backend.script.release.set()
    ended = running.end()
    assert (ended.answers, ended.code) == ([b"released"], grpc.StatusCode.OK)
    assert backend.executed == ["hang:1"]


HEADER = HeaderMatch("trailing", StringMatch(StringKind.EXACT, "last"))


@pytest.mark.parametrize("matching", [True, False])
def test_answers_with_a_retriable_header(lab, backend, shape, matching):
    """An answer with a header of the policy is retried, whatever its code; another one is not."""
    header = HEADER if matching else dataclasses.replace(HEADER, test=StringMatch(StringKind.EXACT, "first"))
    policy = RetryPolicy(frozenset({"UNAVAILABLE"}), 2, 0.001, 0.002, retriable_headers=(header,))
    ended = lab.open("", first=snapshot(backend.address, retry=policy)).ask(shape, b"abort:")
    assert ended.code is grpc.StatusCode.FAILED_PRECONDITION
    assert len(backend.executed) == (3 if matching else 1)


@pytest.mark.parametrize("shape", ["unary_unary", "stream_unary"])
def test_good_answers_with_a_retriable_header(lab, backend, shape):
    """Even an OK is retried for it, where nothing has reached the application; the last answer is the call's own."""
    header = HeaderMatch("initial", StringMatch(StringKind.EXACT, "first"))
    policy = RetryPolicy(frozenset({"UNAVAILABLE"}), 2, 0.001, 0.002, retriable_headers=(header,))
    caller = lab.open("", first=snapshot(backend.address, retry=policy))
    ended = caller.ask(shape, b"metadata:")
    assert (ended.answers, ended.code) == ([b"a"], grpc.StatusCode.OK)
    assert backend.executed == ["metadata:"] * 3
    assert caller.ask(shape, b"say:1").answers == [b"1"]


def test_retry_elsewhere(lab, backend, shape):
    """With `avoid_previous` a retry goes to an endpoint that the call has not tried."""
    policy = RetryPolicy(frozenset({"UNAVAILABLE"}), 1, 0.001, 0.002, avoid_previous=True, avoid_attempts=64)
    with Backend("b") as other:
        caller = lab.open("", first=snapshot(backend.address, other.address, lb=LbConfig(RandomChoice()), retry=policy))
        while not (backend.executed and other.executed):
            caller.ask("unary_unary", b"say:warm")
        backend.executed.clear()
        other.executed.clear()
        for number in range(8):
            assert caller.ask(shape, f"fail:{'0' * number}1".encode(), timeout=PATIENCE).code is not None
        for one in (backend, other):
            assert len(one.executed) == len(set(one.executed)) == 8


def test_retry_where_there_is_no_other(lab, backend, shape):
    """Where the only endpoint was tried, a retry goes there all the same."""
    policy = RetryPolicy(frozenset({"UNAVAILABLE"}), 1, 0.001, 0.002, avoid_previous=True, avoid_attempts=3)
    caller = lab.open("", first=snapshot(backend.address, retry=policy))
    assert caller.ask(shape, b"fail:1").code is grpc.StatusCode.OK


EDITS = (
    HeaderEdit("added", "1"),
    HeaderEdit("key", "replaced", append=False),
    HeaderEdit("gone", None),
    HeaderEdit("kept", "new", only_if_absent=True),
)


def test_request_edits(lab, backend, shape):
    """Metadata goes out as the route's edits say, at every attempt."""
    policy = RetryPolicy(frozenset({"UNAVAILABLE"}), 1, 0.001, 0.002)
    first = snapshot_of([route("c", request_edits=EDITS, retry=policy)], resolved("c", [backend.address]))
    given = (("key", "value"), ("gone", "x"), ("kept", "old"))
    lab.open("", first=first).ask(shape, b"fail:1", metadata=given)
    for sent in backend.script.metadata:
        pairs = [pair for pair in sent if pair[0] in ("added", "key", "gone", "kept")]
        assert sorted(pairs) == [("added", "1"), ("kept", "old"), ("key", "replaced")]
    assert len(backend.script.metadata) == 2


def test_response_edits(lab, backend, shape):
    """The server's first headers reach the application as the route's edits say."""
    edits = (HeaderEdit("initial", "edited", append=False), HeaderEdit("added", "1"))
    first = snapshot_of([route("c", response_edits=edits)], resolved("c", [backend.address]))
    ended = lab.open("", first=first).ask(shape, b"metadata:")
    assert ended.answers == [b"a"]
    seen = dict(ended.initial)
    assert (seen["initial"], seen["added"], seen["initial-bin"]) == ("edited", "1", b"\x00\xfe")


def test_watched(lab, backend, shape):
    """Whoever watches an endpoint is told how each attempt on it ended, and what it reported."""
    told: list[object] = []

    class Watch:
        def succeeded(self) -> None:
            told.append("OK")

        def failed(self, code: str, *, local_origin: bool) -> None:
            told.append((code, local_origin))

        def reported(self, trailing) -> None:
            told.append([pair for pair in trailing if pair[0] == "trailing"])

    policy = RetryPolicy(frozenset({"UNAVAILABLE"}), 1, 0.001, 0.002)
    caller = lab.open("", first=snapshot(backend.address, retry=policy))
    caller.ask("unary_unary", b"say:warm")
    (target,) = lab.scopes[0].targets()
    (balancer,) = target.routes.balancers
    (one,) = balancer.backends
    one.watch = Watch()
    for script in (b"say:1", b"fail:1", b"abort:", b"metadata:"):
        caller.ask(shape, script)
    one.watch = None
    failed, reported = ("FAILED_PRECONDITION", False), [("trailing", "last")]
    assert told == ["OK", ("UNAVAILABLE", False), "OK", failed, reported, "OK", reported]


def said(address: str, shape: str, said: RpcDefaults, **forward):
    """One route to a cluster whose servers say this of the shape's method."""
    cluster = resolved("c", [address])
    (leaf,) = cluster.leaves
    told = dataclasses.replace(leaf.endpoints, methods={METHODS[shape]: said})
    cluster = dataclasses.replace(cluster, leaves=(dataclasses.replace(leaf, endpoints=told),))
    return snapshot_of([route("c", **forward)], cluster)


def test_method_declared_idempotent(lab, backend, shape):
    """A method that its server declares idempotent is retried without a policy; others of the cluster are not."""
    caller = lab.open("", first=said(backend.address, shape, RpcDefaults(idempotent=True)))
    assert caller.ask(shape, b"fail:2").code is grpc.StatusCode.OK
    assert backend.executed == ["fail:2"] * 3
    other = next(one for one in SHAPES if one != shape)
    assert caller.ask(other, b"fail:02").code is grpc.StatusCode.UNAVAILABLE


def test_policy_of_the_route_stands(lab, backend, shape):
    """What the route says of retries, the server's word does not change."""
    policy = RetryPolicy(frozenset({"UNAVAILABLE"}), 0)
    caller = lab.open("", first=said(backend.address, shape, RpcDefaults(idempotent=True), retry=policy))
    assert caller.ask(shape, b"fail:1").code is grpc.StatusCode.UNAVAILABLE
    assert backend.executed == ["fail:1"]


def test_timeout_of_the_server(lab, backend, shape):
    """The server's own timeout ends a call that brings none, and none that does."""
    caller = lab.open("", first=said(backend.address, shape, RpcDefaults(timeout=0.1)))
    assert caller.ask(shape, b"hang:0", timeout=None).code is LATE
    assert float(caller.ask(shape, b"remaining:", timeout=60).answers[0]) > 30
