"""An application on grpcio that knows nothing of meshsdk: channel and interceptor made at import, threads, all shapes.

Argument: the target. Reads commands: `each`: one call of each shape; `stream`: opens a stream and holds it; `next`: its
next answer; `end`: lets it end; `load N`: N threads call without pause; `rest`: stops them. Answers each with a line
of JSON.
"""

import collections
import itertools
import json
import queue
import sys
import threading
from concurrent import futures

import grpc
from grpc import insecure_channel

SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
SEEN = collections.Counter()
NUMBERS = itertools.count()


class Counting(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """The application's own interceptor: counts calls."""

    def intercept_unary_unary(self, continuation, client_call_details, request):
        """See grpc."""
        SEEN["calls"] += 1
        return continuation(client_call_details, request)

    intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = intercept_unary_unary


CHANNEL = grpc.intercept_channel(
    insecure_channel(sys.argv[1], options=[("grpc.max_send_message_length", -1)]), Counting()
)
STUBS = {shape: getattr(CHANNEL, shape)(f"/shop.Orders/{shape}") for shape in SHAPES}


def identity() -> bytes:
    """An id that no other call has."""
    return f"{threading.get_ident()}-{next(NUMBERS)}".encode()


def call(shape: str) -> list[str]:
    """One call; returns who answered."""
    request = identity() if shape.startswith("unary") else iter([identity()])
    answer = STUBS[shape](request, timeout=20)
    return [one.decode() for one in ([answer] if shape.endswith("_unary") else answer)]


class Load:
    """Threads that call without pause."""

    def __init__(self, threads: int) -> None:
        self.made = 0
        self.failed = []
        self.who = collections.Counter()
        self._over = threading.Event()
        self._pool = futures.ThreadPoolExecutor(threads)
        self._running = [self._pool.submit(self._run, SHAPES[number % 4]) for number in range(threads)]

    def _run(self, shape: str) -> None:
        while not self._over.is_set():
            self.made += 1
            try:
                self.who.update(call(shape))
            except grpc.RpcError as error:
                self.failed.append(f"{shape}: {error.code()}: {error.details()}")

    def rest(self) -> dict:
        """Stops; returns what happened."""
        self._over.set()
        for one in self._running:
            one.result()
        return {"failed": self.failed[:5], "who": self.who}


def main() -> None:
    """Obeys until standard input ends."""
    print(
        json.dumps({"argv": sys.argv[1:], "name": __name__, "threads": [one.name for one in threading.enumerate()]}),
        flush=True,
    )
    stream = load = None
    asked = queue.SimpleQueue()
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "each":
            answer = {shape: call(shape) for shape in SHAPES}
        elif word == "stream":
            stream = STUBS["stream_stream"](iter(asked.get, None), timeout=60)
            answer = None
        elif word == "next":
            asked.put(identity())
            answer = next(stream).decode()
        elif word == "end":
            asked.put(None)
            answer = [one.decode() for one in stream]
        elif word == "load":
            load, answer = Load(int(rest)), None
        elif word == "rest":
            answer = load.rest()
        elif word == "seen":
            answer = SEEN["calls"]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
