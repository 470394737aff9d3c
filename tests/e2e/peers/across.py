"""A gRPC server, or a caller under way, for programs that run in network namespaces: no mesh in either.

`serve ADDRESS NAME`: answers each call with NAME and the caller's IP address; counts the ids it was sent.
`call ADDRESS AUTHORITY`: threads that call without pause, on lasting connections and on new ones. A line on standard
input is answered by a line of JSON: what happened since the line before.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
from collections import Counter
from concurrent import futures

import grpc


class Server(grpc.GenericRpcHandler):
    """Thread-safe by the atomicity of `list.append`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[bytes] = []

    def service(self, _call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """As grpc asks."""
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.seen.append(request)
        return f"{self.name} {context.peer().split(':')[1]}".encode()


def serve(address: str, name: str) -> None:
    """Serves until standard input ends."""
    handler = Server(name)
    server = grpc.server(futures.ThreadPoolExecutor(16), [handler])
    server.add_insecure_port(address)
    server.start()
    print("ready", flush=True)
    for _line in sys.stdin:
        counts = Counter(handler.seen)
        doubled = [one.decode() for one, count in counts.items() if count > 1]
        print(json.dumps({"calls": len(counts), "doubled": doubled}), flush=True)


class Caller:
    """Calls in threads. `_lock` guards the results."""

    def __init__(self, address: str, authority: str) -> None:
        self._address = address
        self._options = [("grpc.default_authority", authority), ("grpc.use_local_subchannel_pool", 1)]
        self._lock = threading.Lock()
        self._answers: Counter[str] = Counter()
        self._failed: list[str] = []
        self._numbers = itertools.count()

    def start(self) -> None:
        """Starts the threads: two with a connection that lasts, one with a new one for each call."""
        for lasting in (True, True, False):
            threading.Thread(target=self._run, args=(lasting,), daemon=True).start()

    def report(self) -> str:
        """Returns the results since the last report."""
        with self._lock:
            words = json.dumps({"answers": dict(self._answers), "failed": self._failed})
            self._answers, self._failed = Counter(), []
            return words

    def _run(self, lasting: bool) -> None:
        channel = grpc.insecure_channel(self._address, self._options)
        while True:
            if not lasting:
                channel.close()
                channel = grpc.insecure_channel(self._address, self._options)
            name = f"{os.getpid()}-{next(self._numbers)}"
            try:
                answer = channel.unary_unary("/shop.Orders/Get")(name.encode(), 20).decode()
                with self._lock:
                    self._answers[answer] += 1
            except grpc.RpcError as error:
                with self._lock:
                    self._failed.append(f"{error.code()}: {error.details()}")
            time.sleep(0.02)


def call(address: str, authority: str) -> None:
    """Calls until standard input ends."""
    caller = Caller(address, authority)
    caller.start()
    print("ready", flush=True)
    for _line in sys.stdin:
        print(caller.report(), flush=True)


def load_everything() -> None:
    """Makes one call to itself: what is imported when it is first needed, another user could not read."""
    server = grpc.server(futures.ThreadPoolExecutor(1), [Server("itself")])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        channel.unary_unary("/shop.Orders/Get")(b"", 20)
    server.stop(0).wait()


def main() -> None:
    """The first word may be `--uid N`: another user than the shim's."""
    words = sys.argv[1:]
    if words[0] == "--uid":
        load_everything()
        os.setgroups([])
        os.setgid(int(words[1]))
        os.setuid(int(words[1]))
        words = words[2:]
    {"serve": serve, "call": call}[words[0]](*words[1:])


main()
