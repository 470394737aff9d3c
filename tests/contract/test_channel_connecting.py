"""Calls that meet no connection: wait_for_ready, a backend that comes later, cancellation and close while waiting."""

from __future__ import annotations

import socket
import threading
import time

import grpc
import pytest

from tests.contract.channel_backend import SHAPES, Backend
from tests.contract.channel_callers import PATIENCE
from tests.contract.channel_wire import Relay

QUICK = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
]


def free_port() -> int:
    """A port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(params=SHAPES)
def shape(request) -> str:
    """Each of the four call shapes."""
    return request.param


@pytest.mark.parametrize("wait", [None, False])
def test_nothing_listens(lab, shape, wait):
    """A call that does not wait for ready fails UNAVAILABLE long before its deadline, and says why and where."""
    address = f"127.0.0.1:{free_port()}"
    ended = lab.open(address).ask(shape, b"say:x", wait_for_ready=wait, timeout=60)
    assert ended.code is grpc.StatusCode.UNAVAILABLE
    assert isinstance(ended.error, grpc.RpcError)
    assert "connect" in ended.details


@pytest.mark.parametrize("path", ["plain", "mesh"])
def test_wait_for_ready_to_the_deadline(lab, shape):
    """A call that waits for ready waits to its deadline."""
    ended = lab.open(f"127.0.0.1:{free_port()}").ask(shape, b"say:x", wait_for_ready=True, timeout=0.1)
    assert ended.code is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("path", ["plain", "mesh"])
def test_backend_that_comes_later(lab, shape):
    """A call that waits for ready is made once the backend is there."""
    port = free_port()
    caller = lab.open(f"127.0.0.1:{port}", options=QUICK)
    running = caller.start(shape, b"who:", wait_for_ready=True, timeout=PATIENCE)
    assert caller.ask(shape, b"say:x", timeout=5).code is grpc.StatusCode.UNAVAILABLE
    with Backend("late", port=port) as backend:
        ended = running.end()
        assert (ended.answers, ended.code, backend.executed) == ([b"late"], grpc.StatusCode.OK, ["who:"])


@pytest.mark.parametrize("path", ["plain", "mesh"])
def test_cancel_before_connected(lab, shape):
    """A call that waits for ready is cancelled at once, as a running one is, and never made."""
    port = free_port()
    caller = lab.open(f"127.0.0.1:{port}", options=QUICK)
    running = caller.start(shape, b"say:x", wait_for_ready=True)
    assert not running.over()
    assert running.cancel()
    ended = running.end()
    assert (ended.code, ended.details) == (grpc.StatusCode.CANCELLED, "Locally cancelled by application!")
    assert running.over()
    assert running.call.cancelled()
    assert not running.cancel()
    if lab.facade == "sync" and shape.endswith("_unary"):
        assert isinstance(ended.error, grpc.FutureCancelledError)
    with Backend(port=port) as backend:
        assert caller.ask(shape, b"say:y", wait_for_ready=True).answers == [b"y"]
        assert backend.executed == ["say:y"]


@pytest.mark.parametrize("path", ["plain", "mesh"])
def test_close_while_waiting(lab, shape):
    """Closing the channel ends calls that wait for ready."""
    caller = lab.open(f"127.0.0.1:{free_port()}")
    running = caller.start(shape, b"say:x", wait_for_ready=True)
    caller.close()
    assert running.end().code is grpc.StatusCode.CANCELLED
    assert running.over()


@pytest.mark.parametrize("path", ["plain", "mesh"])
def test_drop_while_waiting(lab, shape):
    """A call object that is dropped while it waits leaves nothing behind and is never made."""
    port = free_port()
    caller = lab.open(f"127.0.0.1:{port}", options=QUICK)
    running = caller.start(shape, b"say:dropped", wait_for_ready=True, timeout=PATIENCE)
    del running
    with Backend(port=port) as backend:
        assert caller.ask(shape, b"say:y", wait_for_ready=True).answers == [b"y"]
        if lab.facade == "sync":
            assert backend.executed == ["say:y"]


def test_connection_that_breaks(lab, backend, shape):
    """A call whose server goes away is UNAVAILABLE and is not made again."""
    with Relay(backend.port) as relay:
        running = lab.open(relay.address, options=QUICK).start(shape, b"hang:0")
        assert backend.script.began.acquire(timeout=PATIENCE)
        relay.cut()
        assert running.end().code is grpc.StatusCode.UNAVAILABLE
        assert backend.executed == ["hang:0"]


@pytest.mark.parametrize("path", ["plain", "mesh"])
def test_server_that_comes_back(lab, backend, shape):
    """After its server was away the channel works again; only calls that met the break itself may fail."""
    with Relay(backend.port) as relay:
        caller = lab.open(relay.address, options=QUICK)
        assert caller.ask(shape, b"say:x").answers == [b"x"]
        relay.cut()
        wait(lambda: caller.ask(shape, b"say:y", wait_for_ready=True).answers == [b"y"])


@pytest.mark.parametrize("facade", ["sync"])
def test_many_threads(lab, shared):
    """Many threads share a channel."""
    caller = lab.open(shared.address)
    seen: list[object] = []

    def work(number: int) -> None:
        for shape in SHAPES:
            for turn in range(5):
                seen.append(caller.ask(shape, f"say:{number}.{turn}".encode()).answers == [f"{number}.{turn}".encode()])  # noqa: PERF401 - a list shared by threads

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 16 * 4 * 5


@pytest.mark.parametrize("facade", ["aio"])
def test_many_tasks(lab, shared):
    """Many tasks share a channel."""
    caller = lab.open(shared.address)
    running = [
        (f"{number}".encode(), caller.start(shape, f"say:{number}".encode()))
        for number in range(30)
        for shape in SHAPES
    ]
    assert all(call.end().answers == [text] for text, call in running)


@pytest.mark.parametrize("path", ["plain", "mesh"])
def test_long_streams(lab, shared):
    """Long streams keep their order, both ways."""
    caller = lab.open(shared.address)
    count = 500
    assert caller.ask("unary_stream", f"count:{count}".encode()).answers == [str(n).encode() for n in range(count)]
    requests = [f"say:{number}".encode() for number in range(count)]
    assert caller.ask("stream_stream", *requests).answers == [str(n).encode() for n in range(count)]
    assert caller.ask("stream_unary", *requests).answers == [b"|".join(str(n).encode() for n in range(count))]


@pytest.mark.parametrize("path", ["plain", "mesh"])
def test_state_of_the_channel(lab, backend):
    """A channel is idle before its use, ready once connected, in failure without a server and shut down when closed."""
    states = grpc.ChannelConnectivity
    caller = lab.open(backend.address, options=QUICK)
    if lab.facade == "aio":

        async def life():
            channel = caller.channel
            seen = [channel.get_state()]
            await channel.channel_ready()
            seen.append(channel.get_state())
            backend.server.stop(0)
            await channel.wait_for_state_change(states.READY)
            # One reading is both judged and waited from: a failure between two readings would be waited on for ever.
            while (state := channel.get_state(try_to_connect=True)) is not states.TRANSIENT_FAILURE:
                await channel.wait_for_state_change(state)
            seen.append(state)
            await channel.close()
            return [*seen, channel.get_state()]

        seen = caller.thread.run(life())
        assert seen == [states.IDLE, states.READY, states.TRANSIENT_FAILURE, states.SHUTDOWN]
        return
    told: list[grpc.ChannelConnectivity] = []
    caller.channel.subscribe(told.append)
    wait(lambda: told == [states.IDLE])
    grpc.channel_ready_future(caller.channel).result(timeout=PATIENCE)
    wait(lambda: told[-1] is states.READY)
    backend.server.stop(0)
    caller.channel.subscribe(told.append, try_to_connect=True)
    wait(lambda: told[-1] is states.TRANSIENT_FAILURE)
    assert [state for state in told if state in (states.IDLE, states.READY)][:2] == [states.IDLE, states.READY]
    caller.channel.unsubscribe(told.append)


def wait(condition) -> None:
    """Waits until `condition` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)
