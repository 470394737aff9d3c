"""A server under `meshsdk.serve` whose going online and offline is told by one argument of JSON (see `DEFAULTS`).

Prints its port and its health address when it has started. `Get` answers with the call's id; with a `backend` it asks
that one first, every tenth call after a while. `ending`: `wait` waits for the service, `exit` has a SIGTERM handler of
the application's own that calls sys.exit, `fall` leaves main without a word when a line comes on standard input.
On the way out it prints a JSON line with how often each call id was executed at most and how many there were.
"""

from __future__ import annotations

import asyncio
import atexit
import collections
import json
import signal
import sys
import threading
import time
from concurrent import futures

import grpc
import grpc.aio

import meshsdk
import meshsdk.aio
from meshsdk.lifecycle.drain import DrainTiming

DEFAULTS = {
    "kind": "sync",
    "app": "orders",
    "port": 0,
    "reuse": 0,  # SO_REUSEPORT
    "drain": {"quiet": 0.5},
    "backend": "",
    "ending": "wait",
    "serve": {},  # further arguments of serve
    "threads": 8,
    "answer": "",  # "port": which server it was, instead of the call's id
}
LEDGER: collections.Counter[bytes] = collections.Counter()
METHOD = "/shop.Orders/Get"


def slow(request: bytes) -> float:
    """Seconds that a call takes before it asks the backend."""
    if request.startswith(b"-"):
        return 60.0
    return 0.3 if int(request) % 10 == 0 else 0.002


PORT: list[int] = []  # once it is known


def answered(setup, request: bytes) -> bytes:
    """The answer of a server without a backend."""
    return str(PORT[0]).encode() if setup["answer"] == "port" else request


def handlers(handler):
    """The service of one method."""
    return (grpc.method_handlers_generic_handler("shop.Orders", {"Get": grpc.unary_unary_rpc_method_handler(handler)}),)


def options(setup):
    """The server's channel arguments."""
    return (("grpc.so_reuseport", setup["reuse"]),)


def arguments(setup, port):
    """The arguments of serve."""
    return {
        "app": setup["app"],
        "address": f"127.0.0.1:{port}",
        "drain": DrainTiming(**setup["drain"]),
        **setup["serve"],
    }


def run_threads(setup) -> None:
    """The program for threads."""
    channel = meshsdk.channel(setup["backend"]) if setup["backend"] else None
    ask = channel.unary_unary(METHOD) if channel else None

    def get(request, context):
        LEDGER[request] += 1
        time.sleep(slow(request))
        return ask(request, timeout=10) if ask else answered(setup, request)

    if setup["ending"] == "exit":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    pool = futures.ThreadPoolExecutor(setup["threads"])
    server = grpc.server(pool, interceptors=meshsdk.server_interceptors(), options=options(setup))
    server.add_generic_rpc_handlers(handlers(get))
    port = server.add_insecure_port(f"127.0.0.1:{setup['port']}")
    PORT.append(port)
    service = meshsdk.serve(server, **arguments(setup, port))
    print(port, service.health_address)
    threading.Thread(target=read_words, args=(service.ready, service.drain), daemon=True).start()
    if setup["ending"] == "fall":
        FALL.wait()
    elif setup["ending"] == "exit":
        while True:
            signal.pause()
    else:
        service.wait()


async def run_asyncio(setup) -> None:
    """The program for asyncio."""
    channel = meshsdk.aio.channel(setup["backend"]) if setup["backend"] else None
    ask = channel.unary_unary(METHOD) if channel else None

    async def get(request, context):
        LEDGER[request] += 1
        await asyncio.sleep(slow(request))
        return await ask(request, timeout=10) if ask else answered(setup, request)

    if setup["ending"] == "exit":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = grpc.aio.server(interceptors=meshsdk.aio.server_interceptors(), options=options(setup))
    server.add_generic_rpc_handlers(handlers(get))
    port = server.add_insecure_port(f"127.0.0.1:{setup['port']}")
    PORT.append(port)
    async with meshsdk.aio.serve(server, **arguments(setup, port)) as service:
        print(port, service.health_address)
        loop = asyncio.get_running_loop()
        ready = lambda: loop.call_soon_threadsafe(service.ready)  # noqa: E731
        threading.Thread(target=read_words, args=(ready, None), daemon=True).start()
        await service.wait()


FALL = threading.Event()


def read_words(ready, _drain) -> None:
    """Obeys the test's words."""
    for line in sys.stdin:
        if line.strip() == "ready":
            ready()
        elif line.strip() == "fall":
            FALL.set()


def tell() -> None:
    """Prints the ledger."""
    print(json.dumps({"calls": sum(LEDGER.values()), "most": max(LEDGER.values(), default=0)}))


def main() -> None:
    """Runs until it has drained."""
    atexit.register(tell)
    setup = {**DEFAULTS, **json.loads(sys.argv[1])}
    if setup["kind"] == "sync":
        run_threads(setup)
    else:
        asyncio.run(run_asyncio(setup))


if __name__ == "__main__":
    main()
