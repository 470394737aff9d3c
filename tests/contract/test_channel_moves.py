"""A request that was never sent moves to another endpoint; one that was sent never does. Mesh channels only."""

from __future__ import annotations

import grpc
import pytest

from meshsdk.channel.pool import PooledBackend
from tests.contract.channel_backend import METHODS, SHAPES, Backend
from tests.contract.channel_callers import PATIENCE
from tests.contract.channel_wire import Relay
from tests.contract.channels import TARGET, snapshot
from tests.contract.test_channel_connecting import QUICK, wait

pytestmark = pytest.mark.parametrize("path", ["mesh"])


@pytest.fixture(params=SHAPES)
def shape(request) -> str:
    """Each of the four call shapes."""
    return request.param


class Gone:
    """An endpoint that died and that the mesh still takes for connected: what a call meets that comes too early."""

    def __init__(self, lab, live: Backend, monkeypatch, *more: str) -> None:
        """Opens a channel to `live`, to an endpoint that then goes, and to `more`."""
        with Backend("dead") as dead, Relay(dead.port) as relay:
            self.address = relay.address
            self.caller = lab.open("", first=snapshot(live.address, relay.address, *more), options=QUICK)
            self.caller.ask("unary_unary", b"say:warm", wait_for_ready=True)
            pool = lab.scopes[0].pool._connections.values()
            wait(lambda: len(pool) == 2 + len(more) and all(self._asked(lab, connection.ready) for connection in pool))
            balancers = lab.scopes[0]._watched[TARGET].target._balancers
            wait(lambda: all(balancer.settled for balancer in balancers.values()))  # the picker knows of all of them
            monkeypatch.setattr(PooledBackend, "follow", lambda *_: False)
            for connection in pool:
                connection.ready = lambda: True
            gone = next(connection for connection in pool if connection.address == relay.address)
        wait(lambda: not self._asked(lab, gone.link.ready))  # until then a request may leave, and is lost
        live.executed.clear()

    @staticmethod
    def _asked(lab, ready) -> bool:
        async def ask() -> bool:
            return ready()

        return ready() if lab.facade == "sync" else lab.loop.run(ask())


def test_moves(lab, backend, shape, monkeypatch):
    """Calls that meet an endpoint that is gone are made elsewhere, each exactly once."""
    caller = Gone(lab, backend, monkeypatch).caller
    count = 24
    for number in range(count):
        ended = caller.ask(shape, f"id:{number}".encode())
        assert ended.code is grpc.StatusCode.OK, ended.details
    # The very first calls may have met the connection as it broke: the relay cut it, so nothing was executed.
    assert backend.executed == [f"id:{number}" for number in range(count)]


@pytest.mark.parametrize("shape", ["stream_unary", "stream_stream"])
def test_moves_with_all_its_requests(lab, backend, shape, monkeypatch):
    """A stream of requests moves as a whole, and the application's iterator is asked for each request once."""
    caller = Gone(lab, backend, monkeypatch).caller
    for _ in range(8):
        asked: list[int] = []

        def requests(asked=asked):
            for number in range(20):
                asked.append(number)
                yield f"say:{number}".encode()

        ended = caller.start_with(shape, requests(), timeout=PATIENCE).end()
        assert b"|".join(ended.answers) == b"|".join(str(number).encode() for number in range(20))
        assert asked == list(range(20))


@pytest.mark.parametrize("facade", ["aio"])
@pytest.mark.parametrize("shape", ["stream_unary", "stream_stream"])
def test_moves_with_what_was_written(lab, backend, shape, monkeypatch):
    """What the application has written goes with the call."""
    caller = Gone(lab, backend, monkeypatch).caller

    async def written():
        call = getattr(caller.channel, shape)(METHODS[shape])(timeout=PATIENCE)
        for number in range(5):
            await call.write(f"say:{number}".encode())
        await call.done_writing()
        return [answer async for answer in call] if shape == "stream_stream" else (await call).split(b"|")

    for _ in range(8):
        assert lab.loop.run(written()) == [b"0", b"1", b"2", b"3", b"4"]


def test_moves_end_with_the_deadline(lab, backend, shape, monkeypatch):
    """When nothing but gone endpoints is left, a call ends UNAVAILABLE or at its deadline, and is not made."""
    gone = Gone(lab, backend, monkeypatch)
    backend.server.stop(0).wait()
    ended = gone.caller.ask(shape, b"say:x", timeout=2)
    assert ended.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert backend.executed == []


WORDS = "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.9.8.7:50051: Failed to connect to remote host"


@pytest.mark.parametrize("words", [WORDS, WORDS.replace("10.9.8.7:50051", "{}0")], ids=["another", "nearly its own"])
def test_server_that_speaks_of_its_own_backend(lab, shape, words):
    """A request that reached a server is not moved, even if the server relays core's very words of a failed connect."""
    with Backend("a") as one, Backend("b") as two:
        caller = lab.open("", first=snapshot(one.address, two.address))
        text = words.format(one.address)
        ended = caller.ask(shape, f"unavailable:{text}".encode())
        assert (ended.code, ended.details) == (grpc.StatusCode.UNAVAILABLE, text)
        assert len(one.executed + two.executed) == 1


def test_connection_that_breaks(lab, shape):
    """A request that reached a server which then dies is not moved."""
    with Backend("a") as one, Backend("b") as two, Relay(one.port) as first, Relay(two.port) as second:
        caller = lab.open("", first=snapshot(first.address, second.address))
        running = caller.start(shape, b"hang:0")
        wait(lambda: one.executed + two.executed)
        first.cut()
        second.cut()
        assert running.end().code is grpc.StatusCode.UNAVAILABLE
        assert len(one.executed + two.executed) == 1
