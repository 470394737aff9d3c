"""What `server_interceptors()` promise, the same for every kind of server, handler and call shape."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest

from meshsdk.interceptors.activity import DRAINING_KEY, Sight
from tests.contract.server_drivers import KINDS, OWN, SHAPES, Running, finish, running

SCRIPTS = (b"ok", b"own", b"error", b"own-error", b"abort", b"own-abort", b"code")
WITH_STATUS = ("sync", "aio", "aio-writer")


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    """A kind of server."""
    return request.param


@pytest.fixture(scope="module")
def plain(kind) -> Iterator[Running]:
    """A server without interceptors."""
    with running(kind, intercepted=False) as server:
        yield server


@pytest.fixture(scope="module")
def shared(kind) -> Iterator[Running]:
    """A server with ours, shared by the module."""
    with running(kind) as server:
        yield server


@pytest.fixture
def server(shared) -> Iterator[Running]:
    """The shared server, not draining, and with a closed gate."""
    shared.activity.draining = False
    shared.scripted.gate.clear()
    yield shared
    shared.activity.draining = False
    shared.scripted.gate.set()


def settled(server: Running, in_flight: int = 0) -> Sight:
    """Waits until `in_flight` calls run: a client may see the answer before the server has finished the call."""
    deadline = time.monotonic() + 10
    while (sight := server.activity.look()).in_flight != in_flight:
        assert time.monotonic() < deadline, sight
        time.sleep(0.005)
    return sight


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_call_ends_as_on_a_plain_server(server, plain, shape, script):
    """Without a drain, responses, status, details and trailing metadata are those of a server without us."""
    assert server.call(shape, script) == plain.call(shape, script)
    settled(server)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_answer_of_a_draining_server_says_so(server, plain, shape, script):
    """While draining, each answer is the plain server's plus one trailing entry, the handler's own being kept."""
    server.activity.draining = True
    answer = server.call(shape, script)
    expected = plain.call(shape, script)
    assert answer.trailing.pop(DRAINING_KEY) == "1"
    assert answer == expected
    settled(server)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("draining", [False, True])
def test_a_rich_status_is_kept(server, kind, plain, shape, draining):
    """abort_with_status keeps its code, details and trailing metadata, and says the drain beside it."""
    if kind not in WITH_STATUS:
        pytest.skip("grpc.aio gives thread handlers no abort_with_status")
    server.activity.draining = draining
    answer = server.call(shape, b"status")
    assert answer.trailing.pop(DRAINING_KEY, None) == ("1" if draining else None)
    assert answer == plain.call(shape, b"status")
    assert answer.trailing["rich"] == "1"


@pytest.mark.parametrize("shape", SHAPES)
def test_trailing_metadata_given_to_abort_is_kept(server, kind, shape):
    """grpc.aio's abort takes trailing metadata, which a drain adds to."""
    if kind not in ("aio", "aio-writer"):
        pytest.skip("grpc's other contexts take none")
    server.activity.draining = True
    answer = server.call(shape, b"abort-with")
    assert answer.code is grpc.StatusCode.ABORTED
    assert answer.trailing == {**dict(OWN), DRAINING_KEY: "1"}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_call_that_began_before_the_drain_says_so_too(server, shape):
    """A call in flight when the drain begins ends well and carries the news."""
    call = server.start(shape, b"hold")
    assert server.scripted.began.acquire(timeout=10)
    assert server.activity.look().in_flight == 1
    server.activity.draining = True
    server.scripted.gate.set()
    answer = finish(shape, call)
    assert answer.code is grpc.StatusCode.OK
    assert answer.responses[-1] == b"re:hold"
    assert answer.trailing[DRAINING_KEY] == "1"
    settled(server)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cancelled_call_is_no_longer_in_flight(server, kind, shape):
    """The count returns to zero after a client has cancelled, whatever the handler was doing."""
    if kind == "aio-threads" and shape.endswith("_stream"):
        pytest.skip("grpc.aio leaves the thread of a cancelled stream waiting in its queue for ever")
    before = settled(server).arrived
    call = server.start(shape, b"hold")
    assert server.scripted.began.acquire(timeout=10)
    settled(server, in_flight=1)
    call.cancel()
    server.scripted.gate.set()
    assert settled(server).arrived == before + 1


@pytest.mark.parametrize("shape", SHAPES)
def test_an_unknown_method_is_refused_as_ever(server, plain, shape):
    """A method nobody serves is UNIMPLEMENTED, and while draining the answer says so."""
    expected = plain.call(shape, b"ok", method="Missing")
    assert expected.code is grpc.StatusCode.UNIMPLEMENTED
    assert server.call(shape, b"ok", method="Missing") == expected
    server.activity.draining = True
    answer = server.call(shape, b"ok", method="Missing")
    assert answer.trailing.pop(DRAINING_KEY) == "1"
    assert (answer.code, answer.details) == (expected.code, expected.details)


def test_counts_are_exact_under_concurrency(server):
    """Of 400 calls by 16 threads, each is counted once when it comes and once when it goes."""
    before = settled(server).arrived
    with futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: server.call(SHAPES[number % 4], b"ok"), range(400)))
    assert {answer.code for answer in answers} == {grpc.StatusCode.OK}
    assert settled(server) == Sight(before + 400, 0)


def test_a_stream_is_in_flight_until_its_end(server):
    """A stream counts while it is open, also between two messages."""
    requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    call = server.channel.stream_stream("/contract.Scripted/stream_stream")(iter(requests.get, None), timeout=20)
    requests.put(b"ok")
    assert next(call) == b"re:ok"
    assert server.activity.look().in_flight == 1
    requests.put(None)
    assert list(call) == []
    settled(server)
