"""The callers of a load generator on asyncio. Started by `load`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from tests.e2e.loss.load import Book, Plan, Tally
from tests.e2e.loss.load_sync import _FORMS, stock_options
from tests.e2e.loss.records import CALL_ID, LEFT, OK, RAISED, WRONG
from tests.e2e.loss.shapes import PACE, Gap, Shape, check, message

Options = dict[str, Any]


def begin(plan: Plan, book: Book) -> object:
    """Starts the callers on a loop in a thread of its own; returns what must stay alive."""
    thread = threading.Thread(target=lambda: asyncio.run(_all(plan, book)), daemon=True)
    thread.start()
    return thread


async def _all(plan: Plan, book: Book) -> None:
    if plan.client == "mesh":
        import meshsdk.aio  # noqa: PLC0415 - not for a program that knows nothing of it

        channel = meshsdk.aio.channel(plan.target)
    else:
        channel = grpc.aio.insecure_channel(plan.target, stock_options(plan))
    async with channel:
        await asyncio.gather(*(_work(plan, book, channel, caller) for caller in range(plan.callers)))


async def _work(plan: Plan, book: Book, channel: grpc.aio.Channel, caller: int) -> None:
    shape, pause = plan.shape(caller), plan.between(caller)
    stub = getattr(channel, _FORMS.get(shape.name, "stream_stream"))(shape.method)
    number = 0
    while not book.stopping:
        tally = Tally(f"{plan.name}.{caller}.{number}", caller)
        options: Options = {"timeout": plan.deadline, "metadata": ((CALL_ID, tally.id),)}
        if number == 0:
            options["wait_for_ready"] = True
        try:
            outcome = await _CALLS[shape.name](stub, shape, options, tally, book)
            book.done(tally, shape, outcome)
        except Gap as error:
            book.done(tally, shape, WRONG, str(error))
        except grpc.aio.AioRpcError as error:
            book.done(tally, shape, error.code().name, error.details() or "")
        except asyncio.CancelledError as error:  # of the call: nobody cancels the callers
            book.done(tally, shape, RAISED, repr(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the application did not ask for it
            book.done(tally, shape, RAISED, repr(error))
        book.answered(caller)
        number += 1
        await asyncio.sleep(pause)
        if book.paused:
            await _stand(book)
    book.over()


async def _stand(book: Book) -> None:
    book.standing(1)
    while book.paused and not book.stopping:  # noqa: ASYNC110 - another thread says so, and is in no hurry
        await asyncio.sleep(0.01)
    book.standing(-1)


async def _unary(stub: Any, shape: Shape, options: Options, tally: Tally, book: Book) -> str:
    tally.sent = 1
    request = f"{shape.amount}".encode()
    if await stub(request, **options) != request:
        raise Gap("another answer")
    tally.received = 1
    return OK


async def _watch(stub: Any, shape: Shape, options: Options, tally: Tally, book: Book) -> str:
    tally.sent = 1
    answers = stub(f"{shape.messages}".encode(), **options)
    async for answer in answers:
        check(answer, tally.received)
        tally.received += 1
        book.answered(tally.caller)
        if shape.messages < 0 and book.stopping:
            answers.cancel()
            return LEFT
    if tally.received != shape.messages:
        raise Gap(f"{tally.received} messages")
    return OK


async def _requests(shape: Shape, tally: Tally) -> AsyncIterator[bytes]:
    for index in range(shape.messages):
        tally.sent += 1
        yield message(index)
        await asyncio.sleep(PACE)


async def _put(stub: Any, shape: Shape, options: Options, tally: Tally, book: Book) -> str:
    answer = await stub(_requests(shape, tally), **options)
    if answer != message(shape.messages):
        raise Gap(f"{answer!r} messages were taken")
    tally.received = 1
    return OK


async def _chat(stub: Any, shape: Shape, options: Options, tally: Tally, book: Book) -> str:
    async for answer in stub(_requests(shape, tally), **options):
        check(answer, tally.received)
        tally.received += 1
    if tally.received != shape.messages:
        raise Gap(f"{tally.received} messages")
    return OK


_CALLS: dict[str, Callable[[Any, Shape, Options, Tally, Book], Awaitable[str]]] = {
    "get": _unary,
    "read": _unary,
    "watch": _watch,
    "put": _put,
    "chat": _chat,
}
