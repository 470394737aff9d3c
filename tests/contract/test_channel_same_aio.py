"""What the calls of an asyncio channel offer is the same as on grpcio's own: awaiting, iterating, reading, writing."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.contract.channel_backend import METHODS
from tests.contract.channel_callers import PATIENCE, pairs
from tests.contract.channel_cases import Cases, kinds, said

CASES = Cases()
CLOSES = Cases()  # not behind interceptors: DIFFERENCES["close"]
ONE_ANSWER = ("unary_unary", "stream_unary")
MANY_ANSWERS = ("unary_stream", "stream_stream")
MANY_REQUESTS = ("stream_unary", "stream_stream")


def on_loop(case: Any) -> Any:
    """Runs an async case on the loop of its channel."""

    @functools.wraps(case)
    def run(caller: Any, shape: str, backend: Any) -> Any:
        return caller.thread.run(case(caller.channel, shape, backend))

    return run


def call_of(channel: Any, shape: str, request: bytes, **options: Any) -> Any:
    """A running call."""
    stub = getattr(channel, shape)(METHODS[shape])
    return stub(request if shape.startswith("unary") else iter([request]), **options)


async def began(backend: Any) -> None:
    """Waits until the handler runs."""
    assert await asyncio.to_thread(backend.script.began.acquire, timeout=PATIENCE)


def writer(channel: Any, shape: str, **options: Any) -> Any:
    """A running call whose requests the application writes."""
    return getattr(channel, shape)(METHODS[shape])(**options)


async def what(awaitable: Any) -> Any:
    """What awaiting gives or raises, in words that can be compared."""
    try:
        return await asyncio.wait_for(awaitable, PATIENCE)
    except asyncio.TimeoutError:
        raise
    except BaseException as error:  # noqa: BLE001 - what is raised is the case
        return kinds(error), error.code() if isinstance(error, grpc.aio.AioRpcError) else said(error)


async def end(call: Any) -> Any:
    """Everything that a call says of its end."""
    return {
        "code": await call.code(),
        "details": said(await call.details()),
        "states": (call.done(), call.cancelled()),
        "cancel": call.cancel(),
        "trailing": [pair for pair in pairs(await call.trailing_metadata()) if pair[0].startswith("trailing")],
        "initial": [pair for pair in pairs(await call.initial_metadata()) if pair[0].startswith("initial")],
    }


@CASES.add(*ONE_ANSWER)
@on_loop
async def await_twice(channel, shape, backend):
    """The answer can be awaited more than once, and by several tasks."""
    call = call_of(channel, shape, b"metadata:")

    async def wait() -> Any:
        return await call

    answers = await asyncio.gather(wait(), wait())
    return answers, await call, await end(call)


@CASES.add(*ONE_ANSWER)
@on_loop
async def await_failure(channel, shape, backend):
    """Awaiting a call that fails raises its error each time."""
    call = call_of(channel, shape, b"abort:")
    return await what(wait_for(call)), await what(wait_for(call)), await end(call)


async def wait_for(call: Any) -> Any:
    """`await call` as a coroutine."""
    return await call


@CASES.add(*ONE_ANSWER)
@on_loop
async def error_of_a_call(channel, shape, backend):
    """The error tells code, details, metadata and more."""
    try:
        await call_of(channel, shape, b"abort:")
    except grpc.aio.AioRpcError as error:
        return (
            error.code(),
            error.details(),
            [pair for pair in pairs(error.trailing_metadata()) if pair[0].startswith("trailing")],
            isinstance(error.debug_error_string(), str),
            isinstance(error.initial_metadata(), grpc.aio.Metadata),
            isinstance(error.trailing_metadata(), grpc.aio.Metadata),
        )
    return None


@CASES.add(*ONE_ANSWER)
@on_loop
async def cancelled_waiter(channel, shape, backend):
    """Cancelling the task that awaits a call cancels the call."""
    call = call_of(channel, shape, b"hang:0")
    task = asyncio.ensure_future(wait_for(call))
    await began(backend)
    task.cancel()
    seen = await what(wait_for(task))
    told = await asyncio.to_thread(backend.script.cancelled.wait, PATIENCE)
    return seen, told, await end(call)


@CASES.add()
@on_loop
async def cancel_in_the_same_breath(channel, shape, backend):
    """A call that is cancelled before the loop ran is cancelled."""
    call = call_of(channel, shape, b"hang:0")
    return call.cancel(), await call.code(), call.cancelled(), call.done()


@CASES.add()
@on_loop
async def callbacks(channel, shape, backend):
    """Callbacks are told once, before and after the end."""
    call = call_of(channel, shape, b"say:x")
    told: list[bool] = []
    over = asyncio.Event()
    call.add_done_callback(lambda given: (told.append(given.done()), over.set()))
    if shape.endswith("_stream"):
        assert [answer async for answer in call] == [b"x"]
    await asyncio.wait_for(over.wait(), PATIENCE)
    call.add_done_callback(lambda given: told.append(given.done()))
    await asyncio.sleep(0.01)
    return told, await call.code()


@CASES.add("stream_unary", *MANY_ANSWERS)
@on_loop
async def wait_for_connection(channel, shape, backend):
    """`wait_for_connection` returns while the handler still runs."""
    call = call_of(channel, shape, b"hang:")
    seen = await what(call.wait_for_connection())
    states = call.done(), call.cancelled()
    call.cancel()
    return seen, states


@CASES.add(*MANY_ANSWERS)
@on_loop
async def iterate(channel, shape, backend):
    """Iteration to the end, and again."""
    call = call_of(channel, shape, b"count:3")
    first = [answer async for answer in call]
    return first, [answer async for answer in call], await end(call)


@CASES.add(*MANY_ANSWERS)
@on_loop
async def read(channel, shape, backend):
    """Reading to the end and beyond."""
    call = call_of(channel, shape, b"count:2")
    seen = [await call.read() for _ in range(4)]
    return [answer if answer is not grpc.aio.EOF else "EOF" for answer in seen], await end(call)


@CASES.add(*MANY_ANSWERS)
@on_loop
async def read_failure(channel, shape, backend):
    """Reading a stream that fails raises, each time."""
    call = call_of(channel, shape, b"abort:")
    return await what(call.read()), await what(call.read()), await end(call)


@CASES.add(*MANY_ANSWERS)
@on_loop
async def iterate_failure(channel, shape, backend):
    """Iterating over a stream that fails raises."""
    call = call_of(channel, shape, b"abort:")

    async def everything() -> Any:
        return [answer async for answer in call]

    return await what(everything()), await end(call)


@CASES.add(*MANY_ANSWERS)
@on_loop
async def mix_reading_styles(channel, shape, backend):
    """Reading and iterating the same call is an error of usage."""
    one = call_of(channel, shape, b"count:2")
    seen = [await one.read(), await what(anext(aiter_of(one)))]
    other = call_of(channel, shape, b"count:2")
    seen += [await anext(aiter_of(other)), await what(other.read())]
    one.cancel()
    other.cancel()
    return seen


async def aiter_of(call: Any) -> Any:
    """`async for` over the call, whose errors come when it is advanced."""
    async for answer in call:
        yield answer


@CASES.add(*MANY_ANSWERS)
@on_loop
async def metadata_before_answers(channel, shape, backend):
    """Initial metadata comes while the handler runs."""
    call = call_of(channel, shape, b"hang:")
    early = [pair for pair in pairs(await call.initial_metadata()) if pair[0].startswith("initial")]
    states = call.done(), call.cancelled()
    backend.script.release.set()
    return early, states, [answer async for answer in call]


@CASES.add("stream_stream")
@on_loop
async def ping_pong(channel, shape, backend):
    """Each request is written after the answer to the one before was read."""
    call = writer(channel, shape, timeout=PATIENCE)
    seen = []
    for number in range(5):
        await call.write(f"say:{number}".encode())
        seen.append(await call.read())
    await call.done_writing()
    last = await call.read()
    return seen, last is grpc.aio.EOF, await end(call)


@CASES.add("stream_unary")
@on_loop
async def write(channel, shape, backend):
    """Requests written by the application."""
    call = writer(channel, shape)
    for number in range(3):
        await call.write(f"say:{number}".encode())
    await call.done_writing()
    return await call, await end(call)


@CASES.add(*MANY_REQUESTS)
@on_loop
async def done_twice(channel, shape, backend):
    """Ending the requests twice, and writing after their end."""
    call = writer(channel, shape)
    await call.write(b"hang:0")
    await call.done_writing()
    seen = [await what(call.done_writing()), await what(call.write(b"say:x"))]
    call.cancel()
    return seen


@CASES.add(*MANY_REQUESTS)
@on_loop
async def write_after_the_end(channel, shape, backend):
    """Writing to a call that has ended."""
    call = writer(channel, shape)
    await call.write(b"abort:")
    code = await call.code()
    return code, await what(call.write(b"say:x")), await what(call.done_writing()), await end(call)


@CASES.add(*MANY_REQUESTS)
@on_loop
async def write_after_cancel(channel, shape, backend):
    """Writing to a call that was cancelled."""
    call = writer(channel, shape)
    await call.write(b"hang:0")
    call.cancel()
    return await what(call.write(b"say:x")), await what(call.done_writing()), await call.code()


@CASES.add(*MANY_REQUESTS)
@on_loop
async def mix_writing_styles(channel, shape, backend):
    """Writing to a call that was given an iterator is an error of usage."""
    call = call_of(channel, shape, b"hang:0")
    seen = [await what(call.write(b"say:x")), await what(call.done_writing())]
    call.cancel()
    return seen


@CASES.add(*MANY_REQUESTS)
@on_loop
async def async_iterator(channel, shape, backend):
    """Requests from an async generator, as slow as it likes."""

    async def requests() -> Any:
        for number in range(3):
            await asyncio.sleep(0.002)
            yield f"say:{number}".encode()

    call = getattr(channel, shape)(METHODS[shape])(requests())
    return [answer async for answer in call] if shape == "stream_stream" else await call


@CASES.add(*MANY_REQUESTS)
@on_loop
async def async_iterator_that_raises(channel, shape, backend):
    """The application's async generator raises."""

    async def requests() -> Any:
        yield b"say:0"
        raise RuntimeError("the application's own")

    call = getattr(channel, shape)(METHODS[shape])(requests())

    async def everything() -> Any:
        return [answer async for answer in call] if shape == "stream_stream" else await call

    return await what(everything()), await call.code()


@CASES.add(*MANY_REQUESTS)
@on_loop
async def async_iterator_is_closed(channel, shape, backend):
    """Cancelling the call ends the application's async generator."""
    closed = asyncio.Event()

    async def requests() -> Any:
        try:
            yield b"hang:0"
            await asyncio.sleep(PATIENCE)
        finally:
            closed.set()

    call = getattr(channel, shape)(METHODS[shape])(requests())
    await began(backend)
    call.cancel()
    await asyncio.wait_for(closed.wait(), PATIENCE)
    return await call.code()


@CLOSES.add()
@on_loop
async def close_with_grace(channel, shape, backend):
    """`close(grace)` lets a running call finish."""
    call = call_of(channel, shape, b"hang:0")
    await began(backend)
    closing = asyncio.ensure_future(channel.close(PATIENCE))
    await asyncio.sleep(0.02)
    open_still = not closing.done()
    backend.script.release.set()
    answers = [answer async for answer in call] if shape.endswith("_stream") else [await call]
    await asyncio.wait_for(closing, PATIENCE)
    return open_still, answers, await call.code()


@CLOSES.add()
@on_loop
async def close_after_grace(channel, shape, backend):
    """What outlasts the grace of `close` is cancelled."""
    call = call_of(channel, shape, b"hang:0")
    await began(backend)
    await channel.close(0.05)
    return await call.code(), said(await call.details()), call.cancelled(), call.done()


@CLOSES.add()
@on_loop
async def context_manager(channel, shape, backend):
    """`async with` closes the channel."""
    async with channel as entered:
        state = entered is channel
    return state, channel.get_state(), await what(fails(channel, shape))


async def fails(channel: Any, shape: str) -> Any:
    """A call on a closed channel."""
    call = call_of(channel, shape, b"say:x")
    return [answer async for answer in call] if shape.endswith("_stream") else await call


@pytest.mark.parametrize(("name", "shape"), CASES.all)
@pytest.mark.parametrize("facade", ["aio"])
@pytest.mark.parametrize("path", ["mesh", "intercepted"])
def test_same_as_grpcio(lab, name, shape):
    """The case gives on this channel what it gives on grpcio's own."""
    seen, native = CASES.compare(lab, name, shape)
    assert seen == native


@pytest.mark.parametrize(("name", "shape"), CLOSES.all)
@pytest.mark.parametrize("facade", ["aio"])
@pytest.mark.parametrize("path", ["mesh"])
def test_close_is_the_same_as_of_grpcio(lab, name, shape):
    """Closing this channel does to calls what closing grpcio's own does."""
    seen, native = CLOSES.compare(lab, name, shape)
    assert seen == native
