"""The route's retry policy and cap of duration. Mesh channels only."""

from __future__ import annotations

import asyncio
import threading
import time

import grpc
import pytest

from meshsdk.channel.mesh_call import MeshCall
from meshsdk.model.policy import RetryPolicy
from tests.contract.channel_backend import METHODS, SHAPES
from tests.contract.channel_callers import PATIENCE
from tests.contract.channels import resolved, route, snapshot, snapshot_of

pytestmark = pytest.mark.parametrize("path", ["mesh"])

POLICY = RetryPolicy(frozenset({"UNAVAILABLE"}), num_retries=2, base_interval=0.001, max_interval=0.002)
PREVIOUS = "grpc-previous-rpc-attempts"


@pytest.fixture(params=SHAPES)
def shape(request) -> str:
    """Each of the four call shapes."""
    return request.param


def test_retried_to_success(lab, backend, shape):
    """A call that fails twice with a code of the policy succeeds at the third attempt, made with the same metadata."""
    caller = lab.open("", first=snapshot(backend.address, retry=POLICY))
    ended = caller.ask(shape, b"fail:2", metadata=(("key", "value"),))
    assert (ended.answers, ended.code) == ([b"a"], grpc.StatusCode.OK)
    assert backend.executed == ["fail:2"] * 3
    assert all(("key", "value") in metadata for metadata in backend.script.metadata)


@pytest.mark.xfail(
    strict=True, reason="core's own retry filter takes the header off every attempt that it did not make"
)
def test_attempts_say_which_they_are(lab, backend, shape):
    """Each further attempt tells the server how many were made before (A6)."""
    lab.open("", first=snapshot(backend.address, retry=POLICY)).ask(shape, b"fail:2")
    assert [dict(metadata).get(PREVIOUS, "") for metadata in backend.script.metadata] == ["", "1", "2"]


def test_retries_that_run_out(lab, backend, shape):
    """After the last retry the error of the last attempt is the call's own."""
    caller = lab.open("", first=snapshot(backend.address, retry=POLICY))
    ended = caller.ask(shape, b"fail:9")
    assert (ended.code, ended.details) == (grpc.StatusCode.UNAVAILABLE, "scripted to fail")
    assert backend.executed == ["fail:9"] * 3


@pytest.mark.parametrize("script", ["abort:", "code:", "raise:"])
def test_other_codes_are_not_retried(lab, backend, shape, script):
    """A code that the policy does not name is not retried."""
    caller = lab.open("", first=snapshot(backend.address, retry=POLICY))
    assert caller.ask(shape, script.encode()).code is not grpc.StatusCode.OK
    assert backend.executed == [script]


def test_nothing_is_retried_without_a_policy(lab, backend, shape):
    """Without a policy no request that was sent is sent again."""
    assert lab.open(backend.address).ask(shape, b"fail:1").code is grpc.StatusCode.UNAVAILABLE
    assert backend.executed == ["fail:1"]


@pytest.mark.parametrize(("pushback", "attempts"), [("1", 3), ("-1", 1), ("soon", 1)])
def test_pushback(lab, backend, shape, pushback, attempts):
    """The server's pushback sets the wait or forbids the retry; what is no number forbids it too (A6)."""
    caller = lab.open("", first=snapshot(backend.address, retry=POLICY))
    assert caller.ask(shape, f"pushback:{pushback}".encode()).code is grpc.StatusCode.UNAVAILABLE
    assert len(backend.executed) == attempts


def test_pushback_is_waited_for(lab, backend, shape):
    """A retry comes no sooner than the server asked for, whatever the policy's backoff."""
    caller = lab.open("", first=snapshot(backend.address, retry=RetryPolicy(POLICY.retry_on, 1, 0.001, 0.001)))
    began = time.monotonic()
    caller.ask(shape, b"pushback:150")
    assert time.monotonic() - began >= 0.15
    assert len(backend.executed) == 2


def test_deadline_before_the_retry(lab, backend, shape):
    """A retry that would come after the deadline is not waited for: the call ends with the error that it has."""
    caller = lab.open("", first=snapshot(backend.address, retry=POLICY))
    ended = caller.ask(shape, b"pushback:60000", timeout=PATIENCE)
    assert (ended.code, ended.details) == (grpc.StatusCode.UNAVAILABLE, "scripted to push back")
    assert len(backend.executed) == 1


def test_deadline_covers_all_attempts(lab, backend, shape):
    """The deadline is that of the call, not of each attempt."""
    policy = RetryPolicy(frozenset({"UNAVAILABLE"}), num_retries=1000, base_interval=0.01, max_interval=0.01)
    ended = lab.open("", first=snapshot(backend.address, retry=policy)).ask(shape, b"fail:9999", timeout=0.15)
    assert ended.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert 1 < len(backend.executed) < 1000


@pytest.mark.parametrize("shape", ["unary_stream", "stream_stream"])
def test_nothing_is_retried_after_an_answer(lab, backend, shape, monkeypatch):
    """A stream that has given the application an answer is not made again, however soon after it ends (A6)."""
    commit = MeshCall._commit

    def slow_commit(call):
        time.sleep(0.02)  # the end overtakes the thread that has just got the answer
        commit(call)

    monkeypatch.setattr(MeshCall, "_commit", slow_commit)
    caller = lab.open("", first=snapshot(backend.address, retry=POLICY))
    for _ in range(10):
        running = caller.start(shape, b"partly:")
        assert running.read() == b"0"
        assert running.end().code is grpc.StatusCode.UNAVAILABLE
    assert backend.executed == ["partly:"] * 10


@pytest.mark.parametrize("facade", ["aio"])
@pytest.mark.parametrize("shape", ["unary_stream", "stream_stream"])
def test_nothing_is_retried_after_an_answer_on_a_busy_loop(lab, backend, shape):
    """The same where the loop learns of the answer and of the end in one breath."""
    caller = lab.open("", first=snapshot(backend.address, retry=POLICY))
    caller.ask("unary_unary", b"say:warm")

    async def busy() -> tuple[bytes, grpc.StatusCode]:
        stub = getattr(caller.channel, shape)(METHODS[shape])
        call = stub(b"partly:" if shape.startswith("unary") else iter([b"partly:"]))
        reading = asyncio.ensure_future(call.read())
        for _ in range(5):
            await asyncio.sleep(0)
        while not backend.executed:  # noqa: ASYNC110 - the loop must stay busy
            await asyncio.sleep(0)
        time.sleep(0.02)  # noqa: ASYNC251 - a busy loop
        return await reading, await call.code()

    for _ in range(5):
        backend.executed.clear()
        assert lab.loop.run(busy()) == (b"0", grpc.StatusCode.UNAVAILABLE)
        assert backend.executed == ["partly:"]


@pytest.mark.parametrize("facade", ["aio"])
@pytest.mark.parametrize("shape", ["stream_unary"])
def test_write_that_fails_before_the_status_comes(lab, backend, shape):
    """Where grpc.aio reports a failed write first and the status after it, the status decides on the retry."""
    policy = RetryPolicy(POLICY.retry_on, 1, 0.001, 0.002)
    caller = lab.open("", first=snapshot(backend.address, retry=policy))
    caller.ask("unary_unary", b"say:warm")

    async def codes() -> list[grpc.StatusCode]:
        stub = getattr(caller.channel, shape)(METHODS[shape])
        calls = [stub(iter([b"say:0", b"unavailable:", *[b"say:1"] * 8])) for _ in range(100)]
        return [await call.code() for call in calls]

    assert set(lab.loop.run(codes())) == {grpc.StatusCode.UNAVAILABLE}
    assert backend.executed.count("unavailable:") == 2 * 100


@pytest.mark.parametrize("shape", ["stream_unary", "stream_stream"])
def test_requests_are_given_again(lab, backend, shape):
    """A retried stream of requests is whole, and the application's iterator is asked once."""
    caller = lab.open("", first=snapshot(backend.address, retry=POLICY))
    ended = caller.ask(shape, b"say:0", b"say:1", b"fail:1", b"say:2")
    assert ended.code is grpc.StatusCode.OK or ended.answers[:1] == [b"0"]
    if shape == "stream_unary":
        assert ended.answers == [b"0|1|a|2"]


def test_cancelled_between_attempts(lab, backend, shape):
    """A call that waits for its next attempt is cancelled at once and not made again."""
    caller = lab.open("", first=snapshot(backend.address, retry=POLICY))
    running = caller.start(shape, b"pushback:1500")
    while not backend.executed:
        time.sleep(0.002)
    time.sleep(0.05)  # the answer must have come; were it late, the call would be cancelled while it runs
    assert running.cancel()
    assert running.end().code is grpc.StatusCode.CANCELLED
    assert running.over()
    assert len(backend.executed) == 1


def test_closed_between_attempts(lab, backend, shape):
    """Closing the channel ends a call that waits for its next attempt at once, one that blocks its thread too."""
    caller = lab.open("", first=snapshot(backend.address, retry=POLICY))
    done: list = []
    options = {"timeout": 120}
    thread = threading.Thread(target=lambda: done.append(caller.ask(shape, b"pushback:60000", **options)), daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while not backend.executed and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(0.05)  # the answer must have come; were it late, the call would be cancelled while it runs
    caller.close()
    thread.join(PATIENCE)
    assert [ended.code for ended in done] == [grpc.StatusCode.CANCELLED]
    assert len(backend.executed) == 1


def capped(backend, **forward):
    """A configuration whose route caps calls."""
    return snapshot_of([route("c", **forward)], resolved("c", [backend.address]))


@pytest.mark.parametrize("timeout", [None, 60])
def test_cap_of_the_route(lab, backend, shape, timeout):
    """The route's `max_stream_duration` ends a call that has no deadline, or a later one (A31)."""
    ended = lab.open("", first=capped(backend, max_duration=0.1)).ask(shape, b"hang:0", timeout=timeout)
    assert ended.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_deadline_below_the_cap(lab, backend, shape):
    """An earlier deadline of the caller stays."""
    ended = lab.open("", first=capped(backend, max_duration=60)).ask(shape, b"remaining:", timeout=30)
    assert 0 < float(ended.answers[0]) <= 32  # grpc rounds up


@pytest.mark.parametrize(("header", "timeout", "most"), [(40.0, 50, 40), (0.0, 50, 50), (40.0, 30, 30)])
def test_cap_of_the_header(lab, backend, shape, header, timeout, most):
    """`grpc_timeout_header_max` caps the caller's deadline instead of `max_stream_duration`; 0: no cap (A31)."""
    first = capped(backend, max_duration=10.0, header_max_duration=header)
    remaining = float(lab.open("", first=first).ask(shape, b"remaining:", timeout=timeout).answers[0])
    assert most - 8 < remaining <= most + 2  # grpc rounds up


def test_cap_counts_from_the_start(lab, backend, shape):
    """The cap is for the whole call: retries do not begin it anew."""
    policy = RetryPolicy(frozenset({"UNAVAILABLE"}), num_retries=1000, base_interval=0.01, max_interval=0.01)
    first = capped(backend, max_duration=0.15, retry=policy)
    ended = lab.open("", first=first).ask(shape, b"fail:9999", timeout=None)
    assert ended.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert len(backend.executed) < 1000
