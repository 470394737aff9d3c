"""The callers of a load generator on threads. Started by `load`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from tests.e2e.loss.load import Book, Plan, Tally
from tests.e2e.loss.records import CALL_ID, LEFT, OK, RAISED, WRONG
from tests.e2e.loss.shapes import PACE, Gap, Shape, check, message

Options = dict[str, Any]
_FORMS = {"get": "unary_unary", "read": "unary_unary", "watch": "unary_stream", "put": "stream_unary"}


def begin(plan: Plan, book: Book) -> object:
    """Starts the callers; returns what must stay alive."""
    channel = open_channel(plan)
    for caller in range(plan.callers):
        threading.Thread(target=_work, args=(plan, book, channel, caller), daemon=True).start()
    return channel


def open_channel(plan: Plan) -> grpc.Channel:
    """Returns the channel of all callers."""
    if plan.client == "mesh":
        import meshsdk  # noqa: PLC0415 - not for a program that knows nothing of it

        return meshsdk.channel(plan.target)
    return grpc.insecure_channel(plan.target, stock_options(plan))


def stock_options(plan: Plan) -> list[tuple[str, str]]:
    """Without xDS, a plain channel spreads its calls only when asked to."""
    spread = [] if plan.target.startswith("xds:") else [("grpc.lb_policy_name", "round_robin")]
    return [*spread, ("grpc.default_authority", plan.authority)] if plan.authority else spread


def _work(plan: Plan, book: Book, channel: grpc.Channel, caller: int) -> None:
    shape, pause = plan.shape(caller), plan.between(caller)
    stub = getattr(channel, _FORMS.get(shape.name, "stream_stream"))(shape.method)
    number = 0
    while not book.stopping:
        tally = Tally(f"{plan.name}.{caller}.{number}", caller)
        options: Options = {"timeout": plan.deadline, "metadata": ((CALL_ID, tally.id),)}
        if number == 0:
            options["wait_for_ready"] = True
        try:
            outcome = _CALLS[shape.name](stub, shape, options, tally, book)
            book.done(tally, shape, outcome)
        except Gap as error:
            book.done(tally, shape, WRONG, str(error))
        except grpc.RpcError as error:
            book.done(tally, shape, error.code().name, error.details())
        except Exception as error:  # noqa: BLE001 - whatever it is, the application did not ask for it
            book.done(tally, shape, RAISED, repr(error))
        book.answered(caller)
        number += 1
        time.sleep(pause)
        if book.paused:
            _stand(book)
    book.over()


def _stand(book: Book) -> None:
    book.standing(1)
    while book.paused and not book.stopping:
        time.sleep(0.01)
    book.standing(-1)


def _unary(stub: Any, shape: Shape, options: Options, tally: Tally, book: Book) -> str:
    tally.sent = 1
    request = f"{shape.amount}".encode()
    if stub(request, **options) != request:
        raise Gap("another answer")
    tally.received = 1
    return OK


def _watch(stub: Any, shape: Shape, options: Options, tally: Tally, book: Book) -> str:
    tally.sent = 1
    answers = stub(f"{shape.messages}".encode(), **options)
    for answer in answers:
        check(answer, tally.received)
        tally.received += 1
        book.answered(tally.caller)
        if shape.messages < 0 and book.stopping:
            answers.cancel()
            return LEFT
    if tally.received != shape.messages:
        raise Gap(f"{tally.received} messages")
    return OK


def _requests(shape: Shape, tally: Tally) -> Iterator[bytes]:
    for index in range(shape.messages):
        tally.sent += 1
        yield message(index)
        time.sleep(PACE)


def _put(stub: Any, shape: Shape, options: Options, tally: Tally, book: Book) -> str:
    answer = stub(_requests(shape, tally), **options)
    if answer != message(shape.messages):
        raise Gap(f"{answer!r} messages were taken")
    tally.received = 1
    return OK


def _chat(stub: Any, shape: Shape, options: Options, tally: Tally, book: Book) -> str:
    for answer in stub(_requests(shape, tally), **options):
        check(answer, tally.received)
        tally.received += 1
    if tally.received != shape.messages:
        raise Gap(f"{tally.received} messages")
    return OK


_CALLS: dict[str, Callable[[Any, Shape, Options, Tally, Book], str]] = {
    "get": _unary,
    "read": _unary,
    "watch": _watch,
    "put": _put,
    "chat": _chat,
}
