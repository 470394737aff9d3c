"""Calls that outlast a drain: a slow handler, a stream that never ends; beside those that do not, under load."""

from __future__ import annotations

import threading

import grpc
import pytest

import meshsdk
from tests.e2e.loss.records import CALL_ID
from tests.e2e.loss.shapes import SERVICE
from tests.e2e.loss.stage import Server, Serving, Stage
from tests.e2e.processes import PATIENCE, until

TIMEOUT, GRACE = 2.0, 0.5  # of the drain, in seconds
LONG = b"60"  # seconds of work
SHORT = b"1.0"


class Stream(threading.Thread):
    """Reads a stream that has no end until it ends."""

    def __init__(self, channel: grpc.Channel, call: str) -> None:
        super().__init__(daemon=True)
        self._call = channel.unary_stream(f"/{SERVICE}/Watch")(b"-1", metadata=((CALL_ID, call),))
        self.received = 0  # written by this thread only, as is `code`
        self.code: grpc.StatusCode | None = None
        self.start()

    def run(self) -> None:
        """Counts."""
        try:
            for _ in self._call:
                self.received += 1
        except grpc.RpcError as error:
            self.code = error.code()
        else:
            self.code = grpc.StatusCode.OK


def where(stage: Stage, call: str) -> Server:
    """Waits until a call has begun; returns the server."""
    return until(lambda: next((server for server in stage.servers if call in server.begun()), None), call)


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_what_outlasts_a_drain_gets_a_status(stage: Stage, kind: str) -> None:
    """Handlers within the drain's time answer; a longer one and an endless stream get a status, others are unharmed."""
    stage.serving = Serving(kind=kind, quiet=0.5, timeout=TIMEOUT, grace=GRACE)
    stage.serve(3)
    stage.both_ways(6)
    with meshsdk.Mesh(stage.bootstrap("patient", "web")) as mesh:
        channel = mesh.channel("mesh:///orders")
        get = channel.unary_unary(f"/{SERVICE}/Get")
        stream = Stream(channel, "stream")
        slow = get.future(LONG, metadata=((CALL_ID, "slow"),), wait_for_ready=True)
        leaving = {where(stage, "slow"), where(stage, "stream")}
        until(lambda: stream.received, "messages come")
        shorts = [get.future(SHORT, metadata=((CALL_ID, "short0"),))]
        while where(stage, f"short{len(shorts) - 1}") not in leaving:
            shorts.append(get.future(SHORT, metadata=((CALL_ID, f"short{len(shorts)}"),)))
        for server in leaving:
            server.terminate()
            stage.servers.remove(server)
        assert [short.result(timeout=PATIENCE) for short in shorts] == [SHORT] * len(shorts)
        assert isinstance(slow.exception(timeout=PATIENCE), grpc.RpcError)
        assert slow.code() is grpc.StatusCode.UNAVAILABLE
        stream.join(PATIENCE)
        assert stream.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK)
    for server in leaving:
        assert server.process.line() == "stopped"
        if kind == "aio":  # Python waits for its threads before it ends, and nothing can end a handler on a thread
            until(lambda server=server: not server.process.running, "it ended")
            assert server.process.stop() == 0
    stage.goes_on()
    account = stage.verdict()
    assert not account.failed, account
    assert not set(account.untrue) - {"slow", "stream", *(f"short{number}" for number in range(len(shorts)))}, account
