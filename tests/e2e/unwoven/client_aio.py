"""`client_sync` on grpc.aio: an application that knows nothing of meshsdk, with its loop and channel made at import."""

import asyncio
import collections
import itertools
import json
import sys
import threading

import grpc
from grpc.aio import insecure_channel

SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
SEEN = collections.Counter()
NUMBERS = itertools.count()
LOOP = asyncio.new_event_loop()
asyncio.set_event_loop(LOOP)


class Counting(grpc.aio.UnaryUnaryClientInterceptor):
    """The application's own interceptor: counts unary calls."""

    async def intercept_unary_unary(self, continuation, client_call_details, request):
        """See grpc."""
        SEEN["calls"] += 1
        return await continuation(client_call_details, request)


CHANNEL = insecure_channel(sys.argv[1], interceptors=[Counting()] if "intercepted" in sys.argv else None)
STUBS = {shape: getattr(CHANNEL, shape)(f"/shop.Orders/{shape}") for shape in SHAPES}


def identity() -> bytes:
    """An id that no other call has."""
    return f"aio-{next(NUMBERS)}".encode()


async def call(shape: str) -> list[str]:
    """One call; returns who answered."""
    request = identity() if shape.startswith("unary") else iter([identity()])
    running = STUBS[shape](request, timeout=20)
    if shape.endswith("_unary"):
        return [(await running).decode()]
    return [one.decode() async for one in running]


class Load:
    """Tasks that call without pause."""

    def __init__(self, tasks: int) -> None:
        self.failed = []
        self.who = collections.Counter()
        self._over = False
        self._running = [asyncio.ensure_future(self._run(SHAPES[number % 4])) for number in range(tasks)]

    async def _run(self, shape: str) -> None:
        while not self._over:
            try:
                self.who.update(await call(shape))
            except grpc.aio.AioRpcError as error:
                self.failed.append(f"{shape}: {error.code()}: {error.details()}")

    async def rest(self) -> dict:
        """Stops; returns what happened."""
        self._over = True
        await asyncio.gather(*self._running)
        return {"failed": self.failed[:5], "who": self.who}


async def main() -> None:
    """Obeys until standard input ends."""
    print(
        json.dumps({"argv": sys.argv[1:], "name": __name__, "threads": [one.name for one in threading.enumerate()]}),
        flush=True,
    )
    stream = load = None
    while line := await asyncio.to_thread(sys.stdin.readline):
        word, _, rest = line.strip().partition(" ")
        answer = None
        if word == "each":
            answer = {shape: await call(shape) for shape in SHAPES}
        elif word == "stream":
            stream = STUBS["stream_stream"](timeout=60)
        elif word == "next":
            await stream.write(identity())
            answer = (await stream.read()).decode()
        elif word == "end":
            await stream.done_writing()
            answer = []
            while (one := await stream.read()) is not grpc.aio.EOF:
                answer.append(one.decode())
        elif word == "load":
            load = Load(int(rest))
        elif word == "rest":
            answer = await load.rest()
        elif word == "seen":
            answer = SEEN["calls"]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    LOOP.run_until_complete(main())
