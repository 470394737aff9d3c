"""Deadlines, cancellation and close end calls on the mesh's channels as they do on grpcio's own."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from tests.contract.channel_backend import METHODS, Backend
from tests.contract.channel_callers import PATIENCE
from tests.contract.channel_cases import Cases, kinds, view

CASES = Cases()
CLOSES = Cases()  # not behind interceptors: DIFFERENCES["close"]
STREAMED = ("unary_stream", "stream_stream")


def hanging(caller: Any, shape: str, backend: Backend, **options: Any) -> Any:
    """A call whose handler runs and gives no answer."""
    running = caller.start(shape, b"hang:0", **options)
    assert backend.script.began.acquire(timeout=PATIENCE)
    return running


@CASES.add()
def deadline(caller, shape, backend):
    """The deadline passes while the handler runs."""
    ended = caller.ask(shape, b"hang:0", timeout=0.1)
    return view(ended, told=backend.script.cancelled.wait(PATIENCE))


@CASES.add(*STREAMED)
def deadline_mid_stream(caller, shape, backend):
    """The deadline passes after two answers."""
    running = caller.start(shape, b"hang:2", timeout=0.2)
    answers = [running.read(), running.read()]
    return view(running.end(), read=answers, told=backend.script.cancelled.wait(PATIENCE))


@CASES.add()
def negative_time(caller, shape, backend):
    """A timeout below zero."""
    return view(caller.ask(shape, b"say:x", timeout=-1), ran=list(backend.executed))


@CASES.add()
def time_remaining(caller, shape, backend):
    """A call with a deadline knows how long it has, one without does not; after the end too."""
    with_deadline = hanging(caller, shape, backend, timeout=50)
    without = hanging(caller, shape, backend)
    seen = [0 < with_deadline.remaining() <= 50, without.remaining()]
    backend.script.release.set()
    return view(with_deadline.end(), seen=seen, after=without.end().code)


@CASES.add()
def cancel_running(caller, shape, backend):
    """The application cancels while the handler runs."""
    running = hanging(caller, shape, backend)
    before = running.over()
    cancelled = running.cancel()
    ended = running.end()
    again = running.cancel()
    known = running.call.cancelled()
    told = backend.script.cancelled.wait(PATIENCE)
    return view(ended, before=before, cancelled=cancelled, again=again, over=running.over(), known=known, told=told)


@CASES.add(*STREAMED)
def cancel_mid_stream(caller, shape, backend):
    """The application cancels after two answers."""
    running = caller.start(shape, b"hang:2")
    answers = [running.read(), running.read()]
    cancelled = running.cancel()
    return view(running.end(), read=answers, cancelled=cancelled, told=backend.script.cancelled.wait(PATIENCE))


@CASES.add()
def cancel_after_the_end(caller, shape, backend):
    """Cancelling a call that has ended does nothing."""
    running = caller.start(shape, b"say:x")
    ended = running.end()
    return view(ended, cancelled=running.cancel(), known=running.call.cancelled(), over=running.over())


@CASES.add()
def drop(caller, shape, backend):
    """A call object that the application drops is cancelled."""
    running = hanging(caller, shape, backend)
    del running
    gc.collect()
    return backend.script.cancelled.wait(0.15)


@CLOSES.add()
def close_in_flight(caller, shape, backend):
    """The channel is closed while the handler runs."""
    running = hanging(caller, shape, backend)
    caller.close()
    ended = running.end()
    return view(ended, known=running.call.cancelled(), told=backend.script.cancelled.wait(PATIENCE))


@CLOSES.add()
def call_after_close(caller, shape, backend):
    """A call on a closed channel, and closing it again."""
    caller.close()
    caller.close()
    return view(caller.ask(shape, b"say:x", timeout=5), ran=list(backend.executed))


@CLOSES.add()
def start_after_close(caller, shape, backend):
    """`.future` and iterators on a closed channel."""
    caller.close()
    try:
        running = caller.start(shape, b"say:x", timeout=5)
    except Exception as error:  # noqa: BLE001 - what is raised is the case
        return kinds(error)
    return view(running.end())


@CLOSES.add()
def stub_after_close(caller, shape, backend):
    """Making a stub on a closed channel."""
    caller.close()
    try:
        return callable(getattr(caller.channel, shape)(METHODS[shape]))
    except Exception as error:  # noqa: BLE001 - what is raised is the case
        return kinds(error)


@pytest.mark.parametrize(("name", "shape"), CASES.all)
@pytest.mark.parametrize("path", ["mesh", "intercepted"])
def test_same_as_grpcio(lab, name, shape):
    """The case gives on this channel what it gives on grpcio's own."""
    seen, native = CASES.compare(lab, name, shape)
    assert seen == native


@pytest.mark.parametrize(("name", "shape"), CLOSES.all)
@pytest.mark.parametrize("path", ["mesh"])
def test_close_is_the_same_as_of_grpcio(lab, name, shape):
    """Closing this channel does to calls what closing grpcio's own does."""
    seen, native = CLOSES.compare(lab, name, shape)
    assert seen == native
