"""What `.future`, `.with_call` and iterators of a synchronous channel offer is the same as on grpcio's own."""

from __future__ import annotations

import threading
import traceback
from typing import Any

import grpc
import pytest

from tests.contract.channel_callers import PATIENCE
from tests.contract.channel_cases import Cases, kinds, said

CASES = Cases()
ONE_ANSWER = ("unary_unary", "stream_unary")
MANY_ANSWERS = ("unary_stream", "stream_stream")


def what(function: Any, *arguments: Any) -> Any:
    """What a method gives or raises, in words that can be compared."""
    try:
        given = function(*arguments)
    except BaseException as error:  # noqa: BLE001 - what is raised is the case
        return "raised", kinds(error), error.code() if isinstance(error, grpc.Call) else said(error)
    return "error", kinds(given), given.code() if isinstance(given, grpc.Call) else said(given)


def future(caller: Any, shape: str, request: bytes, **options: Any) -> Any:
    """The call object."""
    return caller.start(shape, request, **options).call


def everything(call: Any) -> dict[str, Any]:
    """All that `grpc.Future` and `grpc.Call` say of a call that has ended."""
    return {
        "result": what(call.result, PATIENCE),
        "exception": what(call.exception, PATIENCE),
        "states": (call.done(), call.running(), call.cancelled(), call.is_active()),
        "cancel": call.cancel(),
        "code": call.code(),
        "details": said(call.details()),
    }


@CASES.add(*ONE_ANSWER)
def future_of_success(caller, shape, backend):
    """A future that succeeds."""
    call = future(caller, shape, b"say:x")
    answer = call.result()
    late = call.add_callback(lambda: None)
    return everything(call) | {"answer": answer, "again": call.result(), "trace": call.traceback(), "late": late}


@CASES.add(*ONE_ANSWER)
def future_of_failure(caller, shape, backend):
    """A future that fails: error, traceback, and the error as a call of its own."""
    call = future(caller, shape, b"abort:")
    seen = what(call.result)
    error = call.exception()
    lines = traceback.format_tb(call.traceback())
    return everything(call) | {
        "seen": seen,
        "is the call": error is call,
        "has traceback": bool(lines),
        "said": "FAILED_PRECONDITION" in str(error),
        "debug": isinstance(error.debug_error_string(), str),
        "trailing": tuple(error.trailing_metadata()),
    }


@CASES.add(*ONE_ANSWER)
def future_timeouts(caller, shape, backend):
    """Waiting for a future for a while only."""
    call = future(caller, shape, b"hang:0")
    seen = [what(method, 0.01) for method in (call.result, call.exception, call.traceback)]
    states = (call.done(), call.running(), call.cancelled(), call.is_active())
    backend.script.release.set()
    return seen, states, call.result()


@CASES.add(*ONE_ANSWER)
def future_cancelled(caller, shape, backend):
    """Everything about a future that was cancelled."""
    call = future(caller, shape, b"hang:0")
    backend.script.began.acquire(timeout=PATIENCE)
    cancelled = call.cancel()
    return everything(call) | {"cancelled": cancelled, "traceback": what(call.traceback)}


@CASES.add(*ONE_ANSWER)
def future_callbacks(caller, shape, backend):
    """Callbacks are told once, with the call, before and after its end."""
    call = future(caller, shape, b"hang:0")
    told: list[Any] = []
    first = threading.Event()
    call.add_done_callback(lambda given: (told.append(given is call), first.set()))
    accepted = call.add_callback(lambda: told.append("callback"))
    backend.script.release.set()
    answer = call.result()
    first.wait(PATIENCE)
    call.add_done_callback(lambda given: told.append(given is call))
    return sorted(map(str, told)), accepted, answer


@CASES.add(*ONE_ANSWER)
def callback_keeps_the_call(caller, shape, backend):
    """A call that nobody holds but a callback waits for ends."""
    told = threading.Event()
    future(caller, shape, b"say:x").add_done_callback(lambda _: told.set())
    return told.wait(PATIENCE)


@CASES.add(*ONE_ANSWER)
def callback_that_raises(caller, shape, backend):
    """A callback that raises harms neither the call nor the other callbacks."""
    call = future(caller, shape, b"hang:0")
    told = threading.Event()

    def broken(_: Any) -> None:
        raise RuntimeError("a callback's own")

    call.add_done_callback(broken)
    call.add_done_callback(lambda _: told.set())
    backend.script.release.set()
    return call.result(), told.wait(PATIENCE), call.done()


@CASES.add(*ONE_ANSWER)
def with_call(caller, shape, backend):
    """`with_call` gives the answer and a call that has ended."""
    argument = b"metadata:" if shape == "unary_unary" else iter([b"metadata:"])
    answer, call = caller.stub(shape).with_call(argument, timeout=PATIENCE)
    return (
        answer,
        isinstance(call, grpc.Call),
        call.is_active(),
        call.code(),
        call.details(),
        call.cancel(),
        call.add_callback(lambda: None),
        [pair for pair in call.initial_metadata() if pair[0].startswith("initial")],
        [pair for pair in call.trailing_metadata() if pair[0].startswith("trailing")],
    )


@CASES.add(*ONE_ANSWER)
def error_of_a_blocking_call(caller, shape, backend):
    """The error that a blocking call raises is a call and a future that has ended."""
    argument = b"abort:" if shape == "unary_unary" else iter([b"abort:"])
    try:
        caller.stub(shape)(argument, timeout=PATIENCE)
    except grpc.RpcError as error:
        return (
            kinds(error),
            said(error).splitlines()[1:3],
            what(error.exception)[0],
            error.done() if hasattr(error, "done") else None,
        )
    return None


@CASES.add(*MANY_ANSWERS)
def iteration(caller, shape, backend):
    """The iterator protocol, to the end and beyond."""
    call = future(caller, shape, b"count:3")
    seen = [iter(call) is call, next(call), *call, next(call, "end"), next(call, "end")]
    return seen, call.code(), call.is_active(), call.cancel()


@CASES.add(*MANY_ANSWERS)
def next_method(caller, shape, backend):
    """grpcio's iterators have a `next` method too."""
    call = future(caller, shape, b"count:1")
    return call.next(), what(call.next)


@CASES.add(*MANY_ANSWERS)
def iteration_of_failure(caller, shape, backend):
    """What iteration raises is the call itself, each time."""
    call = future(caller, shape, b"abort:")
    seen = []
    for _ in range(2):
        try:
            next(call)
        except grpc.RpcError as error:
            seen.append((error is call, error.code(), kinds(error)))
    return seen


@CASES.add(*MANY_ANSWERS)
def metadata_before_answers(caller, shape, backend):
    """Initial metadata can be read before the first answer, while the handler runs."""
    call = future(caller, shape, b"hang:")
    early = [pair for pair in call.initial_metadata() if pair[0].startswith("initial")]
    active = call.is_active()
    backend.script.release.set()
    return early, active, list(call), call.code()


@CASES.add(*MANY_ANSWERS)
def status_of_a_stream(caller, shape, backend):
    """`code` of a stream waits for its end while another thread reads."""
    call = future(caller, shape, b"count:2")
    seen: list[Any] = []
    reader = threading.Thread(target=lambda: seen.extend(call))
    reader.start()
    code = call.code()
    reader.join()
    return seen, code, said(call.details())


@CASES.add("stream_stream")
def ping_pong(caller, shape, backend):
    """Each request is written after the answer to the one before was read."""
    answered = threading.Semaphore(1)

    def requests() -> Any:
        for number in range(5):
            answered.acquire(timeout=PATIENCE)
            yield f"say:{number}".encode()

    seen = []
    for answer in caller.stub(shape)(requests(), timeout=PATIENCE):
        seen.append(answer)
        answered.release()
    return seen


@CASES.add("stream_unary", "stream_stream")
def cancel_under_an_endless_iterator(caller, shape, backend):
    """Cancelling ends the consumption of the application's iterator."""
    taken: list[int] = []
    stop = threading.Event()

    def endless() -> Any:
        yield b"hang:0"
        while not stop.wait(0.005):
            taken.append(1)
            yield b"say:x"

    running = caller.start_with(shape, endless())
    backend.script.began.acquire(timeout=PATIENCE)
    running.cancel()
    code = running.end().code
    count = len(taken)
    stop.wait(0.1)
    return code, len(taken) - count <= 1


@pytest.mark.parametrize(("name", "shape"), CASES.all)
@pytest.mark.parametrize("facade", ["sync"])
@pytest.mark.parametrize("path", ["mesh", "intercepted"])
def test_same_as_grpcio(lab, name, shape):
    """The case gives on this channel what it gives on grpcio's own."""
    seen, native = CASES.compare(lab, name, shape)
    assert seen == native
